"""What predicting asks of a task; `vitjax/tasks` has one object of this kind for each."""

import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import flax.linen as nn
import numpy as np
from jaxtyping import UInt8
from PIL.Image import Image as Picture

from vitjax.data.plan import Plan
from vitjax.data.source import Classes, Sample
from vitjax.data.transforms import Resize
from vitjax.errors import FieldError
from vitjax.evaluation.scores import Evaluation
from vitjax.prediction import Answer
from vitjax.structs import Batch

if TYPE_CHECKING:
    from vitjax.data.crops import CenterCrop
    from vitjax.data.mask_source import PanopticMap
    from vitjax.evaluation.checks import Checks
    from vitjax.inference.results import Origin, Results

Image = UInt8[np.ndarray, "height width 3"]


@dataclasses.dataclass(frozen=True)
class Asked:
    """What people ask of predictions; None is what the model's post-processing says."""

    threshold: float | None = None
    """Lowest score of a box that is shown."""
    top: int | None = None
    """Most boxes, or classes, of an image."""
    nms: float | None = None
    """IoU with a better box of the same class above which a box is left out."""
    tiles: int | str | None = None
    """Side in pixels of the tiles that large images are cut into; "own" is the size that the model sees."""
    tile_overlap: float | None = None
    """Share of its side that a tile has in common with the next; a quarter where nobody says."""

    def __post_init__(self) -> None:
        """Raises a FieldError for what is no IoU or no number of things."""
        if self.nms is not None and not 0 <= self.nms <= 1:
            raise FieldError(f"non-maximum suppression (nms) needs an IoU from 0 to 1; got {self.nms}.")
        if self.top is not None and self.top < 1:
            raise FieldError(f"top is at least 1, got {self.top}.")
        if self.tiles not in (None, "own") and not (type(self.tiles) is int and self.tiles >= 16):
            raise FieldError(f"tiles is a side of at least 16 pixels, or own; got {self.tiles!r}.")
        if self.tile_overlap is not None and not 0 <= self.tile_overlap <= 0.75:
            raise FieldError(f"tile_overlap is a share of a tile from 0 to 0.75; got {self.tile_overlap}.")

    def given(self) -> list[str]:
        """The names of what is asked for."""
        return [field.name for field in dataclasses.fields(self) if getattr(self, field.name) is not None]


NOTHING_ASKED = Asked()


@dataclasses.dataclass(frozen=True)
class Page:
    """How a page of pictures is laid out: how many there are, in how many columns, and the width of each in pixels.

    The images are the first of the source or, with `spread`, from all over it.
    """

    images: int
    columns: int
    tile: int | None = None
    spread: bool = False


@dataclasses.dataclass(frozen=True)
class About:
    """What is fixed for a kind of model."""

    headline: tuple[str, ...]
    """The scores that are told while training; the first decides which checkpoint is best."""
    scores: tuple[str, ...]
    """All scores of an evaluation."""
    columns: tuple[str, ...]
    """Those of predictions.csv; that of the frame is left out where there are no videos."""
    page: Page
    """The layout of the page of pictures."""
    curves: tuple[str, tuple[str, ...]]
    """The file name of the picture of curves in a run's report, and the scores on it."""
    draws: bool = True
    """Whether pictures are written."""
    folders: tuple[str, ...] = ()
    """Where further pictures are written, below the folder of the results."""
    wrote: str = "pictures, "
    """What is written beside the results, for people."""
    top: int | None = None
    """Most results of an image in files where nobody asks."""
    no_videos: str | None = None
    """Why a video cannot be given, as the error says it; None where it can."""


class Task(Protocol):
    """A model with what is done before and after it, and all that is particular to its kind."""

    @property
    def model(self) -> nn.Module:
        """The network."""
        ...

    @property
    def preprocess(self) -> "Resize | CenterCrop":
        """What is done to images before it."""
        ...

    @property
    def postprocess(self) -> Any:
        """What is done to its answers on the device."""
        ...

    @property
    def about(self) -> "About":
        """What is fixed for every model of the kind."""
        ...

    @property
    def images_per_device(self) -> int | None:
        """The most images that a device can see at once; None where nothing limits it."""
        ...

    def allow(self, asked: Asked) -> None:
        """Raises a FieldError where something is asked for that the task does not know."""
        ...

    def asked(self, asked: Asked) -> "Task":
        """The task whose compiled step gives what is asked for."""
        ...

    def plan(self, source: Any, batch_size: int, *, multiple: int) -> Plan:
        """Batches of every record of a source; sides are padded to a multiple."""
        ...

    def finish(self, answer: Any, batch: Batch) -> Any:
        """On the device: what the model's answer comes to; the first axis of every array is the batch."""
        ...

    def prediction(self, row: Any, classes: Classes) -> Any:
        """On the host: what `finish` says of one image, by name."""
        ...

    def kept(self, prediction: Any, asked: Asked) -> Any:
        """What goes into the results."""
        ...

    def shown(self, kept: Any, asked: Asked) -> Any:
        """What people see of it: the answer of a call from Python, and what is drawn."""
        ...

    def results(self, kept: Any, origin: "Origin", image_id: int, classes: Classes, picture: str) -> "Results":
        """What the files of results say of an image; `picture` is the file name of its pictures."""
        ...

    def lines(self, path: Path, kept: Any) -> tuple[str, ...]:
        """What is printed of an image as soon as it is done."""
        ...

    def summary(self, drawn: int, asked: Asked) -> tuple[str, ...]:
        """What is printed when all images are done and so many things were drawn on them."""
        ...

    def drawn(self, image: Image, shown: Any, classes: Classes) -> Image:
        """The image with what is shown on it."""
        ...

    def beside(self, image: Image, found: Any, classes: Classes) -> "Mapping[str, Picture | PanopticMap]":
        """Further pictures of an image by folder, or its segments; `found` is the whole prediction."""
        ...

    def page_picture(self, answer: Answer, sample: Sample, classes: Classes, name: str) -> tuple[Image, str]:
        """Picture and caption of an image on the page."""
        ...

    def evaluate(self, answers: Iterable[Answer], source: Any) -> Evaluation:
        """The scores of what is predicted on a source."""
        ...

    @property
    def checks(self) -> "Checks":
        """What tells whether a model of the kind is any good, beside its scores."""
        ...
