"""What of an image a model is given to see, and where the cells of its feature maps lie on the original."""

import dataclasses

import numpy as np
from jaxtyping import Float, UInt8

from vitjax.data.crop_plan import CropEvaluationPlan
from vitjax.data.crops import CenterCrop
from vitjax.data.loader import load
from vitjax.data.memory import Picture, Pictures
from vitjax.data.plan import EvaluationPlan
from vitjax.data.source import Classes
from vitjax.data.transforms import Resize
from vitjax.errors import FieldError
from vitjax.structs import Batch

Size = tuple[int, int]  # height, width


@dataclasses.dataclass(frozen=True)
class SeenImage:
    """A picture to draw on: the whole image, or the square in its middle that a classifier is given.

    `extent` is where it lies, xyxy in pixels of the original image, whose (height, width) is `original`; `size` is the
    (height, width) that the model sees of it, after resizing and without padding.
    """

    pixels: UInt8[np.ndarray, "height width 3"]
    original: Size
    extent: Float[np.ndarray, "4"]
    size: Size

    @property
    def scale(self) -> Float[np.ndarray, "2"]:
        """Pixels of the original image, across and down, per pixel that the model sees."""
        return (self.extent[2:] - self.extent[:2]) / np.array(self.size[::-1])

    @property
    def middle(self) -> tuple[int, int]:
        """The pixel (x, y) of the original in the middle of what the model sees."""
        x, y = (self.extent[:2] + self.extent[2:]) / 2
        return int(x), int(y)

    def require(self, x: int, y: int) -> None:
        """Refuses a pixel of the original that the model does not see.

        Raises:
            FieldError: there is no such pixel, or the model does not see it.
        """
        height, width = self.original
        if not (0 <= x < width and 0 <= y < height):
            room = f"x from 0 to {width - 1} and y from 0 to {height - 1}"
            raise FieldError(f"a pixel of this image has {room}; got {x} {y}.")
        left, top, right, bottom = (np.ceil(self.extent - 0.5) - [0, 0, 1, 1]).astype(int)
        if not (left <= x <= right and top <= y <= bottom):
            room = f"x from {left} to {right} and y from {top} to {bottom}"
            raise FieldError(f"of this image the model sees the square in the middle, {room}; got {x} {y}.")

    def grid(self, map: Size, stride: int) -> "Grid":
        """The cells of a feature map, padding included, of that many pixels that the model sees across and down."""
        tokens = min(map[0], -(-self.size[0] // stride)), min(map[1], -(-self.size[1] // stride))
        return Grid(self, map, tokens, stride, stride * self.scale)


@dataclasses.dataclass(frozen=True)
class Grid:
    """The cells of a feature map, which are a model's tokens row by row, and where they lie on an image.

    `map` is its (rows, columns); those of `tokens` lie on the image, the others on padding. `cell` is the (width,
    height) of each in pixels of the original image, which the last ones may reach beyond.
    """

    image: SeenImage
    map: Size
    tokens: Size
    stride: int
    cell: Float[np.ndarray, "2"]

    @property
    def cells(self) -> Float[np.ndarray, "rows columns 4"]:
        """The cells on the image, xyxy in pixels of the original."""
        row, column = np.mgrid[: self.tokens[0], : self.tokens[1]]
        corners = np.stack([column, row, column + 1, row + 1], axis=-1)
        return np.tile(self.image.extent[:2], 2) + corners * np.tile(self.cell, 2)

    def place(self, x: int, y: int) -> tuple[int, int]:
        """Row and column of the cell that holds a pixel of the original image.

        Raises:
            FieldError: there is no such pixel, or the model does not see it.
        """
        self.image.require(x, y)
        column, row = ((np.array([x, y]) + 0.5 - self.image.extent[:2]) // self.cell).astype(int)
        rows, columns = self.tokens  # not all of the image has a token where only whole patches make some
        return min(int(row), rows - 1), min(int(column), columns - 1)

    def token(self, x: int, y: int) -> int:
        """The number of the token that holds a pixel of the original, if the model sees it (see `place`)."""
        row, column = self.place(x, y)
        return row * self.map[1] + column

    def box(self, x: int, y: int) -> Float[np.ndarray, "4"]:
        """The cell that holds a pixel of the original, xyxy, if the model sees it (see `place`)."""
        return self.cells[self.place(x, y)]

    def on_image(self, values: Float[np.ndarray, "*some tokens"]) -> Float[np.ndarray, "*some rows columns"]:
        """What tokens have, as a map and without those on padding."""
        rows, columns = self.tokens
        return values.reshape(*values.shape[:-1], *self.map)[..., :rows, :columns]


def see(
    picture: Picture, classes: Classes, preprocess: Resize | CenterCrop, *, multiple: int = 32
) -> tuple[SeenImage, Batch]:
    """An image as evaluation gives it to a model: resized and padded to sides of a `multiple`, or cropped.

    Raises:
        DataError: the image is missing or cannot be read.
    """
    source = Pictures([picture], classes)
    pixels = source[0].image
    height, width = pixels.shape[:2]
    if isinstance(preprocess, CenterCrop):
        batch = load(source, CropEvaluationPlan(1, 1, preprocess)(0), max_objects=1)
        side = preprocess.size
        return SeenImage(preprocess(pixels), (height, width), _extent(preprocess, height, width), (side, side)), batch
    batch = load(source, EvaluationPlan(source.sizes, 1, preprocess, multiple=multiple)(0), max_objects=1)
    rows, columns = map(int, batch.sizes[0])
    return SeenImage(pixels, (height, width), np.array([0.0, 0.0, width, height]), (rows, columns)), batch


def _extent(crop: CenterCrop, height: int, width: int) -> Float[np.ndarray, "4"]:
    """Where the square of a centre crop lies in an image of that size: xyxy in its pixels."""
    resized = crop.sides(height, width)
    low = np.array(crop.corner(*resized)[::-1])
    return np.concatenate([low, low + crop.size]) * np.tile(np.array([width, height]) / resized[::-1], 2)
