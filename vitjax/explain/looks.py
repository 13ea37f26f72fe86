"""Where the attention modules of a model look on one image: everything that they sow, brought back to the image."""

import dataclasses
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from flax.traverse_util import flatten_dict
from jaxtyping import Float

from vitjax.classification.classifier import Classifier
from vitjax.classification.recurrent_attention import RecurrentAttention
from vitjax.data.crops import CenterCrop
from vitjax.data.memory import Picture
from vitjax.data.source import Classes
from vitjax.data.transforms import Resize
from vitjax.errors import FieldError
from vitjax.explain.seen_image import SeenImage, Size, look
from vitjax.prediction import name_of
from vitjax.structs import Batch, images_of

SOWN = ("attention", "channel_attention", "gate", "mask", "outline", "locations")
"""The names under which attention modules tell what they do."""


@dataclasses.dataclass(frozen=True)
class Heat:
    """How much weight each cell of the image has: what a pixel attends to, or what a mask lets through.

    `cells` are xyxy in pixels of the original image; `box` is the cell of the pixel that was asked about, if there is
    one. Of a mask the values are between 0 and 1. Of attention they sum to 1 less what lies on padding, but for
    non-local blocks without a softmax: to any sum with the kernels 'concatenation' and 'dot_product', and with the last
    some may be negative. `signed` says whether some of the module's are, those of other pixels too.
    """

    module: str
    kind: str
    values: Float[np.ndarray, "rows columns"]
    cells: Float[np.ndarray, "rows columns 4"]
    box: Float[np.ndarray, "4"] | None = None
    signed: bool = False


@dataclasses.dataclass(frozen=True)
class Gates:
    """The factor of every channel."""

    module: str
    kind: str
    values: Float[np.ndarray, " channels"]


@dataclasses.dataclass(frozen=True)
class Pairs:
    """How much of every channel (columns) goes into each (rows); rows sum to 1."""

    module: str
    kind: str
    values: Float[np.ndarray, "channels channels"]


@dataclasses.dataclass(frozen=True)
class Outline:
    """The corners of what is read of the image, as xy in pixels of the original, clockwise from the upper left one."""

    module: str
    kind: str
    values: Float[np.ndarray, "corners 2"]


@dataclasses.dataclass(frozen=True)
class Glimpses:
    """The parts of the image that were looked at, one after the other: xyxy in pixels of the original."""

    module: str
    kind: str
    values: Float[np.ndarray, "glimpses 4"]


Look = Heat | Gates | Pairs | Outline | Glimpses


