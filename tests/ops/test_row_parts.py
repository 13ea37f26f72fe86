import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vitjax.ops.row_parts import in_parts

WEIGHT = jnp.asarray(np.random.default_rng(0).normal(size=(3, 2)).astype(np.float32))


def rows(count):
    return jnp.asarray(np.random.default_rng(1).normal(size=(2, count, 3)).astype(np.float32))


def of(weight, x, there, each):
    """A dict of answers; what is not there counts for nothing in their sum."""
    found = in_parts(lambda x: {"y": jnp.tanh(x @ weight), "z": jnp.square(x).sum(-1)}, (x,), there, each=each)
    total = sum(jnp.where(there.reshape(*there.shape, *[1] * (y.ndim - 2)), y, 0).sum() for y in found.values())
    return total, found


@pytest.mark.parametrize("each", [2, 3, 8])
def test_parts_give_what_all_rows_give_at_once_with_the_same_gradients(each):
    x, there = rows(7), jnp.arange(7) < jnp.array([[6], [3]])
    (_, parts), gradient = jax.jit(jax.value_and_grad(of, has_aux=True), static_argnums=3)(WEIGHT, x, there, each)
    (_, whole), wanted = jax.value_and_grad(of, has_aux=True)(WEIGHT, x, there, 7)
    for name in ("y", "z"):
        assert parts[name].shape == whole[name].shape
        np.testing.assert_allclose(parts[name][there], whole[name][there], atol=1e-6)
    np.testing.assert_allclose(gradient, wanted, atol=1e-5)


def test_parts_of_which_nothing_is_there_are_not_computed():
    x, there = rows(6), jnp.arange(6) < jnp.array([[2], [1]])
    ran = []

    def counted(x):
        jax.debug.callback(lambda: ran.append(1))
        return 1 / x

    found = jax.jit(lambda x: in_parts(counted, (x,), there, each=2))(x.at[:, 2:].set(0))
    jax.effects_barrier()
    assert len(ran) == 1 and np.isfinite(found).all() and not found[:, 2:].any()


def test_of_no_rows_there_is_nothing():
    total, found = of(WEIGHT, rows(0), jnp.zeros((2, 0), bool), 4)
    assert total == 0 and found["y"].shape == (2, 0, 2) and found["z"].shape == (2, 0)
