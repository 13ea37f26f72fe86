"""What people get of one image: boxes, classes or a label map, with names."""

import dataclasses
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Protocol

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from vitjax.data.errors import DataError
from vitjax.data.source import Classes


class MaskRows(Protocol):
    """The masks of an image's detections, made one at a time."""

    def __len__(self) -> int:
        """The number of masks."""
        ...

    def __getitem__(self, detection: int) -> Bool[np.ndarray, "height width"]:
        """The pixels of the image that belong to a detection."""
        ...

    def take(self, rows: Int[np.ndarray, " taken"]) -> "MaskRows":
        """The masks of these numbers."""
        ...


class Answer(NamedTuple):
    """What is predicted for one record, None where its image could not be read, with the labels that the source has."""

    record: int
    truth: Int[np.ndarray, " objects"]
    prediction: Any | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Result:
    """What can be done with an answer of a Predictor, which knows the image; `view` is None of one made without."""

    holds: ClassVar[str] = "classes"
    view: Any = dataclasses.field(default=None, repr=False, compare=False)

    def draw(self) -> Any:
        """A PIL image: the image with what is predicted on it; of a classifier the classes stand below."""
        return self._view.draw(self)

    def save(self, path: str | Path = "predictions") -> Path:
        """Writes a picture, or what a .json or .csv path says; into a folder a picture called as the image is."""
        return self._view.save(self, path)

    def to_dict(self) -> dict[str, Any]:
        """What json can hold: the image with its height and width, and what is found, boxes as x1, y1, x2, y2."""
        return self._view.to_dict(self)

    def to_pandas(self) -> Any:
        """A pandas DataFrame with a row for each thing found; a FieldError says where there is no pandas."""
        return self._view.to_pandas(self)

    @property
    def _view(self) -> Any:
        if self.view is None:
            raise DataError(f"this {type(self).__name__} was made without an image; call a Predictor with one.")
        return self.view


@dataclasses.dataclass(frozen=True)
class Prediction(Result):
    """What is found on one image: boxes are xyxy in its pixels, the best first where they are for people.

    Of a model that makes masks, `masks[i]` tells the pixels of the i-th detection.
    """

    holds: ClassVar[str] = "detections"

    boxes: Float[np.ndarray, "detections 4"]
    scores: Float[np.ndarray, " detections"]
    labels: Int[np.ndarray, " detections"]
    names: tuple[str, ...]
    masks: MaskRows | None = None

    def __len__(self) -> int:
        """The number of detections."""
        return len(self.scores)

    def take(self, rows: Int[np.ndarray, " taken"]) -> "Prediction":
        """The detections of these numbers."""
        names = tuple(self.names[row] for row in rows)
        masks = None if self.masks is None else self.masks.take(rows)
        return Prediction(self.boxes[rows], self.scores[rows], self.labels[rows], names, masks, view=self.view)

    def best_first(self) -> "Prediction":
        """The detections by falling score; of equal ones the first comes first."""
        return self.take(np.argsort(-self.scores, kind="stable"))

    def reaching(self, threshold: float) -> "Prediction":
        """The detections whose score reaches the threshold."""
        return self.take(np.flatnonzero(self.scores >= threshold))


@dataclasses.dataclass(frozen=True)
class Recognition(Result):
    """What an image is taken for, most probable class first."""

    names: tuple[str, ...]
    scores: Float[np.ndarray, " k"]
    labels: Int[np.ndarray, " k"]

    def __len__(self) -> int:
        """The number of classes."""
        return len(self.scores)


@dataclasses.dataclass(frozen=True)
class Labelling(Result):
    """The class of every pixel of one image, and the classes on it, the largest first, with their shares of it."""

    label_map: UInt8[np.ndarray, "height width"]
    labels: tuple[int, ...]
    names: tuple[str, ...]
    shares: tuple[float, ...]

    def __len__(self) -> int:
        """The number of classes on the image."""
        return len(self.labels)


def labelling(label_map: UInt8[np.ndarray, "height width"], classes: Classes) -> Labelling:
    """The classes of a label map by name."""
    counts = np.bincount(label_map.ravel(), minlength=1)
    labels = [int(label) for label in np.argsort(-counts, kind="stable") if counts[label]]
    shares = tuple(float(counts[label] / label_map.size) for label in labels)
    return Labelling(label_map, tuple(labels), names_of(classes, labels), shares)


def name_of(classes: Classes, label: int) -> str:
    """What a label is called; its number where the data has no name for it."""
    name = classes.names[label] if label < len(classes.names) else ""
    return name or str(int(label))


def names_of(classes: Classes, labels: Any) -> tuple[str, ...]:
    """What some labels are called."""
    return tuple(name_of(classes, label) for label in labels)
