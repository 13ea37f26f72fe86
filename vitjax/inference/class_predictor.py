"""A trained classifier as a Python call."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import flax.linen as nn
import numpy as np
from PIL import Image
from tqdm import tqdm

from vitjax.classification.postprocess import TopClasses
from vitjax.data.crops import CenterCrop
from vitjax.data.errors import DataError
from vitjax.data.memory import Picture, Pictures
from vitjax.data.source import Classes, Source
from vitjax.evaluation.classification import evaluate
from vitjax.evaluation.detection import Evaluation
from vitjax.explain.group_maps import Groups, groups_of
from vitjax.explain.looks import Looks, looks_of
from vitjax.explain.subject import Subject
from vitjax.inference.prediction import recognition
from vitjax.inference.recognizer import Recognized, Recognizer
from vitjax.placement import data_mesh, place_state


class ClassPredictor:
    """Tells what paths, PIL images and arrays show; compiles once per number of images at a time."""

    def __init__(
        self,
        model: nn.Module,
        variables: dict[str, Any],
        classes: Classes,
        *,
        crop: CenterCrop,
        postprocess: TopClasses,
        step: int = 0,
    ) -> None:
        """Places the variables on all devices; `step` is the checkpoint's, for people."""
        mesh = data_mesh()
        self.model = model
        self.classes = classes
        self.step = step
        self._crop = crop
        self._devices = mesh.size
        self._variables = place_state(variables, mesh)
        self._recognizer = Recognizer(model, postprocess, crop, mesh)

    def __call__(self, pictures: Picture | Sequence[Picture], *, top: int | None = None) -> Any:
        """The `top` most probable classes: a Recognition, or a list of them for a list of images.

        Without `top` there are as many as the run's post-processing says, usually five.

        Raises:
            DataError: an image is missing or cannot be read.
        """
        if isinstance(pictures, (str, Path, Image.Image, np.ndarray)):
            return self([pictures], top=top)[0]
        source = Pictures(pictures, self.classes)
        found = list(self.recognize(source, batch_size=1 if len(source) == 1 else 8, top=top))
        for one in found:
            if not one.readable:
                raise DataError(f"{source.name(one.record)} cannot be read as an image; is it truncated?")
        return [recognition(one, self.classes) for one in found]

    def recognize(
        self, source: Source, *, batch_size: int, top: int | None = None, workers: int = 0
    ) -> Iterator[Recognized]:
        """The best classes of every record of a source, in order, in batches of about `batch_size`."""
        batch_size = -(-batch_size // self._devices) * self._devices
        return self._recognizer(self._variables, source, batch_size=batch_size, top=top, workers=workers)

    def evaluate(self, source: Source, *, batch_size: int, workers: int = 0) -> Evaluation:
        """Top-1 and top-5 accuracy on a source, with a progress bar where stderr is a terminal."""
        recognized = self.recognize(source, batch_size=batch_size, workers=workers)
        return evaluate(iter(tqdm(recognized, total=len(source), disable=None)), source)

    @property
    def subject(self) -> Subject:
        """What explanations are made of: the model, and how images are prepared for it."""
        return Subject(self.model, self._variables, self._crop, self.classes)

    def groups(self, picture: Picture) -> Groups:
        """Which tokens of a CrossFormer attend to each other on one image: `.of_pixel(x, y)` tells them.

        Raises:
            ValueError: the backbone is no CrossFormer.
            DataError: the image is missing or cannot be read.
        """
        return groups_of(self.subject, picture)

    def looks(self, picture: Picture) -> Looks:
        """What the attention modules of the model do on one image: `.of_pixel(x, y)` tells it.

        Raises:
            ValueError: the model has none that tells it.
            DataError: the image is missing or cannot be read.
        """
        return looks_of(self.subject, picture)
