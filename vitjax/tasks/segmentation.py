"""Labelling every pixel: what a segmenter's run is made of, and how it predicts, is scored, saved and drawn."""

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import Mesh
from PIL import Image as Pillow

from vitjax.data.digit_maps import DigitMaps
from vitjax.data.geometry import resize_labels
from vitjax.data.label_map_folder import LabelMapFolder
from vitjax.data.plan import EvaluationPlan
from vitjax.data.source import NO_LABEL, Classes, LabelMapSource, Sample, SizedSource
from vitjax.data.transforms import Augmentation, Resize
from vitjax.drawing.boxes import enlarged
from vitjax.drawing.label_maps import draw_label_map, label_picture, legend, with_legend
from vitjax.errors import FieldError
from vitjax.evaluation import segmentation
from vitjax.evaluation.scores import Evaluation
from vitjax.inference.results import Origin, Results
from vitjax.inference.task import About, Asked, Image, Page
from vitjax.ops.images import images_of
from vitjax.prediction import Answer, Labelling, labelling
from vitjax.segmentation.label_map import BestLabel
from vitjax.segmentation.pixel_loss import PixelCrossEntropy
from vitjax.segmentation.segmenter import Segmenter
from vitjax.structs import Batch, LabelMaps, PixelLogits, Terms
from vitjax.tasks.objective import Evaluated, Objective, forward
from vitjax.tasks.sized import SizedExperiment

if TYPE_CHECKING:
    from vitjax.evaluation.checks import Checks

LABELS = "labels"
"""The folder of the label maps."""


@dataclasses.dataclass(frozen=True)
class PixelLabeller:
    """A segmentation model with its resizing; a Task."""

    about: ClassVar[About] = About(
        headline=("mIoU", "accuracy"),
        scores=("mIoU", "accuracy"),
        columns=("file", "label", "name", "share"),
        page=Page(images=8, columns=2, tile=1200),
        curves=("miou.png", ("mIoU", "accuracy")),
        folders=(LABELS,),
        wrote="pictures, label maps in labels, ",
        no_videos="label maps are made of images; take out its frames as images",
    )

    model: nn.Module
    preprocess: Resize
    postprocess: BestLabel

    @property
    def images_per_device(self) -> None:
        """Nothing limits them."""
        return None

    def allow(self, asked: Asked) -> None:
        """Raises a FieldError where anything but tiles is asked for."""
        if given := [name for name in asked.given() if not name.startswith("tile")]:
            raise FieldError(f"--{given[0]} is not for a segmentation model, which gives every pixel its best class.")

    def asked(self, asked: Asked) -> "PixelLabeller":
        """Itself."""
        return self

    def plan(self, source: SizedSource, batch_size: int, *, multiple: int) -> EvaluationPlan:
        """Buckets of image sizes."""
        return EvaluationPlan(source.sizes, batch_size, self.preprocess, multiple=multiple)

    def finish(self, answer: Any, batch: Batch) -> LabelMaps:
        """The best label of every pixel that the model saw."""
        return LabelMaps(self.postprocess(answer.outputs[0]), batch.sizes, batch.original_sizes)

    def prediction(self, row: LabelMaps, classes: Classes) -> Labelling:
        """The label map, as large as the image came from the source, and what is on it."""
        (height, width), original = row.sizes.tolist(), row.original_sizes.tolist()
        label_map = resize_labels(np.asarray(row.labels)[:height, :width], (original[0], original[1]))
        return labelling(label_map, classes)

    def kept(self, prediction: Labelling, asked: Asked) -> Labelling:
        """All of it."""
        return prediction

    def shown(self, kept: Labelling, asked: Asked) -> Labelling:
        """All of it."""
        return kept

    def results(self, kept: Labelling, origin: Origin, image_id: int, classes: Classes, picture: str) -> Results:
        """The file with its label map and the share of every class on it, and a row for each class."""
        triples = zip(kept.labels, kept.names, kept.shares, strict=True)
        shares = [{"label": label, "name": name, "share": round(share, 6)} for label, name, share in triples]
        rows = [{**origin.cells, **one} for one in shares]
        return [{**origin.keys, "label_map": f"{LABELS}/{picture}", "classes": shares}], rows

    def lines(self, path: Path, kept: Labelling) -> tuple[str, ...]:
        """Nothing: there is a picture."""
        return ()

    def summary(self, drawn: int, asked: Asked) -> tuple[str, ...]:
        """Nothing."""
        return ()

    def drawn(self, image: Image, shown: Labelling, classes: Classes) -> Image:
        """The image with its labels in colours over it, and their names beneath."""
        return with_legend(draw_label_map(image, shown.label_map, classes.names), legend(shown, classes.names))

    def beside(self, image: Image, found: Labelling, classes: Classes) -> dict[str, Pillow.Image]:
        """The label map itself, in whose pixels are the labels."""
        return {LABELS: label_picture(found.label_map, classes.names)}

    def page_picture(self, answer: Answer, sample: Sample, classes: Classes, name: str) -> tuple[Image, str]:
        """The image beside its true and its found labels."""
        found: Any = answer.prediction
        truth: Any = sample.label_map
        drawn = [draw_label_map(sample.image, labels, classes.names) for labels in (truth, found.label_map)]
        gap = np.full((len(drawn[0]), 8, 3), 255, np.uint8)
        row = np.concatenate([enlarged(sample.image), gap, drawn[0], gap, drawn[1]], axis=1)
        both = labelling(np.concatenate([truth, found.label_map], axis=1), classes)
        return with_legend(row, legend(both, classes.names)), f"{name}: image, truth, found"

    def evaluate(self, answers: Iterable[Answer], source: LabelMapSource) -> Evaluation:
        """mIoU and accuracy."""
        return segmentation.evaluate(answers, source)

    @property
    def checks(self) -> "Checks":
        """What tells more of its models than scores do."""
        from vitjax.evaluation import label_checks

        return label_checks


