"""Finding boxes: what a detector's run is made of, and how it predicts, is scored, saved and drawn."""

import dataclasses
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import Mesh
from jaxtyping import Bool

from vitjax.data.coco import CocoFolder
from vitjax.data.digits import Digits
from vitjax.data.label_names import COCO
from vitjax.data.plan import EvaluationPlan
from vitjax.data.source import Classes, Sample, SizedSource
from vitjax.data.tfds import TfdsCoco
from vitjax.data.transforms import Augmentation, Resize
from vitjax.data.voc import VocFolder
from vitjax.data.yolo import YoloFolder
from vitjax.detection.detr import DETR
from vitjax.detection.dino_loss import DINOLoss
from vitjax.detection.focal_loss import FocalSetLoss
from vitjax.detection.loss import Loss, SetLoss
from vitjax.detection.matcher import match
from vitjax.detection.postprocess import BestClass, TopDetections
from vitjax.errors import FieldError
from vitjax.evaluation.scores import METRICS, Evaluation
from vitjax.inference.task import NOTHING_ASKED, About, Asked, Image, Page
from vitjax.ops.images import images_of
from vitjax.placement import matching_per_device
from vitjax.prediction import Answer, Prediction, names_of
from vitjax.structs import Assignment, Batch, Predictions, PredictionSet, Targets, Terms
from vitjax.tasks.objective import Evaluated, Objective, forward
from vitjax.tasks.sized import SizedExperiment

if TYPE_CHECKING:
    from vitjax.evaluation.checks import Checks
    from vitjax.inference.results import Origin, Results

Match = Callable[[Predictions, Targets], Assignment]

_CORNERS = ("x1", "y1", "x2", "y2")


