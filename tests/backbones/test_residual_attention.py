import jax
import jax.numpy as jnp
import numpy as np
import pytest
from quick import drawn

from vitjax.backbones.residual_attention import ResidualAttentionNetwork, ran_56, ran_92_cifar
from vitjax.structs import Images

DIGITS = ResidualAttentionNetwork((1,), (0,), (8, 16), last_blocks=1, stem="cifar_pool", stem_width=4)
PLAIN = DIGITS.clone(attention_modules=(0,))
IMAGENET = ResidualAttentionNetwork((0, 0), (0, 0), (8, 12, 16), last_blocks=1, stem_width=4, norm="frozen_batch")


def images(bucket, value=0.0):
    """One picture of 27 x 22 in a bucket."""
    pixels, valid = np.full((1, *bucket, 3), value, np.float32), np.zeros((1, *bucket), bool)
    pixels[:, :27, :22] = np.random.default_rng(0).normal(size=(1, 27, 22, 3))
    valid[:, :27, :22] = True
    return Images(jnp.asarray(pixels), jnp.asarray(valid))


def initial(model, side=32):
    whole = Images(jnp.zeros((1, side, side, 3)), jnp.ones((1, side, side), bool))
    return jax.eval_shape(model.init_with_output, jax.random.key(0), whole)


def variables_of(model):
    return drawn(initial(model)[1])


@pytest.mark.parametrize(
    "make, side, parameters",
    [(ran_92_cifar, 32, 12170730), (ran_56, 224, 29782218)],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_the_published_networks_have_their_parameters_and_strides(make, side, parameters):
    """As counted in the published code with 10 classes, without the convolutions that it never uses."""
    features, variables = initial(make(), side)
    channels = features[-1].values.shape[-1]
    assert sum(leaf.size for leaf in jax.tree.leaves(variables["params"])) + 10 * channels + 10 == parameters
    strides = {ran_92_cifar: (1, 2, 4, 4), ran_56: (4, 8, 16, 32)}[make]
    assert [feature.values.shape[1:3] for feature in features] == [(side // n, side // n) for n in strides]


@pytest.mark.parametrize("model", [DIGITS, IMAGENET], ids=["digits", "imagenet"])
def test_a_padded_image_gives_what_it_gives_alone(model):
    run, variables = jax.jit(model.apply), variables_of(model)
    together, alone = run(variables, images((32, 32), value=3.0)), run(variables, images((27, 22)))
    for feature, own in zip(together, alone, strict=True):
        _, height, width, _ = own.values.shape
        np.testing.assert_allclose(feature.values[:, :height, :width], own.values, atol=1e-4)
        assert own.valid.all() and feature.valid.sum() == height * width
        assert not np.any(feature.values[~feature.valid])


def test_padding_leaks_when_asked_to():
    variables = variables_of(PLAIN)
    run = jax.jit(lambda images: PLAIN.apply(variables, images, padding="reference"))
    together, alone = run(images((32, 32)))[-1], run(images((27, 22)))[-1]
    height, width = alone.values.shape[1:3]
    assert np.abs(together.values[:, :height, :width] - alone.values).max() > 1e-2


def test_in_bfloat16_it_trains_with_statistics_of_the_image_alone():
    model, variables = DIGITS.clone(dtype="bfloat16"), variables_of(DIGITS)

    def energy(params, images):
        states = variables | {"params": params}
        features, state = model.apply(states, images, train=True, mutable=["batch_stats"])
        return (features[-1].values.astype(jnp.float32) ** 2).mean(), (features[-1], state["batch_stats"])

    run = jax.jit(jax.grad(energy, has_aux=True))
    gradients, (feature, after) = run(variables["params"], images((32, 32), value=3.0))
    assert feature.values.dtype == jnp.bfloat16
    assert all(np.isfinite(leaf).all() and np.any(leaf) for leaf in jax.tree.leaves(gradients))
    moved = jax.tree.map(lambda new, old: bool(np.all(new != old)), after, variables["batch_stats"])
    assert all(jax.tree.leaves(moved))


def test_fields_that_name_different_numbers_of_stages_are_refused():
    with pytest.raises(ValueError, match="has 1 stages, which needs as many depths"):
        initial(DIGITS.clone(depths=(1, 2)))
