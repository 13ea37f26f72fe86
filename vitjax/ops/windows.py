"""Square windows of a map that may begin half a window later than the map does.

Source: Liu et al. 2021 (Swin), section 3.2 and figure 4.
"""

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Bool, Float, Int

from vitjax.ops.groups import AnyArray, from_short_distance_groups, short_distance_groups


@dataclasses.dataclass(frozen=True)
class Windows:
    """How a map is cut into windows of `side` x `side` tokens: padded at the end to whole windows, rolled by `shift`.

    The rolled map's last windows hold both ends of the map, which do not see each other.
    """

    height: int
    width: int
    side: int
    shift: int = 0

    def cut(self, x: Float[Array, "batch height width channels"]) -> Float[Array, "batch windows tokens channels"]:
        """The windows of a map, row by row, with zeros on the padding."""
        return self._cut(x, 0, jnp)

    def join(
        self, windows: Float[Array, "batch windows tokens channels"]
    ) -> Float[Array, "batch height width channels"]:
        """The map of these windows, without the padding."""
        sides = (self.height + -self.height % self.side, self.width + -self.width % self.side)
        x = jnp.asarray(from_short_distance_groups(windows, (self.side, self.side), *sides))
        return jnp.roll(x, (self.shift, self.shift), (1, 2))[:, : self.height, : self.width]

    def numbers(self) -> Int[np.ndarray, "windows tokens"]:
        """Which token of the map, counted row by row, each token of each window is; -1 on the padding. A constant."""
        return self._cut(np.arange(self.height * self.width).reshape(1, self.height, self.width, 1), -1, np)[0, ..., 0]

    def seen(self, valid: Bool[Array, "batch height width"] | None = None) -> Bool[AnyArray, "windows queries keys"]:
        """Whether a query may attend to a key: both at the same end of the map, and the key no padding.

        Without `valid` a constant with one entry for each window, else one for each window of each image in turn.
        """
        numbers = self.numbers()
        wrapped = [place < self.shift for place in np.divmod(numbers, self.width)]  # rows, columns that the roll moved
        together = np.logical_and(*(end[:, :, None] == end[:, None, :] for end in wrapped))
        seen = together & (numbers >= 0)[:, None, :]
        if valid is None:
            return seen
        keys = self._cut(valid[..., None], False, jnp)[:, :, None, :, 0]
        return (seen & keys).reshape(-1, *seen.shape[1:])

    def pairs(self, weights: Float[Array, "batch windows queries keys"]) -> Float[Array, "batch tokens tokens"]:
        """Weights between the tokens of windows as weights between all tokens of the map, counted row by row."""
        numbers, tokens = self.numbers(), self.height * self.width
        places = np.where(numbers < 0, tokens, numbers)  # the padding's row and column are cut off
        whole = jnp.zeros((len(weights), tokens + 1, tokens + 1), weights.dtype)
        return whole.at[:, places[:, :, None], places[:, None, :]].set(weights)[:, :tokens, :tokens]

    def _cut(self, x: Any, padding: Any, numpy: Any) -> Any:
        ends = ((0, 0), (0, -self.height % self.side), (0, -self.width % self.side), (0, 0))
        rolled = numpy.roll(numpy.pad(x, ends, constant_values=padding), (-self.shift, -self.shift), (1, 2))
        return short_distance_groups(rolled, (self.side, self.side))
