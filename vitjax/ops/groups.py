"""Which tokens of a map attend to each other: windows (short distance) or every n-th token (long distance).

Source: Wang et al. 2022 (CrossFormer), section 3.2 and figure 3.
"""

import dataclasses
import math
from typing import Literal

import jax.numpy as jnp
import numpy as np
from einops import rearrange
from jax import Array
from jaxtyping import Bool, Float, Shaped

Size = tuple[int, int]  # rows, columns
AnyArray = Array | np.ndarray


def short_distance_groups(
    x: Shaped[AnyArray, "batch height width channels"], group: Size
) -> Shaped[AnyArray, "batch groups tokens channels"]:
    """Windows of `group` neighbouring tokens; both sides of the map must be divisible by the group's."""
    return rearrange(x, "b (row i) (column j) c -> b (row column) (i j) c", i=group[0], j=group[1])


def from_short_distance_groups(
    groups: Shaped[AnyArray, "batch groups tokens channels"], group: Size, height: int, width: int
) -> Shaped[AnyArray, "batch {height} {width} channels"]:
    """The map that `short_distance_groups` was given."""
    sizes = {"row": height // group[0], "column": width // group[1], "i": group[0], "j": group[1]}
    return rearrange(groups, "b (row column) (i j) c -> b (row i) (column j) c", **sizes)


def long_distance_groups(
    x: Shaped[AnyArray, "batch height width channels"], group: Size, interval: int
) -> Shaped[AnyArray, "batch groups tokens channels"]:
    """Groups of every `interval`-th token, `group` tokens each; sides must be divisible by group x interval.

    A map larger than that is cut into regions of group x interval, each with interval x interval groups.
    With an interval of 1 they are the windows of `short_distance_groups`.
    """
    sizes = {"i": group[0], "j": group[1], "p": interval, "q": interval}
    return rearrange(x, "b (row i p) (column j q) c -> b (row column p q) (i j) c", **sizes)


def from_long_distance_groups(
    groups: Shaped[AnyArray, "batch groups tokens channels"], group: Size, interval: int, height: int, width: int
) -> Shaped[AnyArray, "batch {height} {width} channels"]:
    """The map that `long_distance_groups` was given."""
    sizes = {"row": height // (group[0] * interval), "column": width // (group[1] * interval)}
    sizes |= {"i": group[0], "j": group[1], "p": interval, "q": interval}
    return rearrange(groups, "b (row column p q) (i j) c -> b (row i p) (column j q) c", **sizes)


@dataclasses.dataclass(frozen=True)
class Grid:
    """How one map is cut into groups: tokens per group, interval between them, padding before and after each side."""

    height: int
    width: int
    group: Size
    interval: int = 1
    rows: Size = (0, 0)
    columns: Size = (0, 0)
    masked: bool = True

    def cut(self, x: Float[Array, "batch height width channels"]) -> Float[Array, "batch groups tokens channels"]:
        """The groups of a map, with zeros on the padding."""
        padded = jnp.pad(x, ((0, 0), self.rows, self.columns, (0, 0)))
        return jnp.asarray(long_distance_groups(padded, self.group, self.interval))

    def join(self, groups: Float[Array, "batch groups tokens channels"]) -> Float[Array, "batch height width channels"]:
        """The map of these groups, without the padding."""
        (top, bottom), (left, right) = self.rows, self.columns
        padded = (top + self.height + bottom, left + self.width + right)
        x = jnp.asarray(from_long_distance_groups(groups, self.group, self.interval, *padded))
        return x[:, top : top + self.height, left : left + self.width]

    def keys(self, valid: Bool[Array, "batch height width"] | None) -> Bool[AnyArray, "_ groups tokens"] | None:
        """Which tokens of each group may be attended to, None if all: valid ones that are no padding.

        Without `valid` this is a constant, the same for all images.
        """
        padding = any((*self.rows, *self.columns))
        if valid is None and not (padding and self.masked):
            return None
        numpy = np if valid is None else jnp
        seen = np.ones((1, self.height, self.width), bool) if valid is None else valid
        padded = numpy.pad(seen, ((0, 0), self.rows, self.columns), constant_values=not self.masked)
        return long_distance_groups(padded[..., None], self.group, self.interval)[..., 0]


@dataclasses.dataclass(frozen=True)
class Grouping:
    """The rules by which a map of any size is cut into groups, where the published versions of CrossFormer differ.

    The defaults are those of today's official classifier. Source: cheerss/CrossFormer @ 7952010 (main) and its branch
    `crossformer` @ 4fbf750 (the code of 2021).
    """

    long_distance: Literal["fixed", "stretched", "whole"] = "fixed"
    """What a long distance group is: 'fixed', group_size tokens at the stage's interval, in several regions if the map
    is larger (today's code); 'stretched', group_size tokens at an interval of longest side / group_size (the classifier
    of 2021, 'adaptive interval' today); 'whole', all tokens at the stage's interval (the detector of 2021)."""
    small_maps: Literal["tiles", "one"] = "tiles"
    """What becomes of a map with a side of at most group_size, where no group is long distance: 'tiles' cuts it into
    squares of its shorter side (classifiers), 'one' leaves it whole (today's detector). Only where padding is not
    exact: an image must not be cut in another way because it is padded."""
    pad: Literal["end", "both"] = "end"
    """Where a map is padded to whole groups: at the bottom and the right, or on all sides."""
    masked: bool = True
    """Whether no token attends to this padding."""

    def grid(self, height: int, width: int, group_size: int, interval: int, *, long: bool, exact: bool) -> Grid:
        """How a block of long or short distance attention cuts a map of this size."""
        shorter, longer = sorted((height, width))
        group, step = (group_size, group_size), interval if long else 1
        if shorter <= group_size and not exact:
            group, step = (shorter, shorter) if self.small_maps == "tiles" else (height, width), 1
        elif long and self.long_distance == "stretched":
            step = math.ceil(longer / group_size)
        elif long and self.long_distance == "whole":
            group = (math.ceil(height / interval), math.ceil(width / interval))
        if self.masked and self.pad == "end":  # rows and columns of groups that hold nothing but masked padding
            group = (min(group[0], math.ceil(height / step)), min(group[1], math.ceil(width / step)))
        rows, columns = self._padding(height, group[0] * step), self._padding(width, group[1] * step)
        return Grid(height, width, group, step, rows, columns, self.masked)

    def _padding(self, side: int, multiple: int) -> Size:
        total = -side % multiple
        before = total // 2 if self.pad == "both" else 0
        return before, total - before
