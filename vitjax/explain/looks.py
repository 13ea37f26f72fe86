"""Where the attention modules of a model look on one image: everything that they sow, brought back to the image."""

import dataclasses
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import numpy as np
from flax.traverse_util import flatten_dict
from jaxtyping import Float

from vitjax.data.memory import Picture
from vitjax.errors import FieldError
from vitjax.explain.seen_image import Grid, SeenImage, Size
from vitjax.explain.subject import Sown, Subject

SOWN = ("attention", "channel_attention", "gate", "mask", "outline", "locations")
"""The names under which attention modules tell what they do."""

Path = tuple[str, ...]  # of a module, and the name that it sows


@dataclasses.dataclass(frozen=True)
class Look:
    """What one module does on an image, in `values` of this `form`:

    - heat [rows columns]: how much weight each cell of `grid` has, in what a pixel attends to (then `box` is its cell,
      xyxy in pixels of the original) or in what a mask lets through. Of a mask the values are between 0 and 1. Of
      attention they sum to 1 less what lies on padding, but for non-local blocks without a softmax: to any sum with the
      kernels 'concatenation' and 'dot_product', and with the last some may be negative. `signed` says whether some of
      the module's are, those of other pixels too.
    - gates [channels]: the factor of every channel.
    - pairs [channels channels]: how much of every channel (columns) goes into each (rows); rows sum to 1.
    - outline [corners 2]: the corners of what is read, xy in pixels of the original, clockwise from the upper left one.
    - glimpses [glimpses 4]: the parts that were looked at, one after the other, xyxy in pixels of the original.
    """

    form: Literal["heat", "gates", "pairs", "outline", "glimpses"]
    module: str
    kind: str
    values: Float[np.ndarray, "..."]
    grid: Grid | None = None
    box: Float[np.ndarray, "4"] | None = None
    signed: bool = False


