"""What people get of one image: boxes, classes or a label map, with names."""

import dataclasses
from typing import Any, NamedTuple, Protocol

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

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


@dataclasses.dataclass(frozen=True)
class Prediction:
    """What is found on one image: boxes are xyxy in its pixels, the best first where they are for people.

    Of a model that makes masks, `masks[i]` tells the pixels of the i-th detection.
    """

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
        return Prediction(self.boxes[rows], self.scores[rows], self.labels[rows], names, masks)

    def best_first(self) -> "Prediction":
        """The detections by falling score; of equal ones the first comes first."""
        return self.take(np.argsort(-self.scores, kind="stable"))

    def reaching(self, threshold: float) -> "Prediction":
        """The detections whose score reaches the threshold."""
        return self.take(np.flatnonzero(self.scores >= threshold))


@dataclasses.dataclass(frozen=True)
class Recognition:
    """What an image is taken for, most probable class first."""

    names: tuple[str, ...]
    scores: Float[np.ndarray, " k"]
    labels: Int[np.ndarray, " k"]

    def __len__(self) -> int:
        """The number of classes."""
        return len(self.scores)


@dataclasses.dataclass(frozen=True)
class Labelling:
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
