"""Max-pooling as the stem of a ResNet has it, in the form that runs fast."""

import functools
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

_AROUND = ((0, 0), (1, 1), (1, 1), (0, 0))


@jax.custom_vjp
def max_pool(x: Array) -> Array:
    """The largest of each 3x3 window around every second row and column of [batch, h, w, c].

    On CPUs rows first and then columns, in a quarter of the time of XLA's windows, forward and backward. There equal
    values share a gradient that elsewhere one of them has.
    """
    return lax.platform_dependent(x, cpu=_by_sides, default=_by_windows)


def _by_windows(x: Array) -> Array:
    return lax.reduce_window(x, -jnp.inf, lax.max, (1, 3, 3, 1), (1, 2, 2, 1), _AROUND)


def _by_sides(x: Array) -> Array:
    rows, columns = (-(-length // 2) for length in x.shape[1:3])
    x = jnp.pad(x, _AROUND, constant_values=-jnp.inf)
    x = functools.reduce(jnp.maximum, (x[:, i : i + 2 * rows - 1 : 2] for i in range(3)))
    return functools.reduce(jnp.maximum, (x[:, :, j : j + 2 * columns - 1 : 2] for j in range(3)))


def _backward(x: Array, cotangent: Array) -> tuple[Array]:
    def through(form: Any, x: Array, cotangent: Array) -> Array:
        return jax.vjp(form, x)[1](cotangent)[0]

    forms = {"cpu": partial(through, _by_sides), "default": partial(through, _by_windows)}
    return (lax.platform_dependent(x, cotangent, **forms),)


max_pool.defvjp(lambda x: (max_pool(x), x), _backward)