@dataclasses.dataclass(frozen=True)
class Looks:
    """What all attention modules of a model do on one image; `label` and `score` are a classifier's answer.

    `sown` holds, by the path of the module and the name, what was sown for the image; `padded` is the (height, width)
    of the padded image that the model was given; `glimpse_size` is the side of a glimpse in its pixels.
    """

    image: SeenImage
    padded: Size
    sown: Mapping[Path, tuple[np.ndarray, ...]]
    glimpse_size: int = 0
    label: str = ""
    score: float | None = None

    def of_pixel(self, x: int, y: int) -> tuple[Look, ...]:
        """One look for each module, in the order of the network; those over pixels tell what (x, y) attends to.

        Raises:
            FieldError: there is no such pixel, or the model does not see it.
        """
        self.image.require(x, y)
        return tuple(look for path in sorted(self.sown, key=_order) for look in self._of_module(path, x, y))

    def of_stage(self, stage: int) -> "Looks":
        """The modules of one stage of the backbone alone; of stage 0 all that are in the backbone, in whatever part.

        Raises:
            FieldError: there are none.
        """
        name = re.compile(rf"stage_{stage}(_|$)" if stage else "backbone$")
        sown = {path: values for path, values in self.sown.items() if any(name.match(part) for part in path)}
        if not sown:
            raise FieldError(f"no attention module in {f'stage {stage}' if stage else 'the backbone'} of this model.")
        return dataclasses.replace(self, sown=sown)

    def _of_module(self, path: Path, x: int, y: int) -> Iterator[Look]:
        module, name, values = _words(path[:-1]), path[-1], self.sown[path]
        if name == "attention":
            yield self._attention(module, values, x, y)
            return
        for one in values:
            if name == "gate":
                yield Look("gates", module, "factors of the channels, the largest first", one)
            elif name == "channel_attention":
                yield Look("pairs", module, "what each channel (row) gathers of the others", one)
            elif name == "mask":
                kind, grid = f"mask, mean of {one.shape[-1]} channels", self._grid((one.shape[0], one.shape[1]))
                yield Look("heat", module, kind, grid.on_image(one.mean(-1).ravel()), grid)
            elif name == "outline":
                low, high = self.image.extent[:2], self.image.extent[2:]
                yield Look("outline", module, "what is read of the image", low + one * (high - low))
            else:
                yield Look("glimpses", module, f"{len(one)} glimpses", self._glimpses(one))

    def _attention(self, module: str, passes: tuple[np.ndarray, ...], x: int, y: int) -> Look:
        """What a pixel's cell attends to: a row of the weights, or what several criss-cross passes gather."""
        crossed, signed = passes[0].ndim == 3, bool(passes[0].min() < 0)
        grid = self._grid((passes[0].shape[0], passes[0].shape[1]) if crossed else self._map(len(passes[0])))
        box = grid.box(x, y)
        if crossed:
            weights, kind = gathered(passes, *grid.place(x, y)), f"criss-cross attention, {_times(len(passes))}"
        else:
            weights, kind = passes[0][grid.token(x, y)], "signed attention" if signed else "attention"
            if weights.size != math.prod(grid.map):  # keys are pooled over pairs of cells, a last odd one is left out
                grid = self.image.grid((grid.map[0] // 2, grid.map[1] // 2), 2 * grid.stride)
        kind = f"{kind} over {grid.tokens[0]} x {grid.tokens[1]} cells"
        return Look("heat", module, kind, grid.on_image(weights.ravel()), grid, box, signed)

    def _glimpses(self, places: Float[np.ndarray, "glimpses 2"]) -> Float[np.ndarray, "glimpses 4"]:
        """The parts of the image around places, which are xy as shares of what the model sees."""
        middle = self.image.extent[:2] + places * np.array(self.image.size[::-1]) * self.image.scale
        half = self.glimpse_size / 2 * self.image.scale
        return np.concatenate([middle - half, middle + half], 1)

    def _grid(self, map: Size) -> Grid:
        return self.image.grid(map, stride_of(map, self.padded))

    def _map(self, cells: int) -> Size:
        """The (rows, columns) of a map of so many cells, of the image after some halvings, which round up."""
        for halvings in range(max(self.padded).bit_length() + 1):
            rows, columns = (-(-side // 2**halvings) for side in self.padded)
            if rows * columns == cells:
                return rows, columns
        raise FieldError(f"{cells} cells make no map of an image of {self.padded[0]} x {self.padded[1]} pixels.")


def stride_of(map: Size, image: Size) -> int:
    """Pixels along the side of a map's cell, for a map made of an image by halvings that round up.

    It is the least power of two with which so few cells cover the image: `image / map` itself is less where the last
    cells reach beyond the image.
    """
    return max(2 ** math.ceil(math.log2(side / cells)) for side, cells in zip(image, map, strict=True))


def gathered(passes: tuple[np.ndarray, ...], row: int, column: int) -> Float[np.ndarray, "rows columns"]:
    """How much of every pixel criss-cross attention gathers at one, over all passes: weights [h w h+w] of each."""
    height, width = passes[0].shape[:2]
    reached = np.zeros((height, width))
    reached[row, column] = 1
    for weights in reversed(passes):
        columns, rows = weights[..., :height], weights[..., height:]
        reached = np.einsum("ij,ijk->kj", reached, columns) + np.einsum("ij,ijk->ik", reached, rows)
    return reached


def looks_of(subject: Subject, picture: Picture) -> Looks:
    """What the attention modules of a model sow on one image.

    Raises:
        FieldError: no module of the model sows anything.
        DataError: the image is missing or cannot be read.
    """
    run = subject.run(picture, _kept)
    if not run.kept:
        raise FieldError(
            f"explain draws what attention modules do, and this model, {subject.called}, has none that tells it."
        )
    size = getattr(subject.model, "glimpse_size", 0)
    return Looks(run.image, run.padded, run.kept, size, run.label, run.score)


def _kept(_: Any, sown: Sown) -> dict[Path, tuple[Any, ...]]:
    """What is sown for the first image, by the path of the module and the name."""
    flat = {path: values for path, values in flatten_dict(sown).items() if path[-1] in SOWN}
    return {path: tuple(one[0] for one in flat[path]) for path in flat if not _inner(path, flat)}


def _inner(path: Path, flat: Mapping[Path, Any]) -> bool:
    """Whether a module above tells the same, brought to the map, or the values are those of windows or heads."""
    name, shape = path[-1], flat[path][0].shape
    of_heads = name == "attention" and len(shape) == 4 and shape[-1] == shape[-2]
    of_heads |= name == "locations" and len(shape) > 3  # where deformable attention samples, and no glimpses
    return of_heads or any((*path[:depth], path[-1]) in flat for depth in range(1, len(path) - 1))


def _order(path: Path) -> list[Any]:
    """Places of a network in the order of their numbers, and not 10 before 2."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", "/".join(path))]


def _words(path: Path) -> str:
    parts = [part.replace("_", " ") for part in path if part not in ("backbone", "attention")]
    text = ", ".join(parts)
    return f"{text[:1].upper()}{text[1:]}" if text else "The model"


def _times(passes: int) -> str:
    return "once" if passes == 1 else "twice" if passes == 2 else f"{passes} times"
