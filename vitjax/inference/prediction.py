"""What is found on one image, or what it is taken for, by name."""

import dataclasses

import numpy as np
from jaxtyping import Float, Int

from vitjax.data.source import Classes
from vitjax.inference.detector import Found
from vitjax.inference.recognizer import Recognized
from vitjax.segmentation.masks import Masks


@dataclasses.dataclass(frozen=True)
class Prediction:
    """What is found on one image, best first: boxes are xyxy in its pixels.

    Of a model that makes masks, `masks[i]` tells the pixels of the i-th detection.
    """

    boxes: Float[np.ndarray, "detections 4"]
    scores: Float[np.ndarray, " detections"]
    labels: Int[np.ndarray, " detections"]
    names: tuple[str, ...]
    masks: Masks | None = None

    def __len__(self) -> int:
        """The number of detections."""
        return len(self.scores)

    def take(self, rows: Int[np.ndarray, " taken"]) -> "Prediction":
        """The detections of these numbers."""
        names = tuple(self.names[row] for row in rows)
        masks = None if self.masks is None else self.masks.take(rows)
        return Prediction(self.boxes[rows], self.scores[rows], self.labels[rows], names, masks)


def select(found: Found, classes: Classes, threshold: float) -> Prediction:
    """The detections of an image whose score reaches the threshold, best first."""
    order = np.argsort(-found.scores, kind="stable")
    order = order[found.scores[order] >= threshold]
    labels = found.labels[order]
    names = tuple(name_of(classes, label) for label in labels)
    masks = None if found.masks is None else found.masks.take(order)
    return Prediction(found.boxes[order], found.scores[order], labels, names, masks)


@dataclasses.dataclass(frozen=True)
class Recognition:
    """What an image is taken for, most probable class first."""

    names: tuple[str, ...]
    scores: Float[np.ndarray, " k"]
    labels: Int[np.ndarray, " k"]

    def __len__(self) -> int:
        """The number of classes."""
        return len(self.scores)


def recognition(recognized: Recognized, classes: Classes) -> Recognition:
    """The classes of an image by name."""
    names = tuple(name_of(classes, label) for label in recognized.labels)
    return Recognition(names, recognized.scores, recognized.labels)


def name_of(classes: Classes, label: int) -> str:
    """What a label is called; its number where the data has no name for it."""
    name = classes.names[label] if label < len(classes.names) else ""
    return name or str(int(label))
