import functools
import math
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util
from jax import lax
from quick import drawn

from vitjax.attention.self_attention import SelfAttention
from vitjax.attention.squeeze_excitation import SqueezeExcitation
from vitjax.backbones.resnet import ResNet, _sum_relu
from vitjax.structs import Images

SIZES = [(50, 71), (33, 96)]
BUCKET = (64, 96)
THIN = {
    "basic": ResNet(depth=18, width=4, stage_blocks=(2, 2, 1)),
    "bottleneck": ResNet(depth=50, width=4, stage_blocks=(2, 2, 2)),
    "dilated": ResNet(depth=50, width=4, stage_blocks=(1, 3), dilation=True),
    "group norm": ResNet(depth=18, width=4, stage_blocks=(1, 2), norm="group"),
    "batch norm": ResNet(depth=18, width=4, stage_blocks=(1, 1), norm="batch"),
    "small stem": ResNet(depth=20, stem="small", width=4, stage_blocks=(1, 1)),
    "gated": ResNet(depth=18, width=4, stage_blocks=(1, 2), attention=SqueezeExcitation(2), attention_stages=(2,)),
}


def whole(pixels):
    """Images without padding."""
    return Images(pixels, np.ones(pixels.shape[:3], bool))


def pictures(sizes=SIZES):
    generator = np.random.default_rng(3)
    return [generator.normal(size=(1, *size, 3)).astype(np.float32) for size in sizes]


def padded(images, value=0.0, bucket=BUCKET):
    """The images in the top left of one bucket."""
    pixels = np.full((len(images), *bucket, 3), value, np.float32)
    valid = np.zeros((len(images), *bucket), bool)
    for i, image in enumerate(images):
        height, width = image.shape[1:3]
        pixels[i, :height, :width] = image[0]
        valid[i, :height, :width] = True
    return Images(pixels, valid)


def shapes_of(model):
    return jax.eval_shape(model.init, jax.random.key(0), whole(np.zeros((1, 32, 32, 3), np.float32)))


@functools.cache
def variables_of(name):
    return drawn(shapes_of(THIN[name]))


@functools.cache
def forward(name, padding="exact"):
    run = jax.jit(lambda variables, images: THIN[name].apply(variables, images, padding=padding))
    return lambda variables, images: jax.device_get(run(variables, images))


