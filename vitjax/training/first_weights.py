"""The variables that a model starts from, drawn without compiling a program that draws them all.

Such a program has a loop of its own for every array, and compiling it takes longer than all that it does. Here the
operations that make the variables are picked out of the trace of `init` and run one by one. Random numbers, which are
nearly all the work, come from one compiled program for each distribution, a chunk at a time.
"""

from collections.abc import Callable, Collection
from functools import cache
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.extend import random
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Var, jaxpr_as_fun

from vitjax.checkpoints.paths import flatten, unflatten
from vitjax.training.state import init

CHUNK = 2**18  # numbers that a program draws at a time
_DISTRIBUTIONS = {"_normal": jax.random.normal, "_uniform": jax.random.uniform}
"""By the names that the functions have in a trace; what has another name runs as it is, compiled for its shape."""


def first_variables(model: nn.Module, seed: int, only: Collection[str] | None = None) -> dict[str, Any]:
    """Freshly drawn variables, with `only` those of some paths: to rounding what `model.init` gives."""

    def draw() -> dict[str, Any]:
        variables = init(model, seed)
        if only is None:
            return variables
        return unflatten({path: leaf for path, leaf in flatten(variables).items() if path in only})

    traced, shapes = jax.make_jaxpr(draw, return_shape=True)()
    known = dict(zip(traced.jaxpr.constvars, traced.consts, strict=True))
    return jax.tree.unflatten(jax.tree.structure(shapes), map(jnp.asarray, _run(traced.jaxpr, known)))


def _run(program: Jaxpr, known: dict[Any, Any], results: Collection[Any] | None = None) -> list[Any]:
    """Results of a program from values that are known, by the operations alone that these results need, one by one."""
    results = program.outvars if results is None else results
    wanted, needed = {value for value in results if isinstance(value, Var)}, []
    for equation in reversed(program.eqns):
        if wanted.intersection(equation.outvars):
            wanted.update(value for value in equation.invars if isinstance(value, Var))
            needed.append((equation, [value for value in equation.outvars if value in wanted]))
    known = dict(known)
    for equation, outputs in reversed(needed):
        known.update(zip(outputs, _outcome(program, equation, known, outputs), strict=True))
    return [known[value] if isinstance(value, Var) else value.val for value in results]


def _outcome(program: Jaxpr, equation: JaxprEqn, known: dict[Any, Any], outputs: list[Var]) -> list[Any]:
    """What an operation gives: drawn in chunks, by NumPy where it is a product or all the same, else as JAX runs it."""
    name: Any = equation.params.get("name")
    aval: Any = equation.outvars[0].aval
    given = [known[value] if isinstance(value, Var) else value.val for value in equation.invars]
    if name in _DISTRIBUTIONS and aval.dtype == jnp.float32 and _is_threefry(given[0]):
        return [_in_chunks(name, aval, *given)]
    if equation.primitive.name == "mul" and isinstance(given[0], np.ndarray):
        return [given[0] * np.asarray(given[1])]
    if equation.primitive.name == "broadcast_in_dim" and np.ndim(given[0]) == 0 and isinstance(aval.dtype, np.dtype):
        return [np.full(aval.shape, given[0], aval.dtype)]
    if equation.primitive.name in ("checkpoint", "remat2"):  # a layer that is computed anew for its gradients
        inside = equation.params["jaxpr"]
        places = [equation.outvars.index(value) for value in outputs]
        return _run(inside, dict(zip(inside.invars, given, strict=True)), [inside.outvars[place] for place in places])
    named = {value: known[value] for value in equation.invars if isinstance(value, Var)}
    alone = program.replace(constvars=(), invars=[*named], outvars=outputs, eqns=[equation])
    return jaxpr_as_fun(ClosedJaxpr(alone, ()))(*named.values())


def _in_chunks(name: str, shape: Any, key: Array, *bounds: Any) -> np.ndarray:
    """An array of random numbers from that distribution."""
    numbers = np.empty(shape.size, shape.dtype)
    words = jax.random.key_data(key)
    for start in range(0, len(numbers), CHUNK):
        part = numbers[start : start + CHUNK]
        part[:] = np.asarray(_chunk(name)(words, np.uint32(start), *bounds))[: len(part)]
    return numbers.reshape(shape.shape)


@cache
def _chunk(name: str) -> Callable[..., Array]:
    """A compiled function of the two words of a key, a place and bounds: the numbers that follow from there on."""
    draw = _DISTRIBUTIONS[name]

    def numbers(words: Array, start: Array, *bounds: Array) -> Array:
        key = jax.random.wrap_key_data(jnp.append(words, start), impl=_further_on())
        given: Any = dict(zip(("minval", "maxval"), bounds, strict=False))
        return draw(key, (CHUNK,), jnp.float32, **given)

    return jax.jit(numbers)


@cache
def _further_on() -> Any:
    """Threefry, whose number at a place follows from key and place alone, with keys that say from which place on."""

    def bits(key: Array, width: int, shape: tuple[int, ...]) -> Array:
        places = key[2] + jnp.arange(np.prod(shape), dtype=jnp.uint32)
        one, other = jnp.split(random.threefry_2x32(key[:2], jnp.concatenate([jnp.zeros_like(places), places])), 2)
        return (one ^ other).reshape(shape)

    def never(*given: Any) -> Any:
        raise NotImplementedError("keys of this kind are neither made of seeds nor divided.")

    given: Any = dict.fromkeys(("seed", "split", "fold_in"), never)
    return random.define_prng_impl(key_shape=(3,), random_bits=bits, name="further_on", **given)


def _is_threefry(key: Array) -> bool:
    return str(jax.random.key_impl(key)) == "threefry2x32" and jax.config.jax_threefry_partitionable  # type: ignore[attr-defined]
