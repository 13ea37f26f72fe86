"""The scenes of digits, and what all sources of handwritten digits have in common."""

import functools
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import cv2
import numpy as np
from jaxtyping import Float, Int, UInt8

from vitjax.data.annotations import Annotations
from vitjax.data.digits import SPLITS, Digits
from vitjax.data.source import Classes, Sample

_DIGITS = Classes(tuple("0123456789"), tuple(range(1, 11)))
_INK = 0.35  # share of full ink from which a pixel counts as drawn
_GLYPH_HEIGHT = 64  # pixels; digits are kept this high and shrunk into the scene
_PLACES = 16  # places tried before a digit is left out because it would overlap too much


class Scene(NamedTuple):
    """A scene as it is drawn: the image, whose ink is seen at each pixel (-1: nobody's), and which digit everyone is.

    A digit whose ink is nowhere seen was left out.
    """

    image: UInt8[np.ndarray, "height width 3"]
    owner: Int[np.ndarray, "height width"]
    digits: Int[np.ndarray, " owners"]


class OpenedDigits(ABC):
    """What every opened split of digits is: records that are counted from 1 and are no files."""

    called: ClassVar[str]
    split: str
    problems: tuple[str, ...] = ()

    @property
    def image_ids(self) -> range:
        """The records, counted from 1."""
        return range(1, len(self) + 1)

    @abstractmethod
    def __len__(self) -> int:
        """The number of records."""

    def name(self, record: int) -> str:
        """A name for messages; there is no such file."""
        return f"{self.called}/{self.split}/{record}"

    def require(self, record: int) -> None:
        """Raises an IndexError for a record that there is not."""
        if not 0 <= record < len(self):
            raise IndexError(f"{self.called}/{self.split} has records 0 to {len(self) - 1}; got {record}.")


@dataclass(frozen=True)
class DigitScenes(OpenedDigits):
    """One split of `Digits`, opened; a Source."""

    called: ClassVar[str] = "digits"

    config: Digits
    split: str
    classes: Classes = _DIGITS  # their category ids start at 1

    @functools.cached_property
    def sizes(self) -> Int[np.ndarray, "records 2"]:
        """Height and width, the same for every scene."""
        return np.tile(np.array([[self.config.height, self.config.width]], np.int32), (len(self), 1))

    @property
    def max_objects(self) -> int:
        """The most digits on a scene."""
        return self.config.max_digits

    def __len__(self) -> int:
        """The number of scenes."""
        return self.config.train_images if self.split == "train" else self.config.val_images

    def __getitem__(self, record: int) -> Sample:
        """The scene of a record, with the boxes around the ink of its digits."""
        image, owner, digits = self.scene(record)
        seen = [(_extent(owner == index), digit) for index, digit in enumerate(digits) if np.any(owner == index)]
        boxes, labels = zip(*seen, strict=True)
        return Sample(image, np.array(boxes, np.float32), np.array(labels, np.int32))

    def scene(self, record: int) -> Scene:
        """The scene of a record, composed anew each time."""
        self.require(record)
        rng = np.random.default_rng((self.config.seed, SPLITS.index(self.split), int(record)))
        return _compose(self.config, *_handwriting(self.split), rng)

    def ground_truth(self) -> dict:
        """COCO instances of all scenes, from composing every one of them."""
        scenes = [self[record] for record in range(len(self))]
        boxes = np.concatenate([scene.boxes for scene in scenes]).astype(np.float64)
        table = Annotations(
            records=np.repeat(np.arange(len(self)), [len(scene.labels) for scene in scenes]),
            boxes=boxes,
            labels=np.concatenate([scene.labels for scene in scenes]),
            areas=np.prod(boxes[:, 2:] - boxes[:, :2], axis=1),
            crowds=np.zeros(len(boxes), bool),
        )
        names = [self.name(record) for record in range(len(self))]
        return table.instances(self.image_ids, names, self.sizes, self.classes)


def handwritten(split: str) -> tuple[Float[np.ndarray, "digits 8 8"], Int[np.ndarray, " digits"]]:
    """The digits of a split as they are stored: ink from 0 to 16; and which digits they are."""
    from sklearn.datasets import load_digits  # takes a second, so only where digits are wanted

    images, labels = load_digits(return_X_y=True)
    mine = (np.arange(len(labels)) % 5 == 0) == (split == "val")
    return images[mine].reshape(-1, 8, 8), labels[mine].astype(np.int32)


