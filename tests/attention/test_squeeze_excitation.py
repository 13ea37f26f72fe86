import jax
import jax.numpy as jnp
import numpy as np
import pytest
from quick import drawn

from vitjax.attention.squeeze_excitation import SqueezeExcitation

GATED = SqueezeExcitation(reduction=4)
MAP = jnp.asarray(np.random.default_rng(0).normal(size=(2, 3, 5, 8)), jnp.float32)


def variables_of(module=GATED):
    return {"params": drawn(jax.eval_shape(lambda: module.init(jax.random.key(0), MAP)))["params"]}


def test_every_channel_is_scaled_by_a_gate_that_sees_all_means():
    kernels = variables_of()["params"]
    mean = np.asarray(MAP, np.float64).mean((1, 2))
    hidden = np.maximum(mean @ kernels["squeeze"]["kernel"], 0)
    gate = 1 / (1 + np.exp(-hidden @ kernels["excite"]["kernel"]))
    found, sown = GATED.apply(variables_of(), MAP, mutable="intermediates")
    np.testing.assert_allclose(found, np.asarray(MAP) * gate[:, None, None], atol=1e-6)
    np.testing.assert_allclose(sown["intermediates"]["gate"][0], gate, atol=1e-6)


def test_without_an_excitation_every_gate_is_a_half():
    params = variables_of()["params"]
    params["excite"]["kernel"] *= 0
    np.testing.assert_allclose(GATED.apply({"params": params}, MAP), MAP / 2)


def test_a_padded_map_gives_what_it_gives_alone():
    padded, valid = np.full((2, 6, 7, 8), 9.0, np.float32), np.zeros((2, 6, 7), bool)
    padded[:, :3, :5], valid[:, :3, :5] = MAP, True
    found = GATED.apply(variables_of(), jnp.asarray(padded), jnp.asarray(valid))
    np.testing.assert_allclose(found[:, :3, :5], GATED.apply(variables_of(), MAP), atol=1e-6)
    assert not found[~valid].any()


def test_the_hidden_layer_never_vanishes():
    shapes = jax.eval_shape(lambda: SqueezeExcitation().init(jax.random.key(0), MAP))["params"]
    assert {name: leaf["kernel"].shape for name, leaf in shapes.items()} == {"squeeze": (8, 1), "excite": (1, 8)}


def test_a_reduction_below_one_is_refused():
    with pytest.raises(ValueError, match="reduction of at least 1; got reduction=0"):
        variables_of(SqueezeExcitation(reduction=0))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_it_computes_in_the_dtype_of_the_map_and_has_gradients(dtype):
    module, x = SqueezeExcitation(4, dtype=dtype), MAP.astype(dtype)
    run = jax.jit(jax.value_and_grad(lambda params: module.apply({"params": params}, x).astype(jnp.float32).sum()))
    value, gradients = run(variables_of()["params"])
    assert module.apply(variables_of(), x).dtype == x.dtype
    assert np.isfinite(value) and all(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(gradients))
