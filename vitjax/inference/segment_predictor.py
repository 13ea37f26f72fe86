"""A trained segmentation model as a Python call."""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import flax.linen as nn
import numpy as np
from jaxtyping import UInt8
from PIL import Image
from tqdm import tqdm

from vitjax.data.errors import DataError
from vitjax.data.memory import Picture, Pictures
from vitjax.data.source import Classes, LabelMapSource, SizedSource
from vitjax.data.transforms import Resize
from vitjax.evaluation.detection import Evaluation
from vitjax.evaluation.segmentation import evaluate
from vitjax.explain.group_maps import Groups, groups_of
from vitjax.explain.looks import Looks, looks_of
from vitjax.explain.subject import Subject
from vitjax.inference.label_mapper import LabelMapper, Mapped
from vitjax.inference.prediction import name_of
from vitjax.placement import data_mesh, place_state
from vitjax.segmentation.label_map import BestLabel


@dataclasses.dataclass(frozen=True)
class Segmentation:
    """The class of every pixel of one image, and the classes on it, the largest first, with their shares of it."""

    label_map: UInt8[np.ndarray, "height width"]
    labels: tuple[int, ...]
    names: tuple[str, ...]
    shares: tuple[float, ...]


def segmentation(label_map: UInt8[np.ndarray, "height width"], classes: Classes) -> Segmentation:
    """The classes of a label map by name."""
    counts = np.bincount(label_map.ravel(), minlength=1)
    labels = [int(label) for label in np.argsort(-counts, kind="stable") if counts[label]]
    shares = tuple(float(counts[label] / label_map.size) for label in labels)
    return Segmentation(label_map, tuple(labels), tuple(name_of(classes, label) for label in labels), shares)


class SegmentPredictor:
    """Labels the pixels of paths, PIL images and arrays; compiles once per bucket of image sizes."""

    def __init__(
        self,
        model: nn.Module,
        variables: dict[str, Any],
        classes: Classes,
        *,
        resize: Resize,
        postprocess: BestLabel,
        step: int = 0,
    ) -> None:
        """Places the variables on all devices; `step` is the checkpoint's, for people."""
        mesh = data_mesh()
        self.model = model
        self.classes = classes
        self.step = step
        self._resize = resize
        self._multiple = 128 if (resize.size or 0) >= 512 else 32  # as coarse as a Predictor's
        self._devices = mesh.size
        self._variables = place_state(variables, mesh)
        self._mapper = LabelMapper(model, postprocess, resize, mesh)

    def __call__(self, pictures: Picture | Sequence[Picture]) -> Any:
        """The class of every pixel: a Segmentation, or a list of them for a list of images.

        Raises:
            DataError: an image is missing or cannot be read.
        """
        if isinstance(pictures, (str, Path, Image.Image, np.ndarray)):
            return self([pictures])[0]
        source = Pictures(pictures, self.classes)
        found = {one.record: one for one in self.label(source, batch_size=1 if len(source) == 1 else 8)}
        for one in found.values():
            if not one.readable:
                raise DataError(f"{source.name(one.record)} cannot be read as an image; is it truncated?")
        return [segmentation(found[record].label_map, self.classes) for record in range(len(source))]

    def label(self, source: SizedSource, *, batch_size: int, workers: int = 0) -> Iterator[Mapped]:
        """The label map of every record of a source, in batches of about `batch_size`."""
        batch_size = -(-batch_size // self._devices) * self._devices
        return self._mapper(self._variables, source, batch_size=batch_size, multiple=self._multiple, workers=workers)

    def evaluate(self, source: LabelMapSource, *, batch_size: int, workers: int = 0) -> Evaluation:
        """mIoU and accuracy on a source, with a progress bar where stderr is a terminal."""
        found = self.label(source, batch_size=batch_size, workers=workers)
        return evaluate(iter(tqdm(found, total=len(source), disable=None)), source)

    def looks(self, picture: Picture) -> Looks:
        """What the attention modules of the model do on one image: `.of_pixel(x, y)` tells it.

        Raises:
            ValueError: the model has no module that tells it.
            DataError: the image is missing or cannot be read.
        """
        return looks_of(self.subject, picture)

    def groups(self, picture: Picture) -> Groups:
        """Which tokens of a CrossFormer backbone attend to each other on one image: `.of_pixel(x, y)` tells them.

        Raises:
            ValueError: the backbone is no CrossFormer.
            DataError: the image is missing or cannot be read.
        """
        return groups_of(self.subject, picture)

    @property
    def subject(self) -> Subject:
        """What explanations are made of: the model, and how images are prepared for it."""
        return Subject(self.model, self._variables, self._resize, self.classes, self._multiple)
