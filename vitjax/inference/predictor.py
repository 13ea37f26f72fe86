"""A trained detector as a Python call, and the loading of any trained model."""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import flax.linen as nn
import numpy as np
from PIL import Image
from tqdm import tqdm

from vitjax.data.crops import CenterCrop
from vitjax.data.errors import DataError
from vitjax.data.memory import Picture, Pictures
from vitjax.data.source import Classes, DetectionSource, SizedSource
from vitjax.data.transforms import Resize
from vitjax.detection.postprocess import Postprocess
from vitjax.evaluation.detection import Evaluation, evaluate
from vitjax.explain.attention_maps import Attention, attention_of
from vitjax.explain.group_maps import Groups, groups_of
from vitjax.explain.looks import Looks, looks_of
from vitjax.explain.sampling_points import Sampling, sampling_of
from vitjax.explain.subject import Subject
from vitjax.inference.class_predictor import ClassPredictor
from vitjax.inference.detector import Detector, Found
from vitjax.inference.prediction import select
from vitjax.inference.segment_predictor import SegmentPredictor
from vitjax.placement import data_mesh, place_state
from vitjax.runs.read_model import read_model
from vitjax.segmentation.detr_masks import MaskDETR, detector_inside
from vitjax.segmentation.label_map import BestLabel


class Predictor:
    """Detects on paths, PIL images and arrays; compiles once per bucket of image sizes."""

    def __init__(
        self,
        model: nn.Module,
        variables: dict[str, Any],
        classes: Classes,
        *,
        resize: Resize,
        postprocess: Postprocess,
        step: int = 0,
    ) -> None:
        """Places the variables on all devices; `step` is the checkpoint's, for people."""
        mesh = data_mesh()
        self.model = model
        self.classes = classes
        self.step = step
        self._resize = resize
        self._devices = mesh.size
        self._variables = place_state(variables, mesh)
        self._detector = self._boxes = Detector(model, postprocess, resize, mesh)
        self._inside = detector_inside(model, self._variables)
        if isinstance(model, MaskDETR):
            self._boxes = Detector(self._inside[0], postprocess, resize, mesh)

    def __call__(self, pictures: Picture | Sequence[Picture], *, threshold: float | None = None) -> Any:
        """The detections that reach the threshold: a Prediction, or a list of them for a list of images.

        Without a threshold it is `self.threshold`.

        Raises:
            DataError: an image is missing or cannot be read.
        """
        if isinstance(pictures, (str, Path, Image.Image, np.ndarray)):
            return self([pictures], threshold=threshold)[0]
        threshold = self.threshold if threshold is None else threshold
        source = Pictures(pictures, self.classes)
        found = {one.record: one for one in self.detect(source, batch_size=1 if len(source) == 1 else 8)}
        for one in found.values():
            if not one.readable:
                raise DataError(f"{source.name(one.record)} cannot be read as an image; is it truncated?")
        return [select(found[record], self.classes, threshold) for record in range(len(source))]

    @property
    def threshold(self) -> float:
        """Score from which a detection is shown to people."""
        return self._detector.threshold

    def detect(self, source: SizedSource, *, batch_size: int, workers: int = 0) -> Iterator[Found]:
        """What is found on every record of a source, unfiltered, in batches of about `batch_size`.

        A model that makes masks sees one image per device at a time: it needs more than a gigabyte for each.
        """
        batch_size = 1 if isinstance(self.model, MaskDETR) else batch_size
        return self._run(self._detector, self._variables, source, batch_size, workers)

    def evaluate(self, source: DetectionSource, *, batch_size: int, workers: int = 0) -> Evaluation:
        """COCO's scores of the boxes on a source, with a progress bar where stderr is a terminal."""
        found = self._run(self._boxes, self._inside[1], source, batch_size, workers)
        return evaluate(iter(tqdm(found, total=len(source), disable=None)), source)

    @property
    def subject(self) -> Subject:
        """What explanations are made of: the detector, and how images are prepared for it."""
        return Subject(*self._inside, self._resize, self.classes, self._multiple, self.threshold)

    def sampling(self, picture: Picture) -> Sampling:
        """Where a Deformable DETR samples one image: `.of_query()` and `.of_pixel(x, y)` tell the points.

        Raises:
            ValueError: the model is no DeformableDETR.
            DataError: the image is missing or cannot be read.
        """
        return sampling_of(self.subject, picture)

    def attention(self, picture: Picture) -> Attention:
        """What a DETR attends to on one image: `.of_query()` and `.of_pixel(x, y)` tell the weights.

        Raises:
            ValueError: the model is no DETR.
            DataError: the image is missing or cannot be read.
        """
        return attention_of(self.subject, picture)

    def groups(self, picture: Picture) -> Groups:
        """Which tokens of a CrossFormer backbone attend to each other on one image: `.of_pixel(x, y)` tells them.

        Raises:
            ValueError: the backbone is no CrossFormer.
            DataError: the image is missing or cannot be read.
        """
        return groups_of(self.subject, picture)

    def looks(self, picture: Picture) -> Looks:
        """What the attention modules of the backbone do on one image: `.of_pixel(x, y)` tells it.

        Raises:
            ValueError: the model has none that tells it.
            DataError: the image is missing or cannot be read.
        """
        return looks_of(self.subject, picture)

    def _run(
        self, detector: Detector, variables: dict[str, Any], source: SizedSource, batch_size: int, workers: int
    ) -> Iterator[Found]:
        batch_size = -(-batch_size // self._devices) * self._devices
        return detector(variables, source, batch_size=batch_size, multiple=self._multiple, workers=workers)

    @property
    def _multiple(self) -> int:
        """What padded sides are a multiple of: coarse, so that photographs of many sizes share few compilations."""
        return 128 if (self._resize.size or 0) >= 512 else 32


def load(source: str | Path, *, step: int | None = None) -> Predictor | ClassPredictor | SegmentPredictor:
    """The predictor of a run folder, an official file, or a folder or repository in Hugging Face's layout.

    Of a run its best checkpoint is taken, or that of a step.

    Raises:
        DataError: there is no such model, or no such checkpoint.
        PublishedError: the tensors are not those of a model that is known.
    """
    file = read_model(source, step=step)
    for note in file.notes:
        print(note, file=sys.stderr)
    parts: dict[str, Any] = {"postprocess": file.postprocess, "step": file.step}
    if isinstance(file.postprocess, BestLabel):
        resize: Any = file.resize  # an experiment makes sure of it
        return SegmentPredictor(file.model, file.variables, file.classes, resize=resize, **parts)
    if isinstance(file.resize, CenterCrop):
        return ClassPredictor(file.model, file.variables, file.classes, crop=file.resize, **parts)
    return Predictor(file.model, file.variables, file.classes, resize=file.resize, **parts)
