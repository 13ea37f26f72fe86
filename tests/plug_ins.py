"""What attention that can be put into a network is asked in the same words: oracle, padding, start, gradients."""

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
from quick import drawn

CHANNELS = 16
SPACE, PART = (5, 6), (3, 4)  # of the whole map, and of the image in it that is padded
GARBAGE = 30.0


def maps(space: tuple[int, ...] = SPACE, part: tuple[int, ...] = PART) -> tuple[jax.Array, jax.Array]:
    """Two maps and their valid places: the first is all image, the second holds garbage around a smaller one."""
    image = np.random.default_rng(1).normal(size=(2, *space, CHANNELS)).astype(np.float32)
    valid = np.zeros((2, *space), bool)
    valid[0] = valid[1][tuple(slice(side) for side in part)] = True
    return jnp.asarray(np.where(valid[..., None], image, np.float32(GARBAGE))), jnp.asarray(valid)


@functools.cache
def variables_of(module: Any) -> Any:
    """Variables of a module for maps of `CHANNELS`, none of them neutral."""
    x = jax.ShapeDtypeStruct((1, *SPACE, CHANNELS), jnp.float32)
    made = dict(jax.eval_shape(lambda x: module.init(jax.random.key(0), x), x))
    return drawn({name: tree for name, tree in made.items() if name != "intermediates"})


@functools.cache
def compiled(module: Any) -> Callable[..., Any]:
    """(variables, x, valid) to the output and to what was sown."""

    @jax.jit
    def run(variables: Any, x: jax.Array, valid: jax.Array) -> Any:
        y, sown = module.apply(variables, x, valid, mutable="intermediates")
        return y, sown["intermediates"]

    return run


def run(module: Any, x: jax.Array, valid: jax.Array, variables: Any = None) -> Any:
    """Output and sown arrays with drawn variables."""
    return compiled(module)(variables_of(module) if variables is None else variables, x, valid)


def require_as_alone(module: Any, reference: Callable[..., np.ndarray], atol: float = 2e-5) -> Any:
    """Each image of a padded pair gives what `reference(float64 image, float64 variables)` gives, padding gives zero.

    Returns what was sown.
    """
    x, valid = maps()
    y, sown = run(module, x, valid)
    wide = jax.tree.map(np.float64, variables_of(module))
    rows, columns = PART
    np.testing.assert_allclose(y[0], reference(np.float64(x[0]), wide), atol=atol)
    np.testing.assert_allclose(y[1, :rows, :columns], reference(np.float64(x[1, :rows, :columns]), wide), atol=atol)
    assert not np.asarray(y)[~valid].any()
    return sown


def require_identity_start(module: Any) -> None:
    """Fresh parameters leave the map as it is, to the bit."""
    assert type(module).place == "stage" and type(module).starts_as_identity
    x, valid = maps()
    quick_key = jax.random.key(0, impl="unsafe_rbg")  # the usual generator takes seconds to compile
    y, variables = jax.jit(module.init_with_output)(quick_key, x)
    np.testing.assert_array_equal(y, x)
    moved = jax.tree.map(lambda value: value + np.float32(0.3), variables["params"])
    changed, _ = run(module, x, valid, {**variables, "params": moved})
    assert np.abs(changed - x).max(where=np.asarray(valid)[..., None], initial=0) > 1e-3


def require_gradients_in_bfloat16(module: Any) -> None:
    """Compiled in bfloat16: close to float32, the map stays in its dtype, all gradients are finite and float32."""
    x, valid = maps()
    x = jnp.where(valid[..., None], x, 0)
    low = module.clone(dtype="bfloat16")

    def loss(variables: Any, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        y = low.apply(variables, x, valid, train=False)
        return jnp.square(y).sum(), y

    (_, y), gradients = jax.jit(jax.value_and_grad(loss, argnums=(0, 1), has_aux=True))(variables_of(module), x)
    wanted, _ = run(module, x, valid)
    assert y.dtype == jnp.float32 and not np.array_equal(y, wanted)
    np.testing.assert_allclose(y, wanted, atol=0.03 * np.abs(wanted).max())
    for gradient in jax.tree.leaves(gradients):
        assert gradient.dtype == jnp.float32 and np.isfinite(gradient).all() and np.any(gradient)


def require_no_harm_by_padding_alone(module: Any) -> None:
    """Beside an image of nothing but padding, which gives zeros, another stays as it is, and gradients are finite."""
    x, valid = maps()

    def energy(variables: Any, x: jax.Array, valid: jax.Array) -> tuple[jax.Array, jax.Array]:
        y = module.apply(variables, x, valid)
        return jnp.square(y).sum(), y

    run = jax.jit(jax.value_and_grad(energy, argnums=(0, 1), has_aux=True))
    (_, wanted), _ = run(variables_of(module), x, valid)
    (_, y), gradients = run(variables_of(module), x, valid.at[1].set(False))
    np.testing.assert_array_equal(y[0], wanted[0])
    assert not np.any(y[1]) and all(np.isfinite(gradient).all() for gradient in jax.tree.leaves(gradients))


@contextlib.contextmanager
def refusal(message: str) -> Iterator[None]:
    """Requires a ValueError in these words; annotations are not checked, as they are not where programs run."""
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        with pytest.raises(ValueError, match=message):
            yield
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)


def shapes(tree: Any) -> dict[str, tuple[int, ...]]:
    """Shapes by path."""
    return {jax.tree_util.keystr(p, simple=True, separator="/"): leaf.shape
            for p, leaf in jax.tree_util.tree_leaves_with_path(tree)}  # fmt: skip
