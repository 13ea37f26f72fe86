"""Naming what an image shows: what a classifier's run is made of, and how it predicts, is scored, saved and drawn."""

import dataclasses
import functools
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import flax.linen as nn
import jax
from jax import Array
from jax.sharding import Mesh
from PIL import Image as Pillow

from vitjax.classification.classifier import Classifier
from vitjax.classification.erasing import Erasing
from vitjax.classification.loss import CrossEntropy
from vitjax.classification.mixing import Mixing
from vitjax.classification.policy_loss import PolicyLoss
from vitjax.classification.postprocess import TopClasses
from vitjax.classification.recurrent_attention import RecurrentAttention
from vitjax.data.crop_plan import CropEvaluationPlan, CropTrainPlan
from vitjax.data.crops import CenterCrop, RandomCrop
from vitjax.data.digit_canvas import DigitCanvas
from vitjax.data.digit_images import DigitImages
from vitjax.data.image_folder import ImageFolder
from vitjax.data.source import Classes, Sample, Source
from vitjax.data.tfds_labels import TfdsLabels
from vitjax.drawing.boxes import enlarged
from vitjax.errors import FieldError
from vitjax.evaluation import classification
from vitjax.evaluation.scores import Evaluation
from vitjax.inference.results import Origin, Results
from vitjax.inference.task import About, Asked, Image, Page
from vitjax.ops.images import images_of
from vitjax.prediction import Answer, Recognition, name_of, names_of
from vitjax.runs.experiment import Experiment
from vitjax.runs.numbers import SHARE, or_none, require
from vitjax.structs import Batch, ClassTargets, Ranking, Terms
from vitjax.tasks.objective import Evaluated, Objective, forward

if TYPE_CHECKING:
    from vitjax.evaluation.checks import Checks


@dataclasses.dataclass(frozen=True)
class ImageClassifier:
    """A classifier with its cropping and post-processing; a Task."""

    about: ClassVar[About] = About(
        headline=("top1", "top5"),
        scores=("top1", "top5"),
        columns=("file", "frame", "rank", "label", "name", "score"),
        page=Page(images=24, columns=6, tile=200, spread=True),
        curves=("accuracy.png", ("top1", "top5")),
        draws=False,
        wrote="",
    )

    model: nn.Module
    preprocess: CenterCrop
    postprocess: TopClasses

    @property
    def images_per_device(self) -> None:
        """Nothing limits them."""
        return None

    def allow(self, asked: Asked) -> None:
        """Raises a FieldError where something else than `top` is asked for."""
        if asked.threshold is not None or asked.nms is not None:
            raise FieldError(
                "--threshold and --nms are for detectors; a classifier tells its best classes, --top of them."
            )
        if asked.tiles is not None:
            raise FieldError("--tiles is for detectors and segmentation models; a classifier looks at an image whole.")

    def asked(self, asked: Asked) -> "ImageClassifier":
        """The classifier that gives so many classes."""
        if asked.top is None:
            return self
        return dataclasses.replace(self, postprocess=dataclasses.replace(self.postprocess, k=asked.top))

    def plan(self, source: Source, batch_size: int, *, multiple: int) -> CropEvaluationPlan:
        """Crops of one size."""
        return CropEvaluationPlan(len(source), batch_size, self.preprocess)

    def finish(self, answer: Any, batch: Batch) -> Ranking:
        """The best classes."""
        return self.postprocess(answer)

    def prediction(self, row: Ranking, classes: Classes) -> Recognition:
        """The classes by name."""
        scores: Any = row.scores
        labels: Any = row.labels
        return Recognition(names_of(classes, labels), scores, labels)

    def kept(self, prediction: Recognition, asked: Asked) -> Recognition:
        """All of it."""
        return prediction

    def shown(self, kept: Recognition, asked: Asked) -> Recognition:
        """All of it."""
        return kept

    def results(self, kept: Recognition, origin: Origin, image_id: int, classes: Classes, picture: str) -> Results:
        """The file with its classes, best first, and a row for each class."""
        triples = zip(kept.labels.tolist(), kept.names, kept.scores.tolist(), strict=True)
        best = [{"label": label, "name": name, "score": round(score, 6)} for label, name, score in triples]
        rows = [{**origin.cells, "rank": rank, **one} for rank, one in enumerate(best, start=1)]
        return [{**origin.keys, "classes": best}], rows

    def lines(self, path: Path, kept: Recognition) -> tuple[str, ...]:
        """The file, and its classes with their probabilities."""
        pairs = zip(kept.scores, kept.names, strict=True)
        return (str(path), *(f"  {100 * score:5.1f} %  {name}" for score, name in pairs))

    def summary(self, drawn: int, asked: Asked) -> tuple[str, ...]:
        """Nothing: every image has been told."""
        return ()

    def drawn(self, image: Image, shown: Recognition, classes: Classes) -> Image:
        """The image, large enough to be seen."""
        return enlarged(image)

    def beside(self, image: Image, found: Recognition, classes: Classes) -> dict[str, Pillow.Image]:
        """Nothing."""
        return {}

    def page_picture(self, answer: Answer, sample: Sample, classes: Classes, name: str) -> tuple[Image, str]:
        """The image, under what it is taken for and, where that is wrong, what it is."""
        found: Any = answer.prediction
        caption = f"{found.names[0]} {found.scores[0]:.2f}"
        if len(answer.truth) and answer.truth[0] != found.labels[0]:
            caption += f"\nwrong: is {name_of(classes, answer.truth[0])}"
        return self.drawn(sample.image, found, classes), caption

    def evaluate(self, answers: Iterable[Answer], source: Source) -> Evaluation:
        """Top-1 and top-5 accuracy."""
        return classification.evaluate(answers, source)

    @property
    def checks(self) -> "Checks":
        """What tells more of its models than scores do."""
        from vitjax.evaluation import class_checks

        return class_checks