@dataclasses.dataclass(frozen=True)
class Looks:
    """What all attention modules of a model do on one image; `label` and `score` are a classifier's answer.

    `sown` holds, by the path of the module and the name, what was sown for the image; `bucket` is the (height, width)
    of the padded image that the model was given; `glimpse_size` is the side of a glimpse in its pixels.
    """

    image: SeenImage
    bucket: Size
    sown: Mapping[tuple[str, ...], Any]
    glimpse_size: int = 0
    label: str = ""
    score: float | None = None

    def of_pixel(self, x: int, y: int) -> tuple[Look, ...]:
        """One look for each module, in the order of the network; those over pixels tell what (x, y) attends to.

        Raises:
            FieldError: there is no such pixel, or the model does not see it.
        """
        self.image.token(x, y, self.bucket, 1)
        return tuple(self._looks(x, y))

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

    def _looks(self, x: int, y: int) -> Iterator[Look]:
        for path in sorted(self.sown, key=_order):
            module, values = _words(path[:-1]), self.sown[path]
            if path[-1] == "gate":
                yield from (Gates(module, "factors of the channels, the largest first", one) for one in values)
            elif path[-1] == "channel_attention":
                yield from (Pairs(module, "what each channel (row) gathers of the others", one) for one in values)
            elif path[-1] == "mask":
                yield from (self._mask(module, one) for one in values)
            elif path[-1] == "outline":
                yield from (self._outline(module, one) for one in values)
            elif path[-1] == "locations":
                yield from (self._glimpses(module, one) for one in values)
            else:
                yield self._attention(module, values, x, y)

    def _attention(self, module: str, passes: tuple[np.ndarray, ...], x: int, y: int) -> Heat:
        """What a pixel's cell attends to: a row of the weights, or what several criss-cross passes gather."""
        crossed, signed = passes[0].ndim == 3, bool(passes[0].min() < 0)
        height, width = passes[0].shape[:2] if crossed else self._map(len(passes[0]))
        stride = stride_of((height, width), self.bucket)
        row, column = self.image.token(x, y, (height, width), stride)
        box = self.image.cells((row + 1, column + 1), stride)[row, column]
        if crossed:
            weights, kind = gathered(passes, row, column), f"criss-cross attention, {_times(len(passes))}"
        else:
            weights, kind = passes[0][row * width + column], "signed attention" if signed else "attention"
            if len(weights) != height * width:  # keys are pooled over pairs of cells, a last odd one is left out
                height, width, stride = height // 2, width // 2, 2 * stride
            weights = weights.reshape(height, width)
        rows, columns = self.image.tokens((height, width), stride)
        return self._heat(module, f"{kind} over {rows} x {columns} cells", weights, stride, box=box, signed=signed)

    def _mask(self, module: str, mask: np.ndarray) -> Heat:
        stride = stride_of((mask.shape[0], mask.shape[1]), self.bucket)
        return self._heat(module, f"mask, mean of {mask.shape[-1]} channels", mask.mean(-1), stride)

    def _heat(self, module: str, kind: str, values: np.ndarray, stride: int, **fields: Any) -> Heat:
        rows, columns = self.image.tokens((values.shape[0], values.shape[1]), stride)
        return Heat(module, kind, values[:rows, :columns], self.image.cells((rows, columns), stride), **fields)

    def _outline(self, module: str, shares: np.ndarray) -> Outline:
        low, high = self.image.extent[:2], self.image.extent[2:]
        return Outline(module, "what is read of the image", low + shares * (high - low))

    def _glimpses(self, module: str, places: np.ndarray) -> Glimpses:
        middle = self.image.extent[:2] + places * np.array(self.image.size[::-1]) * self.image.scale
        half = self.glimpse_size / 2 * self.image.scale
        return Glimpses(module, f"{len(places)} glimpses", np.concatenate([middle - half, middle + half], 1))

    def _map(self, cells: int) -> Size:
        """The (rows, columns) of a map of so many cells, of the image after some halvings, which round up."""
        for halvings in range(max(self.bucket).bit_length() + 1):
            rows, columns = (-(-side // 2**halvings) for side in self.bucket)
            if rows * columns == cells:
                return rows, columns
        raise FieldError(f"{cells} cells make no map of an image of {self.bucket[0]} x {self.bucket[1]} pixels.")


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


def looks(
    model: nn.Module,
    variables: Mapping[str, Any],
    picture: Picture,
    *,
    preprocess: Resize | CenterCrop,
    classes: Classes,
    multiple: int = 32,
) -> Looks:
    """Runs a model on one image and keeps what its attention modules sow.

    Raises:
        FieldError: no module of the model sows anything.
        DataError: the image is missing or cannot be read.
    """
    image, batch = look(picture, classes, preprocess, multiple=multiple)
    answer, kept = jax.device_get(jax.jit(lambda *given: _run(model, *given))(variables, batch))
    flat = flatten_dict(kept)
    sown = {path: tuple(one[0] for one in flat[path]) for path in flat if path[-1] in SOWN and not _inner(path, flat)}
    if not sown:
        backbone = getattr(model, "backbone", None)
        has = f"a {type(model).__name__}" + ("" if backbone is None else f" with a {type(backbone).__name__}")
        raise FieldError(f"explain draws what attention modules do, and this model, {has}, has none that tells it.")
    _, height, width, _ = batch.pixels.shape
    found = Looks(image, (height, width), sown, getattr(model, "glimpse_size", 0))
    if not isinstance(model, (Classifier, RecurrentAttention)):
        return found
    odds = np.exp(answer[0] - answer[0].max())
    best = int(odds.argmax())
    return dataclasses.replace(found, label=name_of(classes, best), score=float(odds[best] / odds.sum()))


def _run(model: nn.Module, variables: Mapping[str, Any], batch: Batch) -> tuple[Any, Any]:
    answer: Any
    answer, kept = model.apply(variables, images_of(batch), train=False, mutable=["intermediates"])
    return answer, kept.get("intermediates", {})


def _inner(path: tuple[str, ...], flat: Mapping[tuple[str, ...], Any]) -> bool:
    """Whether a module above tells the same, brought to the map, or the values are those of windows or heads."""
    name, shape = path[-1], flat[path][0].shape
    of_heads = name == "attention" and len(shape) == 4 and shape[-1] == shape[-2]
    of_heads |= name == "locations" and len(shape) > 3  # where deformable attention samples, and no glimpses
    return of_heads or any((*path[:depth], path[-1]) in flat for depth in range(1, len(path) - 1))


def _order(path: tuple[str, ...]) -> list[Any]:
    """Places of a network in the order of their numbers, and not 10 before 2."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", "/".join(path))]


def _words(path: tuple[str, ...]) -> str:
    parts = [part.replace("_", " ") for part in path if part not in ("backbone", "attention")]
    text = ", ".join(parts)
    return f"{text[:1].upper()}{text[1:]}" if text else "The model"


def _times(passes: int) -> str:
    return "once" if passes == 1 else "twice" if passes == 2 else f"{passes} times"