def unrolled(variables, x, *, blocks, bottleneck, dilated):
    """The published network, written out for images without padding; one feature map per stage."""
    params, frozen = (traverse_util.flatten_dict(variables[name], sep="/") for name in ("params", "frozen"))

    def layer(x, conv, norm, stride=1, dilation=1):
        kernel = params[f"{conv}/kernel"]
        pad = dilation * (kernel.shape[0] // 2)
        x = lax.conv_general_dilated(
            x,
            kernel,
            (stride, stride),
            [(pad, pad)] * 2,
            rhs_dilation=(dilation, dilation),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
        scale, bias, mean, var = (frozen[f"{norm}/{name}"] for name in ("scale", "bias", "mean", "var"))
        return (x - mean) / jnp.sqrt(var + 1e-5) * scale + bias

    x = jax.nn.relu(layer(x, "stem_conv", "stem_norm", 2))
    x = lax.reduce_window(x, -jnp.inf, lax.max, (1, 3, 3, 1), (1, 2, 2, 1), [(0, 0), (1, 1), (1, 1), (0, 0)])
    features = []
    for stage, count in enumerate(blocks):
        dilate = dilated and stage == len(blocks) - 1
        for block in range(count):
            at = f"stage_{stage + 1}/block_{block}"
            stride = 2 if block == 0 and stage > 0 and not dilate else 1
            dilation = 2 if dilate and block > 0 else 1
            spatial = {"stride": stride, "dilation": dilation}
            y = jax.nn.relu(layer(x, f"{at}/conv_1", f"{at}/norm_1", **({} if bottleneck else spatial)))
            y = layer(y, f"{at}/conv_2", f"{at}/norm_2", **(spatial if bottleneck else {"dilation": dilation}))
            if bottleneck:
                y = layer(jax.nn.relu(y), f"{at}/conv_3", f"{at}/norm_3")
            if f"{at}/shortcut_conv/kernel" in params:
                x = layer(x, f"{at}/shortcut_conv", f"{at}/shortcut_norm", stride)
            x = jax.nn.relu(x + y)
        features.append(x)
    return features


@pytest.mark.parametrize("dilation", [False, True], ids=["plain", "dc5"])
@pytest.mark.parametrize("depth, expansion", [(18, 1), (34, 1), (50, 4), (101, 4)])
def test_features_have_the_published_strides_and_channels(depth, expansion, dilation):
    model, images = ResNet(depth=depth, dilation=dilation), whole(np.zeros((2, 224, 224, 3), np.float32))
    features, _ = jax.eval_shape(model.init_with_output, jax.random.key(0), images)
    sides = [56, 28, 14, 14 if dilation else 7]
    wanted = [(2, side, side, 64 * 2**i * expansion) for i, side in enumerate(sides)]
    assert [feature.values.shape for feature in features] == wanted
    assert [feature.valid.shape for feature in features] == [shape[:3] for shape in wanted]


@pytest.mark.parametrize("name", ["basic", "bottleneck", "dilated"])
def test_the_network_is_the_published_one_written_out(name):
    """With stride on the 3x3 convolution, torch's padding, and a dilated stage whose first block is not dilated."""
    model, image = THIN[name], pictures()[0]
    details = {"blocks": model.stage_blocks, "bottleneck": model.depth >= 50, "dilated": model.dilation}
    wanted = jax.jit(functools.partial(unrolled, **details))(variables_of(name), image)
    for feature, values in zip(forward(name)(variables_of(name), whole(image)), wanted, strict=True):
        np.testing.assert_allclose(feature.values, values, atol=1e-4)


@pytest.mark.parametrize("name", THIN)
def test_a_padded_image_gives_what_it_gives_alone(name):
    together = forward(name)(variables_of(name), padded(pictures()))
    for i, image in enumerate(pictures()):
        alone = forward(name)(variables_of(name), whole(image))
        for stage, (feature, own) in enumerate(zip(together, alone, strict=True)):
            _, height, width, _ = own.values.shape
            np.testing.assert_allclose(feature.values[i, :height, :width], own.values[0], atol=1e-5, err_msg=f"{stage}")
            assert feature.valid[i, :height, :width].all() and own.valid.all()
            assert feature.valid[i].sum() == height * width and not feature.values[i][~feature.valid[i]].any()


def test_padding_leaks_as_in_the_published_code_when_asked_to():
    together = forward("basic", "reference")(variables_of("basic"), padded(pictures()))
    alone = forward("basic", "reference")(variables_of("basic"), whole(pictures()[0]))
    _, height, width, _ = alone[-1].values.shape
    difference = np.abs(together[-1].values[0, :height, :width] - alone[-1].values[0])
    assert difference.max() > 1e-2
    exact = forward("basic")(variables_of("basic"), padded(pictures()))
    for feature, other in zip(together, exact, strict=True):
        np.testing.assert_array_equal(feature.valid, other.valid)


def test_what_stands_on_padding_is_never_seen_and_has_no_gradient():
    def energy(pixels, valid):
        features = THIN["basic"].apply(variables_of("basic"), Images(pixels, valid))
        return sum((feature.values**2).sum() for feature in features)

    run = jax.jit(jax.value_and_grad(energy))
    clean, noisy = padded(pictures()), padded(pictures(), value=5.0)
    energy_clean, gradient = run(clean.pixels, clean.valid)
    energy_noisy, _ = run(noisy.pixels, noisy.valid)
    np.testing.assert_allclose(energy_noisy, energy_clean, rtol=1e-6)
    gradient = np.abs(gradient).max(-1)
    assert not gradient[~clean.valid].any() and (gradient[clean.valid] > 0).mean() > 0.99


def test_batch_norms_train_on_what_is_no_padding():
    model, variables = THIN["batch norm"], variables_of("batch norm")

    def statistics(images):
        return model.apply(variables, images, train=True, mutable=["batch_stats"])[1]["batch_stats"]

    run = jax.jit(statistics)
    after, roomy = run(padded(pictures())), run(padded(pictures(), value=5.0, bucket=(80, 128)))
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5), after, roomy)
    kernel, old = variables["params"]["stem_conv"]["kernel"], variables["batch_stats"]["stem_norm"]
    layout = {"padding": [(3, 3), (3, 3)], "dimension_numbers": ("NHWC", "HWIO", "NHWC")}
    alone = [lax.conv_general_dilated(image, kernel, (2, 2), **layout) for image in pictures()]
    pixels = np.concatenate([np.float64(values).reshape(-1, 4) for values in alone])
    found = after["stem_norm"]
    np.testing.assert_allclose(found["mean"], 0.9 * old["mean"] + 0.1 * pixels.mean(0), atol=1e-5)
    np.testing.assert_allclose(found["var"], 0.9 * old["var"] + 0.1 * pixels.var(0, ddof=1), rtol=1e-5)
    moved = jax.tree.map(lambda new, old: np.all(new != old), after, variables["batch_stats"])
    assert all(jax.tree.leaves(moved)) and len(jax.tree.leaves(moved)) == 2 * (1 + 2 + 3)


def test_kernels_start_with_the_spread_of_what_goes_out():
    images = whole(np.zeros((1, 32, 32, 3), np.float32))
    params = jax.jit(ResNet(depth=18, stage_blocks=(1,)).init)(jax.random.key(0), images)["params"]
    for kernel in jax.tree.leaves(params):
        wanted = math.sqrt(2 / (kernel.shape[0] * kernel.shape[1] * kernel.shape[3]))
        np.testing.assert_allclose(kernel.std(), wanted, rtol=0.05)


