import jax
import jax.numpy as jnp
import numpy as np
import pytest
from plug_ins import (
    CHANNELS,
    PART,
    SPACE,
    maps,
    require_as_alone,
    require_gradients_in_bfloat16,
    require_identity_start,
    run,
    shapes,
    variables_of,
)

from vitjax.attention.criss_cross import CrissCrossAttention


def masked_full_attention(x, params):
    """One pass: attention over all pixels, of which only those of the same row or column count, each once."""
    height, width, channels = x.shape
    project = {n: x.reshape(-1, channels) @ params[n]["kernel"] + params[n]["bias"] for n in ("query", "key", "value")}
    mixed = np.zeros((height * width, channels))
    for i, j in np.ndindex(height, width):
        weights = np.zeros(height * width)
        for k, m in np.ndindex(height, width):
            if i == k or j == m:
                weights[k * width + m] = np.exp(project["query"][i * width + j] @ project["key"][k * width + m])
        mixed[i * width + j] = weights / weights.sum() @ project["value"]
    return x + params["gamma"] * mixed.reshape(x.shape)


@pytest.mark.parametrize("passes", [1, 2], ids="passes={}".format)
def test_it_is_full_attention_masked_to_a_cross_as_often_as_there_are_passes(passes):
    def reference(x, variables):
        for _ in range(passes):
            x = masked_full_attention(x, variables["params"])
        return x

    sown = require_as_alone(CrissCrossAttention(passes), reference)
    assert len(sown["attention"]) == passes


def test_weights_are_those_of_the_column_without_the_pixel_and_then_of_the_row():
    x, valid = maps()
    _, sown = run(CrissCrossAttention(1), x, valid)
    weights = np.asarray(sown["attention"][0])
    assert weights.shape == (2, *SPACE, sum(SPACE)) and weights.dtype == np.float32
    np.testing.assert_allclose(weights.sum(-1), 1, atol=1e-6)
    image = weights[1, : PART[0], : PART[1]]
    column, row = np.split(image, [SPACE[0]], axis=-1)
    assert not column[:, :, PART[0] :].any() and not row[:, :, PART[1] :].any()
    assert not column[np.arange(PART[0]), :, np.arange(PART[0])].any()
    assert np.count_nonzero(image) == PART[0] * PART[1] * (PART[0] + PART[1] - 1)


@pytest.mark.parametrize("passes", [1, 2], ids="passes={}".format)
def test_one_pass_sees_a_cross_and_two_see_everything(passes):
    height, width = 3, 4
    x = np.random.default_rng(0).normal(size=(1, height, width, CHANNELS)).astype(np.float32)
    module = CrissCrossAttention(passes)
    jacobian = jax.jit(jax.jacrev(lambda x: module.apply(variables_of(module), x)[0].sum(-1)))(x)[:, :, 0]
    seen = np.abs(jacobian).max(-1) > 0
    i, j, k, m = np.indices(seen.shape)
    np.testing.assert_array_equal(seen, (i == k) | (j == m) if passes == 1 else np.ones_like(seen))


def temporary_bytes(side, *, gradients):
    """What a map of side x side pixels takes besides its inputs and outputs; it is compiled and not run.

    What a compiler fuses is not counted, which may be much of a forward pass; gradients need the weights.
    """
    module, x = CrissCrossAttention(), jax.ShapeDtypeStruct((1, side, side, 8), jnp.float32)
    variables = jax.eval_shape(lambda x: {"params": module.init(jax.random.key(0), x)["params"]}, x)

    def energy(variables, x):
        return module.apply(variables, x).sum()

    run = jax.grad(energy, argnums=(0, 1)) if gradients else module.apply
    return jax.jit(run).lower(variables, x).compile().memory_analysis().temp_size_in_bytes


@pytest.mark.parametrize("gradients", [False, True], ids=["forward", "gradients"])
def test_memory_grows_with_height_plus_width_per_pixel(gradients):
    small, large = (temporary_bytes(side, gradients=gradients) for side in (64, 128))
    assert large / small < 9.5  # twice the side: 4 times the pixels with twice the weights; with all pairs it is 16
    assert large < 128**4 * 4 / 6  # one float32 for every pair of pixels is 1 GiB


def test_it_starts_as_identity():
    require_identity_start(CrissCrossAttention(1))


def test_gradients_in_bfloat16():
    require_gradients_in_bfloat16(CrissCrossAttention(1))


def test_passes_share_one_set_of_parameters():
    wanted = {"gamma": (1,), "query/kernel": (16, 2), "query/bias": (2,), "key/kernel": (16, 2), "key/bias": (2,),
              "value/kernel": (16, 16), "value/bias": (16,)}  # fmt: skip
    assert shapes(variables_of(CrissCrossAttention(3))["params"]) == wanted
    assert shapes(variables_of(CrissCrossAttention(key_channels=5))["params"])["key/kernel"] == (16, 5)


def test_less_than_one_pass_is_refused():
    with pytest.raises(ValueError, match="at least one pass; got passes=0"):
        jax.eval_shape(lambda x: CrissCrossAttention(0).init(jax.random.key(0), x), maps()[0])
