import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from quick import drawn

from vitjax.backbones import crossformer
from vitjax.backbones.crossformer import CrossFormer, CrossFormerBlock, drop_paths
from vitjax.ops.groups import Grouping
from vitjax.structs import Images

SIZES = [(50, 71), (21, 93)]
BUCKET = (64, 96)
THIN = CrossFormer(channels=8, depths=(1, 4), heads=(2, 2), group_sizes=(4, 3), intervals=(3, 2), cooling=True)


def whole(pixels):
    """Images without padding."""
    return Images(jnp.asarray(pixels), jnp.ones(pixels.shape[:3], bool))


def pictures(sizes=SIZES):
    generator = np.random.default_rng(3)
    return [generator.normal(size=(1, *size, 3)).astype(np.float32) for size in sizes]


def padded(images, value=0.0):
    """The images in the top left of one bucket."""
    pixels = np.full((len(images), *BUCKET, 3), value, np.float32)
    valid = np.zeros((len(images), *BUCKET), bool)
    for i, image in enumerate(images):
        height, width = image.shape[1:3]
        pixels[i, :height, :width] = image[0]
        valid[i, :height, :width] = True
    return Images(jnp.asarray(pixels), jnp.asarray(valid))


def shapes_of(model):
    return jax.eval_shape(model.init, jax.random.key(0), whole(np.zeros((1, 32, 32, 3), np.float32)))


@functools.cache
def variables():
    return drawn(shapes_of(THIN))


@functools.cache
def forward(padding="exact", long_distance="fixed"):
    model = THIN.clone(grouping=Grouping(long_distance))
    run = jax.jit(lambda images: model.apply(variables(), images, padding=padding))
    return lambda images: jax.device_get(run(images))


def features_of(model, height, width, **options):
    images = whole(np.zeros((2, height, width, 3), np.float32))
    return jax.eval_shape(lambda: model.init_with_output(jax.random.key(0), images, **options)[0])


