"""One run, whole, as one frozen dataclass: the constructor is the config."""

import dataclasses
import difflib
import functools
from collections.abc import Collection
from typing import Literal

import flax.linen as nn

from vitjax.classification.erasing import Erasing
from vitjax.classification.loss import CrossEntropy
from vitjax.classification.mixing import Mixing
from vitjax.classification.policy_loss import PolicyLoss
from vitjax.classification.postprocess import TopClasses
from vitjax.classification.recurrent_attention import RecurrentAttention
from vitjax.data.coco import CocoFolder
from vitjax.data.crops import CenterCrop, RandomCrop
from vitjax.data.digit_canvas import DigitCanvas
from vitjax.data.digit_images import DigitImages
from vitjax.data.digit_maps import DigitMaps
from vitjax.data.digits import Digits
from vitjax.data.image_folder import ImageFolder
from vitjax.data.label_map_folder import LabelMapFolder
from vitjax.data.source import Source
from vitjax.data.tfds import TfdsCoco
from vitjax.data.tfds_labels import TfdsLabels
from vitjax.data.transforms import Augmentation, Resize
from vitjax.detection.detr import DETR
from vitjax.detection.focal_loss import FocalSetLoss
from vitjax.detection.loss import SetLoss
from vitjax.detection.postprocess import BestClass, TopDetections
from vitjax.errors import FieldError
from vitjax.runs.numbers import COUNT, COUNT_FROM_1, DECAY, POSITIVE, SEED, or_none, require
from vitjax.runs.optimizer import AdamW
from vitjax.segmentation.label_map import BestLabel
from vitjax.segmentation.pixel_loss import PixelCrossEntropy


@dataclasses.dataclass(frozen=True)
class Experiment:
    """Everything that decides a run; a config file's `experiment()` returns one, the command line overrides fields."""

    model: nn.Module = dataclasses.field(default_factory=DETR)
    """The network."""
    data: (
        CocoFolder
        | TfdsCoco
        | Digits
        | ImageFolder
        | TfdsLabels
        | DigitImages
        | DigitCanvas
        | LabelMapFolder
        | DigitMaps
    ) = dataclasses.field(default_factory=CocoFolder)
    """Where images and boxes, images and labels, or images and label maps, come from."""
    augmentation: Augmentation | RandomCrop = dataclasses.field(default_factory=Augmentation)
    """What is done to training images."""
    erasing: Erasing = dataclasses.field(default_factory=functools.partial(Erasing, probability=0.0))
    """What is erased from a classifier's training images."""
    mixing: Mixing = dataclasses.field(default_factory=functools.partial(Mixing, probability=0.0))
    """How a classifier's training images are mixed with one another."""
    resize: Resize | CenterCrop = dataclasses.field(default_factory=Resize)
    """What is done to images in evaluation and prediction."""
    loss: SetLoss | FocalSetLoss | CrossEntropy | PolicyLoss | PixelCrossEntropy = dataclasses.field(
        default_factory=SetLoss
    )
    """What is minimised."""
    postprocess: BestClass | TopDetections | TopClasses | BestLabel = dataclasses.field(default_factory=BestClass)
    """How predictions become detections, the best classes, or label maps."""
    optimizer: AdamW = dataclasses.field(default_factory=AdamW)
    """How it is minimised."""
    epochs: float = 300
    """Passes over the training images."""
    batch_size: int = 16
    """Images per step over all devices."""
    micro_batches: int = 1
    """Parts of a batch whose gradients are computed one after the other and averaged: less memory for more time."""
    average: float | None = None
    """Decay of a running mean of the parameters (EMA, 0.9999 for long runs), which then is what is evaluated and used;
    None keeps none."""
    evaluation_batch_size: int | None = None
    """Images per evaluation step over all devices; None is batch_size."""
    evaluate_every: float = 1
    """Epochs between evaluations on the evaluation split; each also saves a checkpoint. The end is always evaluated."""
    save_every: float = 1
    """Epochs between checkpoints."""
    log_every: int = 50
    """Steps between lines of metrics."""
    best: str | None = None
    """The evaluation metric by which the best checkpoint is kept; None is AP, top1 for a classifier, or mIoU for a
    segmentation model."""
    keep_last: int = 1
    """Latest checkpoints kept."""
    keep_best: int = 1
    """Best checkpoints kept."""
    init_from: str | None = None
    """Weights to start from: a run folder, a published .pth, .safetensors or .npz file, or a Hugging Face folder or
    repository. Queries are made to fit; other parameters of another shape, such as the class head, start anew."""
    match_classes: bool = False
    """With init_from, take the class head for the classes that have the same name there."""
    workers: int = 0
    """Processes that read and decode images; 0 does it in a thread."""
    matmul_precision: Literal["default", "high", "highest"] = "default"
    """Precision of float32 matrix products on accelerators."""
    seed: int = 0
    """Decides initial weights, data order, augmentation and dropout."""
    workdir: str | None = None
    """Where the run is kept; None is runs/<name of the config>."""

    def __post_init__(self) -> None:
        """Raises a ValueError where parts do not go together, or a number means nothing."""
        require_numbers_of(self)
        self._require_one_task()
        wanted = getattr(self.model, "scores", None)
        for part in (self.loss, self.postprocess) if wanted else ():
            if part.scores != wanted:
                raise FieldError(
                    f"{type(self.model).__name__} gives {wanted} scores and {type(part).__name__} takes {part.scores} "
                    "scores; DETR goes with SetLoss and BestClass, DeformableDETR with FocalSetLoss and TopDetections."
                )
        if isinstance(self.model, RecurrentAttention) != isinstance(self.loss, PolicyLoss):
            raise FieldError(
                f"RecurrentAttention goes with PolicyLoss, and both with nothing else; got {type(self.model).__name__} "
                f"with {type(self.loss).__name__}."
            )

    @property
    def task(self) -> str:
        """'detection', 'classification' or 'segmentation', as the model has it."""
        return getattr(self.model, "task", "detection")

    @property
    def score(self) -> str:
        """The evaluation metric by which the best checkpoint is kept."""
        return self.best or _SCORES[self.task]

    def _is_stranger(self, part: object) -> bool:
        """Whether a part is for another task; some are for several."""
        return self.task not in getattr(part, "tasks", (getattr(part, "task", self.task),))

    def _require_one_task(self) -> None:
        parts = {field: getattr(self, field) for field in ("data", "augmentation", "resize", "loss", "postprocess")}
        others = {field: part for field, part in parts.items() if self._is_stranger(part)}
        if others:
            strangers = [f"{field}={type(part).__name__}" for field, part in others.items()]
            raise FieldError(
                f"{type(self.model).__name__} is for {self.task}, and these are not: {', '.join(strangers)}. "
                "A detector goes with CocoFolder, TfdsCoco or Digits, Augmentation, Resize and a set loss; "
                "a Classifier with ImageFolder, TfdsLabels or DigitImages, RandomCrop, CenterCrop, CrossEntropy and "
                "TopClasses; a Segmenter with LabelMapFolder or DigitMaps, Augmentation, Resize, PixelCrossEntropy and "
                "BestLabel."
            )
        if self.task != "classification" and (self.erasing.probability or self.mixing.probability):
            raise FieldError("erasing and mixing are for classifiers; leave both at probability=0 for other models.")