@dataclasses.dataclass(frozen=True)
class Detector:
    """A detector with its resizing and post-processing; a Task."""

    about: ClassVar[About] = About(
        headline=("AP", "AP50", "AP75", "AR100"),
        scores=METRICS,
        columns=("file", "frame", "label", "name", "score", *_CORNERS),
        page=Page(images=12, columns=3, tile=400),
        curves=("ap.png", ("AP", "AP50", "AP75")),
        top=100,
    )

    model: nn.Module
    preprocess: Resize
    postprocess: BestClass | TopDetections

    @property
    def images_per_device(self) -> int | None:
        """As many as are asked for."""
        return None

    def allow(self, asked: Asked) -> None:
        """Everything can be asked of a detector."""

    def asked(self, asked: Asked) -> "Detector":
        """Itself: what is asked for is chosen on the host."""
        return self

    def plan(self, source: SizedSource, batch_size: int, *, multiple: int) -> EvaluationPlan:
        """Buckets of image sizes."""
        return EvaluationPlan(source.sizes, batch_size, self.preprocess, multiple=multiple)

    def finish(self, answer: Any, batch: Batch) -> Any:
        """Detections in pixels of the original images."""
        logits, boxes = (x[-1].astype(jnp.float32) for x in (answer.logits, answer.boxes))
        return self.postprocess(logits, boxes, batch.original_sizes)

    def prediction(self, row: Any, classes: Classes) -> Prediction:
        """What is found on one image, in the order of the post-processing."""
        return self.without_doubles(Prediction(row.boxes, row.scores, row.labels, names_of(classes, row.labels)))

    def without_doubles(self, found: Prediction) -> Prediction:
        """The prediction without what the post-processing has taken the score of."""
        if getattr(self.postprocess, "nms", None) is None:
            return found
        return found.take(np.flatnonzero(np.asarray(found.scores) > 0))

    def kept(self, prediction: Prediction, asked: Asked) -> Prediction:
        """The best boxes, after suppression."""
        left = prediction.best_first()
        if asked.nms is not None:
            from vitjax.inference.suppression import suppress  # which no training needs

            left = suppress(left, asked.nms)
        return left if asked.top is None else left.take(np.arange(min(asked.top, len(left))))

    def shown(self, kept: Prediction, asked: Asked) -> Prediction:
        """Those that reach the threshold."""
        return kept.reaching(self._threshold(asked))

    def results(self, kept: Prediction, origin: "Origin", image_id: int, classes: Classes, picture: str) -> "Results":
        """COCO's results with the file and the class name beside the ids, and rows with the corners; all in pixels.

        Masks, where there are any, are in the results as COCO's run lengths.
        """
        corners = np.asarray(kept.boxes, np.float64)
        boxes = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1).round(2).tolist()
        scores = [round(score, 6) for score in kept.scores.tolist()]
        if kept.masks is not None:
            from vitjax.data.run_lengths import in_coco  # which no training needs
        entries, rows = [], []
        for row, (label, name, score) in enumerate(zip(kept.labels.tolist(), kept.names, scores, strict=True)):
            category = classes.category_ids[label] if label < len(classes) else label
            ids = {"image_id": image_id, "category_id": category, "bbox": boxes[row], "score": score}
            outline = {} if kept.masks is None else {"segmentation": in_coco(kept.masks[row])}
            entries.append({**ids, **outline, **origin.keys, "category_name": name})
            sides = dict(zip(_CORNERS, corners[row].round(2).tolist(), strict=True))
            rows.append({**origin.cells, "label": label, "name": name, "score": score, **sides})
        return entries, rows

    def lines(self, path: Path, kept: Prediction) -> tuple[str, ...]:
        """Nothing: there is a picture."""
        return ()

    def summary(self, drawn: int, asked: Asked) -> tuple[str, ...]:
        """How many boxes there are on the pictures."""
        return (f"{drawn} boxes of score {self._threshold(asked)} or more",)

    def drawn(self, image: Image, shown: Prediction, classes: Classes) -> Image:
        """The image with boxes, and masks where there are any."""
        from vitjax.drawing.boxes import legible_scale  # which no training needs

        return self._drawn(image, shown, classes, legible_scale(*image.shape[:2]))

    def _drawn(self, image: Image, shown: Prediction, classes: Classes, scale: float) -> Image:
        from vitjax.drawing.boxes import draw_boxes

        if shown.masks is not None:
            from vitjax.tasks.mask_pictures import with_masks

            return with_masks(image, shown, classes, scale)
        return draw_boxes(image, shown.boxes, shown.names, shown.scores, names=classes.names, scale=scale)

    def beside(self, image: Image, found: Prediction, classes: Classes) -> dict[str, Any]:
        """Nothing."""
        return {}

    def page_picture(self, answer: Answer, sample: Sample, classes: Classes, name: str) -> tuple[Image, str]:
        """The image with the boxes found, as large as on the page so that tags stay legible, under its name.

        With masks it stands beside the truth, where the sample has that.
        """
        found: Any = answer.prediction
        shown = self.shown(self.kept(found, NOTHING_ASKED), NOTHING_ASKED)
        scale = (self.about.page.tile or 400) / max(sample.image.shape[:2])
        if shown.masks is None or sample.masks is None:
            return self._drawn(sample.image, shown, classes, scale), name
        from vitjax.tasks.mask_pictures import beside_truth

        return beside_truth(sample, shown, classes, scale / 2), f"{name}: truth, found"

    def evaluate(self, answers: Iterable[Answer], source: Any) -> Evaluation:
        """COCO's scores."""
        from vitjax.evaluation import detection  # which only those need who score

        return detection.evaluate(answers, source)

    @property
    def checks(self) -> "Checks":
        """What tells more of its models than scores do."""
        from vitjax.evaluation import box_checks

        return box_checks

    def _threshold(self, asked: Asked) -> float:
        return self.postprocess.threshold if asked.threshold is None else asked.threshold


