"""Self-attention in its plain form, one head and no output layer. Source: Vaswani et al. 2017, section 3.2.1."""

import math
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Float

from vitjax.layers.linear import Dense
from vitjax.ops.convolution import wide_einsum
from vitjax.ops.initializers import torch_kernel
from vitjax.ops.masks import clear


def pair_scores(
    query: Float[Array, "batch queries channels"], key: Float[Array, "batch keys channels"]
) -> Float[Array, "batch queries keys"]:
    """The product of every query with every key, in float32."""
    return wide_einsum("bqc,bkc->bqk", query, key)


def softmax_over_keys(
    scores: Float[Array, "batch queries keys"], valid: Bool[Array, "batch keys"] | None
) -> Float[Array, "batch queries keys"]:
    """Weights that sum to 1 over the valid keys and are 0 on the others; without `valid` all keys are."""
    if valid is not None:
        scores = jnp.where(valid[:, None], scores, jnp.finfo(scores.dtype).min)
    return jax.nn.softmax(scores, axis=-1)


def mix(
    weights: Float[Array, "batch queries keys"], value: Float[Array, "batch keys channels"]
) -> Float[Array, "batch queries channels"]:
    """The weighted sum of the values for every query: products in the dtype of the values, sums in float32."""
    return wide_einsum("bqk,bkc->bqc", weights.astype(value.dtype), value)


class SelfAttention(nn.Module):
    """softmax(Q K^T / sqrt(d_k)) V with Q = x W_q, K = x W_k, V = x W_v: one head, no biases, no output layer.

    The weights [batch tokens tokens] are sown into `intermediates` as "attention".
    """

    key_channels: int
    """Width d_k of queries and keys."""
    value_channels: int
    """Width of values, and so of the result."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """What is computed in; parameters, the softmax and sums over tokens are float32 always."""

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch tokens channels"], valid: Bool[Array, "batch tokens"] | None = None
    ) -> Float[Array, "batch tokens {self.value_channels}"]:
        """Each token's mixture of the values of the valid tokens; zero for a token that is not valid."""
        query, key = self._project(x, self.key_channels, "query"), self._project(x, self.key_channels, "key")
        value = self._project(x, self.value_channels, "value")
        weights = softmax_over_keys(pair_scores(query, key) / math.sqrt(self.key_channels), valid)
        self.sow("intermediates", "attention", weights)
        mixed = mix(weights, value).astype(value.dtype)
        return clear(mixed, valid)

    def _project(self, x: Array, features: int, name: str) -> Array:
        return Dense(features, use_bias=False, kernel_init=torch_kernel, dtype=self.dtype, name=name)(x)
