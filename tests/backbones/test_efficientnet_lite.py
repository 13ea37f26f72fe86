"""EfficientNet-Lite against the published network written out in float64; padding, colours, sizes and gradients."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from efficientnet_oracle import Published, same, symmetric
from quick import drawn

from vitjax import backbones
from vitjax.backbones.efficientnet_lite import EfficientNetLite, efficientnet_lite0, rim
from vitjax.classification.classifier import Classifier
from vitjax.errors import FieldError
from vitjax.families.efficientnet_lite import TIMM
from vitjax.families.model_file import shapes_of
from vitjax.formats.tables import to_published
from vitjax.ops.images import DEVIATION, MEAN
from vitjax.structs import Images

PARAMETERS = (4_652_008, 5_416_680, 6_092_072, 8_197_096, 13_006_568)
THIN = {"width": 0.25, "depth": 0.5}
SIZES, BUCKET = [(50, 71), (33, 96)], (64, 96)


@functools.cache
def variables_of(model):
    return drawn(shapes_of(model))


@functools.cache
def compiled(model, padding="exact"):
    run = jax.jit(lambda variables, images: model.apply(variables, images, padding=padding))
    return lambda images: jax.device_get(run(variables_of(model), images))


def seen(raw):
    """Bytes as the product hands them to a model, and as the published code does."""
    house = (raw.astype(np.float32) / 255 - MEAN) / DEVIATION
    return house, (raw.astype(np.float64) - 127) / 128


def raw(*sizes, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 256, (*size, 3), np.uint8) for size in sizes]


def alone(picture):
    return Images(seen(picture)[0][None], np.ones((1, *picture.shape[:2]), bool))


def padded(pictures, value=7.0):
    """The pictures in the top left of one bucket, beside garbage."""
    pixels = np.full((len(pictures), *BUCKET, 3), value, np.float32)
    valid = np.zeros((len(pictures), *BUCKET), bool)
    for i, picture in enumerate(pictures):
        height, width = picture.shape[:2]
        pixels[i, :height, :width], valid[i, :height, :width] = seen(picture)[0], True
    return Images(pixels, valid)


def published(model):
    """The network with the same weights, written out."""
    variables = {name: {"backbone": tree} for name, tree in variables_of(model).items()}
    own = model.code == "torch"
    tensors = to_published(variables, table=TIMM)
    return Published(tensors, epsilon=1e-5 if own else 1e-3, pads=symmetric if own else same)


@pytest.mark.parametrize("size", [(64, 96), (57, 75)])
@pytest.mark.parametrize("code", ["tensorflow", "torch"])
def test_features_are_those_of_the_published_network_of_any_size(code, size):
    model = EfficientNetLite(**THIN, head=True, code=code)
    (picture,) = raw(size)
    house, theirs = seen(picture)
    net, pixels = published(model), theirs if code == "tensorflow" else house
    found = compiled(model, "reference")(alone(picture))
    for feature, wanted in zip(found, [*net.features(pixels)[:3], net.head(pixels)], strict=True):
        np.testing.assert_allclose(feature.values[0], wanted, rtol=2e-4, atol=2e-4 * np.abs(wanted).max())
    assert [feature.values.shape[1] for feature in found] == [-(-size[0] // stride) for stride in (4, 8, 16, 32)]


@pytest.mark.parametrize("number", [0, 3])
def test_a_whole_size_is_the_published_network(number):
    model = getattr(backbones, f"efficientnet_lite{number}")()
    (picture,) = raw((32, 32))
    for feature, wanted in zip(
        compiled(model)(alone(picture)), published(model).features(seen(picture)[1]), strict=True
    ):
        np.testing.assert_allclose(feature.values[0], wanted, rtol=2e-4, atol=2e-4 * np.abs(wanted).max())


def test_a_size_that_strides_divide_is_the_same_exact_and_as_published():
    model = EfficientNetLite(**THIN)
    exact, reference = (compiled(model, padding)(alone(raw((64, 96))[0])) for padding in ("exact", "reference"))
    for ours, theirs in zip(exact, reference, strict=True):
        np.testing.assert_allclose(ours.values, theirs.values, atol=1e-5)


@pytest.mark.parametrize(
    ("code", "norm"),
    [("tensorflow", "frozen_batch"), ("tensorflow", "group"), ("tensorflow", "batch"), ("torch", "frozen_batch")],
)
def test_a_padded_image_gives_what_it_gives_alone(code, norm):
    model = EfficientNetLite(**THIN, head=True, code=code, norm=norm)
    pictures = raw(*SIZES)
    together = compiled(model)(padded(pictures))
    for i, picture in enumerate(pictures):
        for whole, part in zip(compiled(model)(alone(picture)), together, strict=True):
            rows, columns = whole.values.shape[1:3]
            np.testing.assert_allclose(part.values[i, :rows, :columns], whole.values[0], atol=2e-5)
            np.testing.assert_array_equal(part.valid[i].nonzero(), np.ones((rows, columns)).nonzero())
            assert not part.values[i][~part.valid[i]].any()


def test_in_reference_padding_a_padded_image_is_zero_in_the_published_colours():
    model = EfficientNetLite(**THIN)
    (picture,) = raw((32, 64))
    framed = np.zeros((*BUCKET, 3))
    framed[:32, :64] = seen(picture)[1]
    maps = published(model).features(framed)
    found = compiled(model, "reference")(padded([picture]))
    for feature, wanted in zip(found, maps, strict=True):
        np.testing.assert_allclose(feature.values[0], wanted, rtol=2e-4, atol=2e-4 * np.abs(wanted).max())


@pytest.mark.parametrize("number", range(5))
def test_every_size_has_the_published_number_of_parameters(number):
    backbone = getattr(backbones, f"efficientnet_lite{number}")(head=True, norm="batch")
    shapes = shapes_of(Classifier(backbone, num_classes=1000, norm=False))
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes["params"])) == PARAMETERS[number]
    assert backbone.title == f"EfficientNet-Lite{number}"


def test_rims_are_those_of_tensorflow_and_begin_alike_for_all_sides():
    for length in range(1, 40):
        for kernel, stride in ((3, 1), (3, 2), (5, 1), (5, 2)):
            before, after = rim("anchored", length, kernel, stride)
            assert (length + before + after - kernel) // stride + 1 == -(-length // stride)
            assert before == (kernel - stride) // 2 and after >= 0
            assert rim("centred", length, kernel, stride) == same(length, kernel, stride)


def test_gradients_of_what_learns_are_those_of_differences():
    model = EfficientNetLite(**THIN, norm="batch")
    images, variables = jax.tree.map(jnp.asarray, padded(raw(*SIZES))), variables_of(model)

    @jax.jit
    def loss(params):
        features, _ = model.apply({**variables, "params": params}, images, train=True, mutable=["batch_stats"])
        return sum(jnp.square(feature.values).mean() for feature in features)

    params, slope = variables["params"], jax.jit(jax.grad(loss))(variables["params"])

    def moved(part, step):
        """The loss where one part has gone so far uphill."""
        return loss({**params, part: jax.tree.map(lambda w, g: w + step * g, params[part], slope[part])})

    for part in ("stem_conv", "stage_1", "stage_2", "stage_5", "stage_7"):
        size = np.sqrt(sum(np.square(leaf).sum() for leaf in jax.tree.leaves(slope[part])))
        step = 1e-3 / size  # smaller steps cross fewer of the corners of ReLU6
        difference = (moved(part, step) - moved(part, -step)) / (2 * step)
        np.testing.assert_allclose(difference, size**2, rtol=0.03, err_msg=part)


def test_statistics_are_learned_of_valid_pixels_only_and_frozen_ones_stay():
    pictures = raw(*SIZES)
    model = EfficientNetLite(**THIN, norm="batch")
    run = jax.jit(lambda images: model.apply(variables_of(model), images, train=True, mutable=["batch_stats"])[1])
    stats = [run(padded(pictures, value)) for value in (0.0, 9.0)]
    assert jax.tree.all(jax.tree.map(np.array_equal, *stats))
    frozen = EfficientNetLite(**THIN)
    assert set(variables_of(frozen)) == {"params", "frozen"}


def test_whole_branches_are_left_out_in_training_only():
    model = EfficientNetLite(drop_path=0.9)
    images, variables = jax.tree.map(jnp.asarray, alone(raw((32, 32))[0])), variables_of(model)

    @functools.partial(jax.jit, static_argnames="train")
    def run(key, train):
        return model.apply(variables, images, train=train, rngs={"dropout": key})[-1].values

    first, second = (run(jax.random.key(seed), train=True) for seed in (0, 1))
    assert not np.allclose(first, second)
    plain = compiled(efficientnet_lite0())(images)[-1].values
    np.testing.assert_allclose(run(jax.random.key(0), train=False), plain, atol=1e-5)


def test_half_precision_is_near():
    model = EfficientNetLite(**THIN)
    exact, half = (compiled(model.clone(dtype=dtype))(alone(raw((64, 64))[0])) for dtype in ("float32", "bfloat16"))
    assert half[0].values.dtype == jnp.bfloat16
    np.testing.assert_allclose(half[0].values.astype(np.float32), exact[0].values, atol=0.1 * exact[0].values.max())


def test_a_net_of_no_width_is_refused():
    with pytest.raises(FieldError, match=r"width and depth above 0; got 0\.0 and 1\.0"):
        shapes_of(EfficientNetLite(width=0.0))
