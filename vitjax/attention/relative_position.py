"""Biases of attention scores by the offset from key to query: a small network, or a table.

Source: Wang et al. 2022 (CrossFormer), section 3.3 (the network); Liu et al. 2021 (Swin), section 3.2 (the table).
"""

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float, Int

from vitjax.errors import FieldError
from vitjax.layers.linear import Dense
from vitjax.layers.norms import LayerNorm
from vitjax.ops.groups import Size


def offsets(group: Size) -> Float[np.ndarray, "offsets 2"]:
    """All offsets (rows, columns) between two tokens of a group, in the order that `pairs` counts them in."""
    rows, columns = (np.arange(1 - side, side, dtype=np.float32) for side in group)
    return np.stack(np.meshgrid(rows, columns, indexing="ij"), axis=-1).reshape(-1, 2)


def pairs(group: Size, reach: Size | None = None) -> Int[np.ndarray, "queries keys"]:
    """For every query and key of a group the place of query - key among `offsets(reach)`; `reach` is the group itself.

    A constant: it depends on static sizes alone.
    """
    reach = reach or group
    tokens = np.indices(group).reshape(2, -1)
    rows, columns = tokens[:, :, None] - tokens[:, None, :]
    return (rows + reach[0] - 1) * (2 * reach[1] - 1) + columns + reach[1] - 1


class DynamicPositionBias(nn.Module):
    """A network from offsets, in tokens, to one bias per head: any group size with the same parameters.

    Every hidden layer is normalised before it; `residual` adds what the first two layers see to what they give.
    """

    heads: int
    hidden: int
    residual: bool = False

    @nn.compact
    def __call__(self, offsets: Float[Array, "offsets 2"]) -> Float[Array, "offsets heads"]:
        """The bias of every offset, in float32."""

        def dense(features: int, name: str) -> nn.Dense:
            return Dense(features, kernel_init=nn.initializers.normal(0.02), name=name)

        x = dense(self.hidden, "project")(offsets)
        for i in range(3):
            last = i == 2
            y = nn.relu(LayerNorm(name=f"norm_{i}")(x))
            y = dense(self.heads if last else self.hidden, f"layer_{i}")(y)
            x = x + y if self.residual and not last else y
        return x

    def of_group(self, group: Size) -> Float[Array, "heads queries keys"]:
        """The bias of every pair of tokens of a group."""
        return jnp.moveaxis(self(jnp.asarray(offsets(group)))[pairs(group)], -1, 0)


class RelativePositionBias(nn.Module):
    """Swin's table: one parameter per head and offset, for groups of up to `side` x `side` tokens.

    `side` may be a pair (rows, columns).
    """

    heads: int
    side: int | Size

    @nn.compact
    def of_group(self, group: Size) -> Float[Array, "heads queries keys"]:
        """The bias of every pair of tokens of a group.

        Raises:
            FieldError: the group is larger than the table.
        """
        reach = (self.side, self.side) if isinstance(self.side, int) else self.side
        if group[0] > reach[0] or group[1] > reach[1]:
            raise FieldError(
                f"the table of position biases reaches groups of {reach[0]} x {reach[1]} tokens; the group has "
                f"{group[0]} x {group[1]}. Use the dynamic position bias, which reaches any group."
            )
        shape = ((2 * reach[0] - 1) * (2 * reach[1] - 1), self.heads)
        table = self.param("table", nn.initializers.truncated_normal(0.02), shape)
        return jnp.moveaxis(table[pairs(group, reach)], -1, 0)