_SCORES = {"detection": "AP", "classification": "top1", "segmentation": "mIoU"}
_NUMBERS = {
    "epochs": POSITIVE,
    "batch_size": COUNT_FROM_1,
    "micro_batches": COUNT_FROM_1,
    "average": or_none(DECAY),
    "evaluation_batch_size": or_none(COUNT_FROM_1),
    "evaluate_every": POSITIVE,
    "save_every": POSITIVE,
    "log_every": COUNT_FROM_1,
    "keep_last": COUNT_FROM_1,
    "keep_best": COUNT,
    "workers": COUNT,
    "seed": SEED,
}


def require_numbers_of(experiment: Experiment) -> None:
    """Passes where every number of the experiment means something; its parts look at theirs themselves.

    Raises:
        FieldError: one does not; the message names field, wish and value.
    """
    require(experiment, _NUMBERS)
    if experiment.batch_size % experiment.micro_batches:
        raise FieldError(
            "batch_size is divided among micro_batches evenly; "
            f"got {experiment.batch_size} and {experiment.micro_batches}."
        )


def require_score(best: str | None, scores: Collection[str]) -> None:
    """Passes where `best` is one of the scores that the task gives, or None.

    Raises:
        FieldError: it is none; the message has the nearest name.
    """
    if best is not None and best not in scores:
        names = {name.casefold(): name for name in scores}
        near = difflib.get_close_matches(best.casefold(), names, n=1)
        meant = f" Did you mean {names[near[0]]}?" if near else ""
        raise FieldError(f"best is one of {', '.join(scores)}; got {best!r}.{meant}")


def with_classes(model: nn.Module, source: Source) -> nn.Module:
    """The model with `num_classes` taken from the data where it is None.

    Raises:
        ValueError: the data has more labels than the model has classes.
    """
    labels = len(source.classes.names)
    if model.num_classes is None:
        return model.clone(num_classes=labels)
    if labels > model.num_classes:
        raise FieldError(
            f"the data has {labels} class labels and the model {model.num_classes}; "
            f"leave out model.num_classes or set it to at least {labels}."
        )
    return model
