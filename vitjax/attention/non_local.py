"""Non-local blocks: every place of a sequence, a map or a clip looks at all places.

Source: Wang et al. 2018 (Non-local neural networks), section 3 (reference: AlexHex7/Non-local_pytorch @ ec15789).
"""

from typing import ClassVar, Literal, get_args

import flax.linen as nn
import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Float

from vitjax.attention.linear import linear
from vitjax.attention.self_attention import mix, pair_scores, softmax_over_keys
from vitjax.errors import FieldError
from vitjax.layers.linear import Dense
from vitjax.layers.masked_norms import MaskedBatchNorm
from vitjax.layers.norms import FrozenBatchNorm
from vitjax.ops.initializers import torch_bias, torch_kernel
from vitjax.ops.masks import clear

Kernel = Literal["gaussian", "embedded_gaussian", "dot_product", "concatenation"]
Norm = Literal["batch", "frozen_batch", "none"]

# Keys are pooled over pairs of pixels, and not over time.
WINDOWS = {1: (2,), 2: (2, 2), 3: (1, 2, 2)}


class NonLocal(nn.Module):
    """x + norm(W y) with y_i = sum over j of f(x_i, x_j) g(x_j), on spaces of one, two or three axes.

    With q = theta(x_i) and k = phi(x_j), nowhere scaled, f is
    softmax_j(x_i . x_j) (gaussian), softmax_j(q . k) (embedded gaussian),
    q . k / N (dot product), or relu(w . [q, k]) / N (concatenation), for N keys.

    The weights [batch queries keys], places row by row, are sown into `intermediates` as "attention".

    Raises:
        FieldError: the space has no or more than three axes, an axis is too short to pool, or there is no such kernel
            or norm.
    """

    place: ClassVar[str] = "stage"
    starts_as_identity: ClassVar[bool] = True

    kernel: Kernel = "embedded_gaussian"
    """How two places are compared."""
    subsample: bool = False
    """Pool keys and values over windows of 2 (1, 2, 2 on clips); a last odd row or column is left out."""
    channels: int | None = None
    """Width of queries, keys and values; half the channels of the map, and at least 1, if None."""
    norm: Norm = "batch"
    """What follows the output layer. Identity at the start comes from the scale of a batch norm, and from the output
    layer if the norm is frozen or there is none."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """What is computed in; parameters, the softmax, sums over places and norm statistics are float32 always."""

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "batch *space channels"],
        valid: Bool[Array, " batch *space"] | None = None,
        *,
        train: bool = False,
    ) -> Float[Array, "batch *space channels"]:
        """`x` with what every place has gathered; only valid places, and windows of nothing else, are looked at."""
        self._check(x)
        inputs = x.shape[-1]
        width = self.channels or max(inputs // 2, 1)
        query = key = x.astype(self.dtype)
        if self.kernel != "gaussian":
            query = linear(width, inputs, dtype=self.dtype, name="query")(x)
            key = linear(width, inputs, dtype=self.dtype, name="key")(x)
        value = linear(width, inputs, dtype=self.dtype, name="value")(x)
        seen = valid
        if self.subsample:
            window = WINDOWS[x.ndim - 2]
            key, value = nn.max_pool(key, window, window), nn.max_pool(value, window, window)
            seen = None if valid is None else _pool_valid(valid, window)
        weights = self._weights(_tokens(query), _tokens(key), None if seen is None else seen.reshape(len(seen), -1))
        self.sow("intermediates", "attention", weights)
        mixed = mix(weights, _tokens(value)).astype(value.dtype)
        y = x + self._expand(mixed, valid, inputs, train=train).astype(x.dtype).reshape(x.shape)
        return clear(y, valid)

    def _check(self, x: Array) -> None:
        if x.ndim - 2 not in WINDOWS:
            raise FieldError(f"non-local blocks work on one to three axes of space; got an array of shape {x.shape}.")
        if self.subsample and any(side < pool for side, pool in zip(x.shape[1:-1], WINDOWS[x.ndim - 2], strict=True)):
            raise FieldError(f"subsample needs two places along every pooled axis; got a space of {x.shape[1:-1]}.")
        for name, value, known in (("kernel", self.kernel, get_args(Kernel)), ("norm", self.norm, get_args(Norm))):
            if value not in known:
                raise FieldError(f"the {name} of a non-local block is one of {', '.join(known)}; got {name}={value!r}.")

    def _weights(self, query: Array, key: Array, valid: Array | None) -> Array:
        """The weight of every key for every query, in float32 [batch queries keys]."""
        if self.kernel == "concatenation":
            # w . [q, k] is a sum of two products, so the pairs are never written down side by side.
            pair = self.param("pair", torch_kernel, (2 * query.shape[-1], 1))
            of_query, of_key = (
                jnp.einsum("bnc,c->bn", side, half, preferred_element_type=jnp.float32)
                for side, half in zip((query, key), jnp.split(pair[:, 0], 2), strict=True)
            )
            scores = nn.relu(of_query[:, :, None] + of_key[:, None, :])
        else:
            scores = pair_scores(query, key)
        if self.kernel in ("gaussian", "embedded_gaussian"):
            return softmax_over_keys(scores, valid)
        if valid is None:
            return scores / key.shape[1]
        count = jnp.maximum(valid.sum(1), 1).astype(scores.dtype)
        return jnp.where(valid[:, None], scores, 0) / count[:, None, None]

    def _expand(self, mixed: Array, valid: Array | None, features: int, *, train: bool) -> Array:
        """Output layer and norm; the places lie in a row of a map, since the norms take maps."""
        learned = self.norm == "batch"
        zeros = nn.initializers.zeros
        output = Dense(
            features,
            kernel_init=torch_kernel if learned else zeros,
            bias_init=torch_bias(mixed.shape[-1]) if learned else zeros,
            dtype=self.dtype,
            name="output",
        )
        y = output(mixed)[:, None]
        if self.norm == "frozen_batch":
            return FrozenBatchNorm(name="norm")(y)
        if self.norm == "none":
            return y
        everywhere = jnp.ones(y.shape[:3], bool) if valid is None else valid.reshape(y.shape[:3])
        return MaskedBatchNorm(start=0.0, name="norm")(y, everywhere, train=train)


def _tokens(x: Array) -> Array:
    """[batch *space channels] as [batch tokens channels], row by row."""
    return x.reshape(len(x), -1, x.shape[-1])


def _pool_valid(valid: Array, window: tuple[int, ...]) -> Array:
    """The windows with nothing but valid places: an image that is alone has no others."""
    padding = (~valid)[..., None].astype(jnp.float32)
    return nn.max_pool(padding, window, window)[..., 0] == 0
