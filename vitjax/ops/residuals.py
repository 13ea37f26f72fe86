"""What spares memory from a forward pass to its gradients: what is made again, and not before its time."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jaxtyping import Bool, Float, Key, UInt32

Product = Callable[[Array, Array], Array]


def after(x: Float[Array, "*shape"], other: Float[Array, "*other"]) -> Float[Array, "*shape"]:
    """`x`, which no compiler can have before `other`.

    XLA for CPUs drops barriers before it orders operations. What gradients make again from a residual it then makes
    with the residual, for all layers long before the first of them is asked for.
    """
    never = other.ravel()[:1] < -jnp.inf
    return x + never.any().astype(x.dtype)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def product_of_made(product: Product, make: Callable[[Any, Array], Array], given: Any, x: Array, y: Array) -> Array:
    """`product(make(given, x), y)`. For its gradients x and y are kept, not what is made of x; `given` has none."""
    return product(make(given, x), y)


def _made_again(product: Product, make: Callable, kept: tuple[Any, Array, Array], cotangent: Array) -> tuple:
    given, x, y = kept
    made, through = jax.vjp(partial(make, given), after(x, cotangent))
    by_made, by_y = jax.vjp(product, made, y)[1](cotangent)
    return None, *through(by_made), by_y


product_of_made.defvjp(lambda product, make, *kept: (product_of_made(product, make, *kept), kept), _made_again)


def hashed_bits(key: Key[Array, ""], shape: tuple[int, ...]) -> UInt32[Array, "*shape"]:
    """32 bits for every place of an array of up to 2**32 numbers, the same however devices divide it.

    Key and place go twice through the finaliser of MurmurHash3 (Appleby 2008), where threefry has a hundred operations.
    """
    words = jax.random.key_data(key).ravel()
    places = lax.iota(np.uint32, int(np.prod(shape))).reshape(shape)
    return bits_at(places, words[0], words[-1])


def bits_at(places: UInt32[Array, "*shape"], first: Array, last: Array) -> UInt32[Array, "*shape"]:
    """`hashed_bits` of some places in the array's order, by the first and the last word of the key."""
    return _mixed(_mixed(places * np.uint32(0x9E3779B9) + first) ^ last)


def dropped(bits: UInt32[Array, "*shape"], rate: float) -> Bool[Array, "*shape"]:
    """Which numbers become zero, with a probability above 0."""
    return bits <= np.uint32(max(round(rate * 2**32), 1) - 1)


def scale_of_others(rate: float) -> float:
    """What to multiply those with that do not become zero, so that the mean stays."""
    return 1 / max(1 - rate, 2**-32)


def _mixed(x: Array) -> Array:
    """Each number's bits so mixed that every bit depends on all, one to one."""
    x = (x ^ (x >> 16)) * np.uint32(0x85EBCA6B)
    x = (x ^ (x >> 13)) * np.uint32(0xC2B2AE35)
    return x ^ (x >> 16)
