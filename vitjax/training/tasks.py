"""What the runs of the three kinds of models do not share: plan, objective, scores and pictures."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from jax.sharding import Mesh

from vitjax.data.crop_plan import CropTrainPlan
from vitjax.data.plan import TrainPlan
from vitjax.data.source import DetectionSource, LabelMapSource, SizedSource, Source
from vitjax.detection.matcher import match
from vitjax.evaluation import classification, detection, segmentation
from vitjax.evaluation.coco import METRICS
from vitjax.evaluation.detection import Evaluation
from vitjax.inference.detector import Detector
from vitjax.inference.label_mapper import LabelMapper
from vitjax.inference.page import draw_class_page, draw_detection_page, draw_map_page
from vitjax.inference.recognizer import Recognizer
from vitjax.placement import matching_per_device
from vitjax.runs.experiment import Experiment
from vitjax.training.objectives import (
    Objective,
    classification_objective,
    detection_objective,
    segmentation_objective,
)

Tick = Callable[[], None]


@runtime_checkable
class Task(Protocol):
    """What a run asks of its kind of model."""

    headline: tuple[str, ...]
    """The scores that are told while training; the first decides which checkpoint is best."""
    scores: tuple[str, ...]
    """The names of all scores, by any of which the best checkpoint may be kept."""

    def plan(self, source: Any) -> TrainPlan | CropTrainPlan:
        """Which images make up each training step, and how they are cut."""
        ...

    def objective(self) -> Objective:
        """What a training step minimises."""
        ...

    def evaluate(self, variables: dict[str, Any], source: Any, *, batch_size: int, workers: int) -> Evaluation:
        """The scores of the variables on a source."""
        ...

    def draw_page(self, variables: dict[str, Any], source: Any, path: Path, *, batch_size: int) -> None:
        """Writes a picture of what the variables predict on some images of a source."""
        ...


class DetectionTask:
    """Finding boxes."""

    headline: tuple[str, ...] = ("AP", "AP50", "AP75", "AR100")
    scores: tuple[str, ...] = METRICS

    def __init__(self, experiment: Experiment, mesh: Mesh) -> None:
        """For the model of the experiment, which has its number of classes."""
        self._experiment: Any = experiment  # it has made sure that its parts are those of a detector
        self._mesh = mesh
        parts: Any = experiment
        self._detector = Detector(parts.model, parts.postprocess, parts.resize, mesh)

    def plan(self, source: SizedSource) -> TrainPlan:
        """Buckets of image sizes."""
        experiment = self._experiment
        return TrainPlan(source.sizes, experiment.batch_size, experiment.augmentation, experiment.seed)

    def objective(self) -> Objective:
        """The set loss after matching, which each device does for its own images."""
        model, loss = self._experiment.model, self._experiment.loss
        matching = matching_per_device(lambda predictions, targets: match(loss.cost, predictions, targets), self._mesh)
        return detection_objective(model, loss, matching)

    def evaluate(
        self, variables: dict[str, Any], source: DetectionSource, *, batch_size: int, workers: int = 0
    ) -> Evaluation:
        """COCO's scores."""
        found = self._detector(variables, source, batch_size=batch_size, workers=workers)
        return detection.evaluate(found, source)

    def draw_page(self, variables: dict[str, Any], source: SizedSource, path: Path, *, batch_size: int) -> None:
        """The first images with the boxes found."""
        draw_detection_page(self._detector, variables, source, path, batch_size=batch_size)


class ClassificationTask:
    """Naming what an image shows."""

    headline: tuple[str, ...] = ("top1", "top5")
    scores: tuple[str, ...] = headline

    def __init__(self, experiment: Experiment, mesh: Mesh) -> None:
        """For the model of the experiment, which has its number of classes."""
        self._experiment: Any = experiment  # it has made sure that its parts are those of a classifier
        parts: Any = experiment
        self._recognizer = Recognizer(parts.model, parts.postprocess, parts.resize, mesh)

    def plan(self, source: Source) -> CropTrainPlan:
        """Crops of one size."""
        experiment = self._experiment
        return CropTrainPlan(len(source), experiment.batch_size, experiment.augmentation, experiment.seed)

    def objective(self) -> Objective:
        """Cross entropy on mixed and erased images."""
        experiment = self._experiment
        return classification_objective(experiment.model, experiment.loss, experiment.mixing, experiment.erasing)

    def evaluate(self, variables: dict[str, Any], source: Source, *, batch_size: int, workers: int = 0) -> Evaluation:
        """Top-1 and top-5 accuracy."""
        recognized = self._recognizer(variables, source, batch_size=batch_size, workers=workers)
        return classification.evaluate(recognized, source)

    def draw_page(self, variables: dict[str, Any], source: Source, path: Path, *, batch_size: int) -> None:
        """Images from all over the source with their label and what they are taken for."""
        draw_class_page(self._recognizer, variables, source, path, batch_size=batch_size)


class SegmentationTask:
    """Labelling every pixel."""

    headline: tuple[str, ...] = ("mIoU", "accuracy")
    scores: tuple[str, ...] = headline

    def __init__(self, experiment: Experiment, mesh: Mesh) -> None:
        """For the model of the experiment, which has its number of classes."""
        self._experiment: Any = experiment  # it has made sure that its parts are those of a segmentation model
        parts: Any = experiment
        self._mapper = LabelMapper(parts.model, parts.postprocess, parts.resize, mesh)

    def plan(self, source: SizedSource) -> TrainPlan:
        """Buckets of image sizes."""
        experiment = self._experiment
        return TrainPlan(source.sizes, experiment.batch_size, experiment.augmentation, experiment.seed)

    def objective(self) -> Objective:
        """Cross entropy of every labelled pixel."""
        return segmentation_objective(self._experiment.model, self._experiment.loss)

    def evaluate(
        self, variables: dict[str, Any], source: LabelMapSource, *, batch_size: int, workers: int = 0
    ) -> Evaluation:
        """mIoU and accuracy."""
        found = self._mapper(variables, source, batch_size=batch_size, workers=workers)
        return segmentation.evaluate(found, source)

    def draw_page(self, variables: dict[str, Any], source: LabelMapSource, path: Path, *, batch_size: int) -> None:
        """The first images, each with its true and its found labels."""
        draw_map_page(self._mapper, variables, source, path, batch_size=batch_size)


TASKS: dict[str, Callable[[Experiment, Mesh], Task]] = {
    "detection": DetectionTask,
    "classification": ClassificationTask,
    "segmentation": SegmentationTask,
}


def task_of(experiment: Experiment, mesh: Mesh) -> Task:
    """The task of an experiment's model."""
    return TASKS[experiment.task](experiment, mesh)