def test_bfloat16_computes_in_it_from_float32_parameters():
    model = THIN["basic"].clone(dtype="bfloat16")
    found = jax.device_get(jax.jit(model.apply)(variables_of("basic"), whole(pictures()[0])))[-1].values
    wanted = forward("basic")(variables_of("basic"), whole(pictures()[0]))[-1].values
    assert found.dtype == jnp.bfloat16
    assert np.abs(found.astype(np.float32) - wanted).max() < 0.05 * np.abs(wanted).max()
    assert {leaf.dtype for leaf in jax.tree.leaves(shapes_of(model))} == {jnp.dtype("float32")}


@pytest.mark.parametrize("depth, published", [(20, 269_722), (32, 464_154), (56, 853_018)])
def test_the_small_stem_makes_the_networks_of_cifar(depth, published):
    """With a linear layer to ten classes; the published ones have no projections in their shortcuts."""
    model, images = (
        ResNet(depth=depth, stem="small", width=16, norm="batch"),
        whole(np.zeros((1, 32, 32, 3), np.float32)),
    )
    features, variables = jax.eval_shape(model.init_with_output, jax.random.key(0), images)
    assert [feature.values.shape[1:] for feature in features] == [(32, 32, 16), (16, 16, 32), (8, 8, 64)]
    projections = 16 * 32 + 32 * 64 + 2 * (32 + 64)
    found = sum(leaf.size for leaf in jax.tree.leaves(variables["params"])) - projections
    assert found + 64 * 10 + 10 == published


def test_gates_stand_in_every_block_of_their_stages_with_parameters_of_their_own():
    params = traverse_util.flatten_dict(variables_of("gated")["params"], sep="/")
    gates = {path.partition("/attention/")[0] for path in params if "/attention/" in path}
    assert gates == {"stage_2/block_0", "stage_2/block_1"}


class Doubling(nn.Module):
    """An attention for the test: keeps the shape and has a parameter."""

    place: ClassVar[str] = "stage"

    @nn.compact
    def __call__(self, x, valid=None, *, train=False):
        return x * self.param("factor", nn.initializers.constant(2.0), ())


def test_other_attention_stands_after_the_last_block_of_its_stages():
    plain = THIN["basic"]
    model = plain.clone(attention=Doubling(), attention_stages=(1, 3))
    variables = {**variables_of("basic"), "params": {**variables_of("basic")["params"]}}
    for stage in ("stage_1", "stage_3"):
        variables["params"][stage] = {**variables["params"][stage], "attention": {"factor": np.float32(2.0)}}
    image = whole(pictures()[0])
    found, wanted = jax.jit(model.apply)(variables, image), forward("basic")(variables_of("basic"), image)
    np.testing.assert_allclose(found[0].values, 2 * wanted[0].values, rtol=1e-5)
    assert not np.allclose(found[1].values, wanted[1].values)


@pytest.mark.parametrize(
    "model, message",
    [
        (ResNet(depth=51), "large stem has depths 18, 34, 50, 101; got depth=51"),
        (ResNet(depth=50, stem="small"), "small stem has depths 20, 32, 56; got depth=50"),
        (THIN["gated"].clone(attention_stages=(2, 3)), r"stages of the ResNet, 1 to 2; got \(2, 3\)"),
        (THIN["basic"].clone(attention_stages=(1,)), r"where attention stands, and there is none; got \(1,\)"),
        (THIN["basic"].clone(attention=SelfAttention(8, 8)), r"such as SqueezeExcitation .*; got SelfAttention"),
    ],
)
def test_what_there_is_not_is_refused_with_what_there_is(model, message):
    with pytest.raises(ValueError, match=message):
        shapes_of(model)


def ends():
    """Sums and shortcuts with equal, opposite, infinite and no numbers among them, and which of their pixels count."""
    sums, shortcuts = (np.random.default_rng(seed).normal(size=(2, 3, 5, 4)).astype(np.float32) for seed in (0, 1))
    sums[0, 0, 0], sums[0, 0, 1], sums[0, 0, 2] = -shortcuts[0, 0, 0], np.nan, np.inf
    valid = np.ones((2, 3, 5), bool)
    valid[1, 2:] = False
    return jnp.asarray(sums), jnp.asarray(shortcuts), jnp.asarray(valid)


def test_the_end_of_a_block_is_bit_for_bit_the_relu_of_the_sum():
    def plain(x, shortcut, valid):
        return jnp.where(valid[..., None], nn.relu(x + shortcut), 0)

    x, shortcut, valid = ends()
    (found, ours), (wanted, theirs) = (
        jax.vjp(lambda x, y, form=form: form(x, y, valid), x, shortcut) for form in (_sum_relu, plain)
    )
    np.testing.assert_array_equal(found, wanted)
    for one, other in zip(ours(wanted), theirs(wanted), strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_memory_of_a_forward_pass_does_not_grow_with_its_blocks():
    """It did, and the time too, when each end of a block was computed anew from those before it."""

    def memory(blocks):
        model, images = ResNet(depth=50, width=16, stage_blocks=(blocks,)), whole(jnp.zeros((1, 64, 64, 3)))
        program = jax.jit(model.apply).lower(jax.eval_shape(model.init, jax.random.key(0), images), images).compile()
        return program.memory_analysis().temp_size_in_bytes

    assert memory(6) == memory(3)