@functools.cache
def _handwriting(split: str) -> tuple[list[Float[np.ndarray, "height width"]], Int[np.ndarray, " digits"]]:
    """The digits of a split: ink in [0, 1], cut to what is drawn; and which digits they are."""
    images, labels = handwritten(split)
    return [_smooth(image) for image in images], labels


def _smooth(coarse: Float[np.ndarray, "8 8"]) -> Float[np.ndarray, "height width"]:
    fine = cv2.resize(np.pad(coarse / 16, 1).astype(np.float32), (80, 80), interpolation=cv2.INTER_CUBIC)
    ink = np.clip(2.5 * fine - 0.75, 0, 1)  # half ink at half height keeps the holes of 6, 8 and 9 open
    left, top, right, bottom = _extent(ink > _INK)
    ink = ink[top:bottom, left:right]
    width = round(_GLYPH_HEIGHT * (right - left) / (bottom - top))
    return cv2.resize(ink, (width, _GLYPH_HEIGHT), interpolation=cv2.INTER_LINEAR)


def _extent(drawn: np.ndarray) -> tuple[int, int, int, int]:
    rows, columns = np.flatnonzero(drawn.any(1)), np.flatnonzero(drawn.any(0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _compose(config: Digits, glyphs: list[np.ndarray], digits: np.ndarray, rng: np.random.Generator) -> Scene:
    chosen = rng.integers(len(digits), size=rng.integers(config.min_digits, config.max_digits + 1))
    paper = rng.uniform(0, 1 - config.max_contrast, size=3)
    canvas = _background(config, paper, rng)
    owner = np.full((config.height, config.width), -1, np.int16)
    taken = np.zeros((0, 4), int)
    for index, glyph in enumerate(chosen):
        ink = _resized(glyphs[glyph], int(rng.integers(config.min_size, config.max_size + 1)), config.width)
        contrast = rng.uniform(config.min_contrast, config.max_contrast, size=3)
        box = _free_place(config, taken, ink.shape, rng)
        if box is None:
            continue
        taken = np.vstack([taken, box])
        window = slice(box[1], box[3]), slice(box[0], box[2])
        canvas[window] += ink[:, :, None] * (paper + contrast - canvas[window])
        owner[window][ink > _INK] = index
    canvas += config.noise * rng.standard_normal(canvas.shape, np.float32)
    canvas = canvas if rng.random() < 0.5 else 1 - canvas  # light ink as often as dark ink
    return Scene((canvas.clip(0, 1) * 255).astype(np.uint8), owner, digits[chosen])


def _background(config: Digits, paper: np.ndarray, rng: np.random.Generator) -> Float[np.ndarray, "height width 3"]:
    coarse = config.clutter * rng.standard_normal((config.height // 8 + 1, config.width // 8 + 1, 3), np.float32)
    blots = cv2.resize(coarse, (config.width, config.height), interpolation=cv2.INTER_LINEAR)
    return blots + paper.astype(np.float32)


def _resized(glyph: np.ndarray, height: int, most: int) -> Float[np.ndarray, "height width"]:
    width = min(most, max(2, round(glyph.shape[1] * height / _GLYPH_HEIGHT)))
    method = cv2.INTER_AREA if height <= _GLYPH_HEIGHT else cv2.INTER_LINEAR
    return cv2.resize(glyph, (width, height), interpolation=method)


def _free_place(
    config: Digits, taken: Int[np.ndarray, "placed 4"], size: tuple[int, ...], rng: np.random.Generator
) -> Int[np.ndarray, " 4"] | None:
    """A random xyxy place for a digit of (height, width) that overlaps no other too much, if one is found."""
    corner = rng.integers((config.width - size[1] + 1, config.height - size[0] + 1), size=(_PLACES, 2))
    places = np.concatenate([corner, corner + size[::-1]], axis=1)
    sides = np.minimum(places[:, None, 2:], taken[:, 2:]) - np.maximum(places[:, None, :2], taken[:, :2])
    shared = sides.clip(min=0).prod(-1)
    union = size[0] * size[1] + (taken[:, 2:] - taken[:, :2]).prod(-1) - shared
    free = np.flatnonzero(np.all(shared <= config.max_overlap * union, axis=1))
    return places[free[0]] if len(free) else None