@dataclasses.dataclass(frozen=True, kw_only=True)
class Classification(Experiment):
    """Everything that decides a classifier's run; a config file's `experiment()` returns one."""

    kind: ClassVar[str] = "classification"
    predicts: ClassVar[type] = ImageClassifier

    model: nn.Module = dataclasses.field(default_factory=Classifier)
    """The network."""
    data: ImageFolder | TfdsLabels | DigitImages | DigitCanvas = dataclasses.field(default_factory=ImageFolder)
    """Where images and labels come from."""
    augmentation: RandomCrop = dataclasses.field(default_factory=RandomCrop)
    """What is done to training images."""
    erasing: Erasing = dataclasses.field(default_factory=functools.partial(Erasing, probability=0.0))
    """What is erased from training images."""
    mixing: Mixing = dataclasses.field(default_factory=functools.partial(Mixing, probability=0.0))
    """How training images are mixed with one another."""
    resize: CenterCrop = dataclasses.field(default_factory=CenterCrop)
    """What is done to images in evaluation and prediction."""
    loss: CrossEntropy | PolicyLoss = dataclasses.field(default_factory=CrossEntropy)
    """What is minimised."""
    postprocess: TopClasses = dataclasses.field(default_factory=TopClasses)
    """How predictions become the best classes."""
    class_balance: float | None = None
    """How far rare classes come more often, from 0 to 1: a class of n images comes in proportion to n ** (1 - this), so
    with 1 all come alike, with 0.5 by the square root. An epoch has as many images as before. None: all come once."""

    def __post_init__(self) -> None:
        """Raises a FieldError where parts do not go together, or a number means nothing."""
        super().__post_init__()
        require(self, {"class_balance": or_none(SHARE)})
        self.mixing.groups(self.batch_size // self.micro_batches)
        if isinstance(self.model, RecurrentAttention) != isinstance(self.loss, PolicyLoss):
            raise FieldError(
                f"RecurrentAttention goes with PolicyLoss, and both with nothing else; got {type(self.model).__name__} "
                f"with {type(self.loss).__name__}."
            )

    @classmethod
    def data_of(cls, classes: Classes) -> ImageFolder:
        """A folder of images for each class."""
        return ImageFolder()

    def plan(self, source: Source) -> CropTrainPlan:
        """Crops of one size."""
        weights = None
        if self.class_balance:
            from vitjax.data.balance import class_shares, first_labels

            weights = class_shares(first_labels(source), self.class_balance)
        return CropTrainPlan(len(source), self.batch_size, self.augmentation, self.seed, weights)

    def objective(self, mesh: Mesh) -> Objective:
        """The loss on images that are partly erased and mixed with one another."""
        return classification_objective(self.model, self.loss, self.mixing, self.erasing)


def classification_objective(
    model: nn.Module, loss: CrossEntropy | PolicyLoss, mixing: Mixing, erasing: Erasing
) -> Objective:
    """The loss of a classifier on images that are partly erased and mixed with one another."""

    def evaluate(variables: dict[str, Any], batch: Batch, key: Array) -> Evaluated:
        erase, mix, dropout = jax.random.split(key, 3)
        targets = class_targets_of(batch, model.num_classes)
        images, targets = mixing(mix, erasing(erase, images_of(batch)), targets)
        # The answer is logits, or what the model's own loss takes.
        answer, changed = forward(model, variables, images, {"dropout": dropout})
        return Evaluated(loss(answer, targets), changed)

    def validate(logits: Array, batch: Batch) -> Terms:
        return plain(logits, class_targets_of(batch, model.num_classes))

    # In evaluation there are logits and true labels, whatever is done to them in training.
    plain = CrossEntropy(smoothing=0.0, class_weights=getattr(loss, "class_weights", None))
    return Objective(evaluate, validate, loss.total)


def class_targets_of(batch: Batch, num_classes: int) -> ClassTargets:
    """The label of each image, which is that of its one object."""
    labels, valid = batch.targets.labels[:, 0], batch.targets.valid[:, 0]
    return ClassTargets(jax.nn.one_hot(labels, num_classes), valid)