@dataclasses.dataclass(frozen=True, kw_only=True)
class Detection(SizedExperiment):
    """Everything that decides a detector's run; a config file's `experiment()` returns one."""

    kind: ClassVar[str] = "detection"
    predicts: ClassVar[type] = Detector

    model: nn.Module = dataclasses.field(default_factory=DETR)
    """The network."""
    data: CocoFolder | YoloFolder | VocFolder | TfdsCoco | Digits = dataclasses.field(default_factory=CocoFolder)
    """Where images and boxes come from."""
    augmentation: Augmentation = dataclasses.field(default_factory=Augmentation)
    """What is done to training images."""
    resize: Resize = dataclasses.field(default_factory=Resize)
    """What is done to images in evaluation and prediction."""
    loss: SetLoss | FocalSetLoss | DINOLoss = dataclasses.field(default_factory=SetLoss)
    """What is minimised."""
    postprocess: BestClass | TopDetections = dataclasses.field(default_factory=BestClass)
    """How predictions become detections."""

    def __post_init__(self) -> None:
        """Raises a FieldError where parts do not go together, or a number means nothing."""
        super().__post_init__()
        wanted = getattr(self.model, "scores", None)
        for part in (self.loss, self.postprocess) if wanted else ():
            if part.scores != wanted:
                pair = "SetLoss and BestClass" if wanted == "softmax" else "FocalSetLoss and TopDetections"
                raise FieldError(
                    f"{type(self.model).__name__} gives {wanted} scores and {type(part).__name__} takes {part.scores} "
                    f"scores; it goes with {pair}."
                )

    @classmethod
    def data_of(cls, classes: Classes) -> CocoFolder:
        """A folder in COCO format, with COCO's own ids where the model has COCO's classes."""
        return CocoFolder(labels="category_id" if classes == COCO else "contiguous")

    def notes(self, source: SizedSource) -> tuple[str, ...]:
        """Whether there are images of more objects than the model has queries."""
        from vitjax.detection.queries import note_on_queries

        most = source.max_objects * self.augmentation.images_in_one
        note = note_on_queries(getattr(self.model, "num_queries", most), most)
        return () if note is None else (note,)

    def objective(self, mesh: Mesh) -> Objective:
        """The set loss after matching, which each device does for its own images."""
        return detection_objective(self.model, self.loss, matching_per_device(partial(match, self.loss.cost), mesh))


def detection_objective(model: nn.Module, loss: Loss, matching: Match) -> Objective:
    """The loss of a detector against the objects that `matching` assigns to its queries.

    A model whose class says `takes_targets = True` is given the `targets`, and random numbers of the name "noise".
    """
    takes_targets = getattr(model, "takes_targets", False)

    def terms_of(predictions: Predictions, batch: Batch) -> Terms:
        return loss(predictions, batch.targets, matching(predictions, batch.targets))

    def evaluate(variables: dict[str, Any], batch: Batch, key: Array) -> Evaluated:
        given, rngs = {}, {"dropout": key}
        if takes_targets:
            given = {"targets": batch.targets}
            rngs = dict(zip(("dropout", "noise"), jax.random.split(key), strict=True))
        predictions, changed = forward(model, variables, images_of(batch), rngs, **given)
        return Evaluated(terms_of(predictions, batch), changed)

    def validate(predictions: Predictions, batch: Batch) -> Terms:
        return terms_of(rows_of(predictions, batch.records >= 0), batch)

    return Objective(evaluate, validate, loss.total)


def rows_of(predictions: Predictions, rows: Bool[Array, " batch"]) -> Predictions:
    """The predictions of some images of a batch; the queries of the others do not count."""

    def of_rows(one: PredictionSet) -> PredictionSet:
        counts = jnp.broadcast_to(rows[:, None], one.logits.shape[:3])
        return dataclasses.replace(one, valid=counts if one.valid is None else counts & one.valid)

    return Predictions({name: of_rows(one) for name, one in predictions.sets.items()})