@pytest.mark.parametrize("size", [(224, 224), (160, 96), (100, 131), (8, 8), (1, 3)], ids=str)
def test_images_of_any_size_give_maps_at_the_four_strides(size):
    wanted = [(2, *(-(-side // stride) for side in size)) for stride in (4, 8, 16, 32)]
    features = features_of(crossformer.crossformer_tiny(), *size)
    assert [feature.values.shape for feature in features] == [(*s, 64 * 2**i) for i, s in enumerate(wanted)]
    assert [feature.valid.shape for feature in features] == wanted


def test_in_reference_padding_sides_are_rounded_down_as_published():
    features = features_of(THIN, 99, 131, padding="reference")
    assert [feature.values.shape[1:3] for feature in features] == [(24, 32), (12, 16)]
    with pytest.raises(ValueError, match=r"no whole patch of 2 x 2.*padding='exact'"):
        features_of(CrossFormer(), 12, 64, padding="reference")


@pytest.mark.parametrize(
    "name, depths, cooled",
    [
        ("small", (2, 2, 6, 2), set()),
        ("pp_base", (2, 2, 18, 2), {(3, i) for i in (2, 5, 8, 11, 14)}),
        ("pp_huge", (6, 6, 18, 2), {(1, 2), (2, 2)} | {(3, i) for i in (2, 5, 8, 11, 14)}),
    ],
)
def test_cooling_layers_stand_after_every_third_block_but_not_at_the_end(name, depths, cooled):
    model = getattr(crossformer, f"crossformer_{name}")()
    params = shapes_of(model)["params"]
    found = {
        (stage, block)
        for stage, depth in enumerate(depths, start=1)
        for block in range(depth)
        if "cooling_conv" in params[f"stage_{stage}"][f"block_{block}"]
    }
    assert model.depths == depths and found == cooled


def test_a_published_size_is_changed_by_naming_fields():
    model = crossformer.crossformer_pp_small(drop_path=0.0, group_sizes=(7, 7, 7, 7), intervals=(8, 4, 2, 1))
    assert (model.channels, model.cooling, model.drop_path) == (64, True, 0.0)


@pytest.mark.parametrize("long_distance", ["fixed", "whole"])
def test_a_padded_image_gives_what_it_gives_alone(long_distance):
    """Also where a map is smaller than a group, or its sides are odd."""
    run = forward(long_distance=long_distance)
    together = run(padded(pictures()))
    for i, image in enumerate(pictures()):
        alone = run(whole(image))
        for stage, (feature, own) in enumerate(zip(together, alone, strict=True)):
            _, height, width, _ = own.values.shape
            np.testing.assert_allclose(feature.values[i, :height, :width], own.values[0], atol=1e-4, err_msg=f"{stage}")
            assert feature.valid[i, :height, :width].all() and own.valid.all()
            assert feature.valid[i].sum() == height * width and not feature.values[i][~feature.valid[i]].any()


def test_padding_leaks_as_in_the_published_code_when_asked_to():
    image = pictures([(48, 64)])
    together, alone = forward("reference")(padded(image)), forward("reference")(whole(image[0]))
    _, height, width, _ = alone[-1].values.shape
    assert np.abs(together[-1].values[0, :height, :width] - alone[-1].values[0]).max() > 1e-2


def test_without_padding_exact_and_reference_are_the_same_network():
    """Where sides are divisible and every map is larger than a group."""
    image = whole(pictures([(64, 96)])[0])
    for exact, reference in zip(forward()(image), forward("reference")(image), strict=True):
        np.testing.assert_allclose(exact.values, reference.values, atol=1e-4)
        assert exact.valid.all() and reference.valid.all()


def test_what_stands_on_padding_is_never_seen_and_has_no_gradient():
    def energy(pixels, valid):
        return sum((feature.values**2).sum() for feature in THIN.apply(variables(), Images(pixels, valid)))

    run = jax.jit(jax.value_and_grad(energy))
    clean, noisy = padded(pictures()), padded(pictures(), value=5.0)
    energy_clean, gradient = run(clean.pixels, clean.valid)
    energy_noisy, _ = run(noisy.pixels, noisy.valid)
    np.testing.assert_allclose(energy_noisy, energy_clean, rtol=1e-6)
    gradient = np.abs(gradient).max(-1)
    assert not gradient[~clean.valid].any() and (gradient[clean.valid] > 0).mean() > 0.99


def test_drop_path_acts_in_training_only_and_never_on_the_first_block():
    same = whole(np.repeat(pictures([(16, 16)])[0], 8, axis=0))

    def varies(depth, train):
        """Whether images that are the same come out differently."""
        model = CrossFormer(channels=8, depths=(depth,), heads=(2,), group_sizes=(4,), intervals=(2,), drop_path=0.5)
        rngs = {"dropout": jax.random.key(0)}
        run = jax.jit(lambda params: model.apply(params, same, train=train, rngs=rngs)[0].values)
        return np.ptp(run(drawn(shapes_of(model))), axis=0).max() > 1e-3

    assert varies(2, train=True)
    assert not varies(2, train=False) and not varies(1, train=True)


def test_activations_computed_anew_change_neither_parameters_nor_gradients():
    small = CrossFormer(channels=8, depths=(2,), heads=(2,), group_sizes=(4,), intervals=(2,), drop_path=0.5)
    images, key = whole(np.repeat(pictures([(16, 16)])[0], 4, axis=0)), jax.random.key(1)

    def loss(variables, model):
        return (model.apply(variables, images, train=True, rngs={"dropout": key})[0].values ** 2).mean()

    graded = jax.jit(jax.value_and_grad(loss), static_argnums=1)
    assert jax.tree.structure(shapes_of(small.clone(remat=True))) == jax.tree.structure(shapes_of(small))
    variables = drawn(shapes_of(small))
    plain, again = (graded(variables, small.clone(remat=remat)) for remat in (False, True))
    jax.tree.map(lambda *pair: np.testing.assert_allclose(*pair, rtol=1e-6, atol=1e-6), again, plain)


def test_the_rate_of_drop_path_rises_in_a_line():
    assert drop_paths((1, 2, 2), 0.4) == ((0.0,), pytest.approx((0.1, 0.2)), pytest.approx((0.3, 0.4)))


def test_a_block_is_attention_and_feed_forward_each_added_to_its_input():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(1, 6, 6, 32)), jnp.float32)
    block = CrossFormerBlock(heads=2, group_size=3, interval=2, long=True)
    params = drawn(jax.eval_shape(lambda: block.init(jax.random.key(0), x, train=False)))["params"]
    silent = {"kernel": np.zeros, "bias": np.zeros}
    for path in (("attention", "out"), ("feed_forward", "contract")):
        layer = params[path[0]][path[1]]
        params[path[0]][path[1]] = {name: zeros(layer[name].shape, np.float32) for name, zeros in silent.items()}
    run = jax.jit(lambda params: block.apply({"params": params}, x, train=False))
    np.testing.assert_array_equal(run(params), x)


def test_bfloat16_computes_in_it_from_float32_parameters():
    model = THIN.clone(dtype="bfloat16", cooling=False)
    shapes = shapes_of(model)
    assert {leaf.dtype for leaf in jax.tree.leaves(shapes)} == {jnp.dtype("float32")}
    values, image = drawn(shapes), whole(pictures()[0])
    found = jax.device_get(jax.jit(model.apply)(values, image))[0].values
    wanted = jax.device_get(jax.jit(model.clone(dtype="float32").apply)(values, image))[0].values
    assert found.dtype == jnp.bfloat16
    assert np.abs(found.astype(np.float32) - wanted).max() < 0.05 * np.abs(wanted).max()


def test_swins_table_of_biases_can_take_the_place_of_the_network():
    params = shapes_of(THIN.clone(position_bias="table"))["params"]
    assert params["stage_2"]["block_0"]["attention"]["position_bias"]["table"].shape == (25, 2)


def test_fields_of_unlike_length_are_refused():
    with pytest.raises(ValueError, match=r"one entry per stage.*'intervals': 3"):
        shapes_of(CrossFormer(intervals=(4, 2, 1)))
