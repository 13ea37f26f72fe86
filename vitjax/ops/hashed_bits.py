"""Random bits for dropout, which follow from a key and a place alone."""

import jax
import numpy as np
from jax import Array, lax
from jaxtyping import Key, UInt32


def hashed_bits(key: Key[Array, ""], shape: tuple[int, ...]) -> UInt32[Array, "*shape"]:
    """32 bits for every place of an array of up to 2**32 numbers, the same however devices divide it.

    Key and place go twice through the finaliser of MurmurHash3 (Appleby 2008): a dozen operations where threefry has a
    hundred. For dropout and its like; what anyone's safety rests on wants a generator made for that.
    """
    words = jax.random.key_data(key).ravel()
    places = lax.iota(np.uint32, int(np.prod(shape))).reshape(shape)
    return _mixed(_mixed(places * np.uint32(0x9E3779B9) + words[0]) ^ words[-1])


def _mixed(x: Array) -> Array:
    """Each number's bits so mixed that every bit depends on all, one to one."""
    x = (x ^ (x >> 16)) * np.uint32(0x85EBCA6B)
    x = (x ^ (x >> 13)) * np.uint32(0xC2B2AE35)
    return x ^ (x >> 16)