@dataclasses.dataclass(frozen=True, kw_only=True)
class Segmentation(SizedExperiment):
    """Everything that decides a segmentation model's run; a config file's `experiment()` returns one."""

    kind: ClassVar[str] = "segmentation"
    predicts: ClassVar[type] = PixelLabeller

    model: nn.Module = dataclasses.field(default_factory=Segmenter)
    """The network."""
    data: LabelMapFolder | DigitMaps = dataclasses.field(default_factory=LabelMapFolder)
    """Where images and label maps come from."""
    augmentation: Augmentation = dataclasses.field(default_factory=Augmentation)
    """What is done to training images."""
    resize: Resize = dataclasses.field(default_factory=Resize)
    """What is done to images in evaluation and prediction."""
    loss: PixelCrossEntropy = dataclasses.field(default_factory=PixelCrossEntropy)
    """What is minimised."""
    postprocess: BestLabel = dataclasses.field(default_factory=BestLabel)
    """How predictions become label maps."""

    @classmethod
    def data_of(cls, classes: Classes) -> LabelMapFolder:
        """A folder of label maps."""
        return LabelMapFolder()

    def objective(self, mesh: Mesh) -> Objective:
        """Cross entropy of every labelled pixel."""
        return segmentation_objective(self.model, self.loss)


def segmentation_objective(model: nn.Module, loss: PixelCrossEntropy) -> Objective:
    """The loss of a segmentation model on every labelled pixel."""

    def terms_of(logits: PixelLogits, batch: Batch) -> Terms:
        # In evaluation a batch has none where not one of its images could be read.
        unknown = jnp.full(logits.outputs.shape[1:4], NO_LABEL, jnp.uint8)
        return loss(logits, unknown if batch.label_maps is None else batch.label_maps)

    def evaluate(variables: dict[str, Any], batch: Batch, key: Array) -> Evaluated:
        logits, changed = forward(model, variables, images_of(batch), {"dropout": key})
        return Evaluated(terms_of(logits, batch), changed)

    return Objective(evaluate, terms_of, loss.total)
