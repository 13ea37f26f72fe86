"""One run, whole, as one frozen dataclass: the constructor is the config."""

import dataclasses
from typing import Literal

import flax.linen as nn

from vitjax.data.coco import CocoFolder
from vitjax.data.digits import Digits
from vitjax.data.source import Source
from vitjax.data.tfds import TfdsCoco
from vitjax.data.transforms import Augmentation, Resize
from vitjax.detection.detr import DETR
from vitjax.detection.focal_loss import FocalSetLoss
from vitjax.detection.loss import SetLoss
from vitjax.detection.postprocess import BestClass, TopDetections
from vitjax.training.optimizer import AdamW


@dataclasses.dataclass(frozen=True)
class Experiment:
    """Everything that decides a run; a config file's `experiment()` returns one, the command line overrides fields."""

    model: nn.Module = dataclasses.field(default_factory=DETR)
    """The network."""
    data: CocoFolder | TfdsCoco | Digits = dataclasses.field(default_factory=CocoFolder)
    """Where images and boxes come from."""
    augmentation: Augmentation = dataclasses.field(default_factory=Augmentation)
    """What is done to training images."""
    resize: Resize = dataclasses.field(default_factory=Resize)
    """What is done to images in evaluation and prediction."""
    loss: SetLoss | FocalSetLoss = dataclasses.field(default_factory=SetLoss)
    """What is minimised."""
    postprocess: BestClass | TopDetections = dataclasses.field(default_factory=BestClass)
    """How predictions become detections."""
    optimizer: AdamW = dataclasses.field(default_factory=AdamW)
    """How it is minimised."""
    epochs: float = 300
    """Passes over the training images."""
    batch_size: int = 16
    """Images per step over all devices."""
    evaluation_batch_size: int | None = None
    """Images per evaluation step over all devices; None is batch_size."""
    evaluate_every: float = 1
    """Epochs between evaluations on the evaluation split; each also saves a checkpoint. The end is always evaluated."""
    save_every: float = 1
    """Epochs between checkpoints."""
    log_every: int = 50
    """Steps between lines of metrics."""
    best: str = "AP"
    """The evaluation metric by which the best checkpoint is kept."""
    keep_last: int = 1
    """Latest checkpoints kept."""
    keep_best: int = 1
    """Best checkpoints kept."""
    init_from: str | None = None
    """Weights to start from: a run folder, or a .safetensors or .npz file with published names; parameters of another
    shape, such as the class head for other classes, start anew."""
    workers: int = 0
    """Processes that read and decode images; 0 does it in a thread."""
    matmul_precision: Literal["default", "high", "highest"] = "default"
    """Precision of float32 matrix products on accelerators."""
    seed: int = 0
    """Decides initial weights, data order, augmentation and dropout."""
    workdir: str | None = None
    """Where the run is kept; None is runs/<name of the config>."""

    def __post_init__(self) -> None:
        """Raises a ValueError where the loss or the post-processing reads the model's logits another way."""
        wanted = getattr(self.model, "scores", None)
        for part in (self.loss, self.postprocess) if wanted else ():
            if part.scores != wanted:
                raise ValueError(
                    f"{type(self.model).__name__} gives {wanted} scores and {type(part).__name__} takes {part.scores} "
                    "scores; DETR goes with SetLoss and BestClass, DeformableDETR with FocalSetLoss and TopDetections."
                )


def with_classes(model: nn.Module, source: Source) -> nn.Module:
    """The model with `num_classes` taken from the data where it is None.

    Raises:
        ValueError: the data has more labels than the model has classes.
    """
    labels = len(source.classes.names)
    if model.num_classes is None:
        return model.clone(num_classes=labels)
    if labels > model.num_classes:
        raise ValueError(
            f"the data has {labels} class labels and the model {model.num_classes}; "
            f"leave out model.num_classes or set it to at least {labels}."
        )
    return model
