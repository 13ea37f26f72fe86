"""Finding boxes with masks, and segments of things and stuff: what such a run is made of, and how it is scored."""

import dataclasses
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import Mesh
from jaxtyping import Bool, Int

from vitjax.data.coco_masks import CocoMasks
from vitjax.data.coco_panoptic import CocoPanoptic
from vitjax.data.digit_masks import DigitMasks
from vitjax.data.label_names import COCO, COCO_PANOPTIC, stuff_of
from vitjax.data.mask_source import PanopticMap, PanopticSource
from vitjax.data.masks import planes_for
from vitjax.data.source import Classes
from vitjax.detection.loss import Loss, paired, per_object
from vitjax.detection.matcher import match
from vitjax.detection.postprocess import BestClass, TopDetections
from vitjax.errors import FieldError
from vitjax.evaluation.panoptic import PARTS
from vitjax.evaluation.scores import METRICS, Evaluation
from vitjax.inference.task import About, Image, Page
from vitjax.ops.images import images_of
from vitjax.ops.packed_masks import unpack_masks
from vitjax.ops.row_parts import in_parts
from vitjax.placement import matching_per_device
from vitjax.prediction import Answer, Prediction, names_of
from vitjax.segmentation.detr_masks import TOGETHER, MaskDETR
from vitjax.segmentation.mask_loss import MaskLoss
from vitjax.segmentation.mask_postprocess import BestMasks, TopMasks
from vitjax.segmentation.masks import Masks
from vitjax.segmentation.panoptic import Panoptic, panoptic
from vitjax.structs import ANSWER, Assignment, Batch, MaskDetections, MaskPredictions, Predictions, Targets, Terms
from vitjax.tasks.detection import Detection, Detector, Match, rows_of
from vitjax.tasks.objective import Evaluated, Objective, forward

if TYPE_CHECKING:
    from vitjax.data.plan import TrainPlan
    from vitjax.evaluation.checks import Checks


def map_of(segments: Panoptic) -> PanopticMap:
    """The same as sources and scores have it: a pixel is nobody's where there is no segment at all."""
    labels = np.array([segment.label for segment in segments.segments], np.int32)
    owner = segments.ids.astype(np.int32) if len(labels) else np.full(segments.ids.shape, -1, np.int32)
    return PanopticMap(owner, labels, np.zeros(len(labels), bool))


_SEGM = tuple(f"segm_{name}" for name in METRICS)


@dataclasses.dataclass(frozen=True)
class MaskDetector(Detector):
    """A detector with masks, its resizing and post-processing; a Task."""

    about: ClassVar[About] = dataclasses.replace(
        Detector.about,
        folders=("panoptic",),
        page=Page(images=8, columns=2, tile=800),
        headline=("segm_AP", "segm_AP50", "AP", "PQ"),
        scores=(*METRICS, *_SEGM, *PARTS),
        curves=("ap.png", ("AP", "segm_AP", "PQ")),
    )

    @property
    def images_per_device(self) -> int | None:
        """As many as make no more than the hundred masks of the published width, more than a gigabyte, at once."""
        model: Any = self.model
        masks = min(getattr(model, "max_masks", 100), getattr(model, "num_queries", 100))
        return max(1, 100 * 256 // (masks * getattr(getattr(model, "detr", None), "channels", 256)))

    def finish(self, answer: Any, batch: Batch) -> Any:
        """Detections in pixels of the original images, with the mask logits of each."""
        if not isinstance(answer, MaskPredictions):
            return super().finish(answer, batch)
        logits, boxes = (x[-1].astype(jnp.float32) for x in (answer.predictions.logits, answer.predictions.boxes))
        if answer.queries is not None:
            logits, boxes = (jnp.take_along_axis(x, answer.queries[..., None], axis=1) for x in (logits, boxes))
        masks = _of_rows(answer.masks, self.postprocess.queries_of(logits, boxes))
        detections = self.postprocess(logits, boxes, batch.original_sizes)
        return MaskDetections(detections, masks, answer.valid, batch.sizes, batch.original_sizes)

    def prediction(self, row: Any, classes: Classes) -> Prediction:
        """What is found on one image with its masks, in the order of the post-processing."""
        if not isinstance(row, MaskDetections):
            return super().prediction(row, classes)
        logits: Any = row.masks[:, : int(row.valid.any(1).sum()), : int(row.valid.any(0).sum())]
        seen, size = ((int(height), int(width)) for height, width in (row.sizes, row.original_sizes))
        one: Any = row.detections
        masks = Masks(logits, seen, size)
        return self.without_doubles(
            Prediction(one.boxes, one.scores, one.labels, names_of(classes, one.labels), masks=masks)
        )

    def beside(self, image: Image, found: Prediction, classes: Classes) -> dict[str, Any]:
        """Things and stuff, drawn and as a map, where stuff is known and no tiles were joined."""
        if not hasattr(found.masks, "logits") or not stuff_of(classes):
            return {}
        from vitjax.inference.panoptic_files import NAME  # which no training needs
        from vitjax.tasks.mask_pictures import segments_picture

        segments = self.segments(found, classes)
        return {"panoptic": segments_picture(image, segments, classes), NAME: map_of(segments)}

    def panoptic(self, found: Prediction, classes: Classes) -> PanopticMap:
        """The segments of an image, as they are scored."""
        return map_of(self.segments(found, classes))

    def segments(self, found: Prediction, classes: Classes) -> Panoptic:
        """What is found of stuff, and of things one by one, on an image; of the classes of the data."""
        known = found.take(np.flatnonzero(found.labels < len(classes)))
        masks: Any = known.masks
        stuff, softmax = stuff_of(classes), self.postprocess.scores == "softmax"
        usual = BestMasks if softmax else TopMasks
        return panoptic(
            known.scores,
            known.labels,
            masks,
            is_thing=lambda label: label not in stuff,
            threshold=getattr(self.postprocess, "panoptic_threshold", usual.panoptic_threshold),
            least=0.5 if softmax else 0.0,
            claim=getattr(self.postprocess, "panoptic_claim", usual.panoptic_claim),
        )

    def evaluate(self, answers: Iterable[Answer], source: Any) -> Evaluation:
        """COCO's scores of boxes and masks, and panoptic quality where the source has segments; else of boxes alone."""
        if not getattr(source, "has_masks", False):
            return super().evaluate(answers, source)
        from vitjax.evaluation import mask_detection  # which only those need who score

        return mask_detection.evaluate(answers, source, partial(self.panoptic, classes=source.classes))

    @property
    def checks(self) -> "Checks":
        """What tells more of its boxes than scores do."""
        from vitjax.evaluation import mask_checks

        return mask_checks


@dataclasses.dataclass(frozen=True, kw_only=True)
class MaskDetection(Detection):
    """Everything that decides the run of a detector with masks; a config file's `experiment()` returns one.

    Detector and mask head are trained together; in two stages, as published, the detector is trained first, and then
    is loaded (`init_from`) and frozen (`optimizer.frozen=("^detr/",)`).
    """

    kind: ClassVar[str] = "masks"
    predicts: ClassVar[type] = MaskDetector

    model: nn.Module = dataclasses.field(default_factory=MaskDETR)
    """The network."""
    data: CocoMasks | CocoPanoptic | DigitMasks = dataclasses.field(default_factory=CocoMasks)  # type: ignore[assignment]
    """Where images, boxes and masks come from."""
    mask_loss: MaskLoss = dataclasses.field(default_factory=MaskLoss)
    """What is minimised besides, of masks."""
    postprocess: BestMasks | TopMasks | BestClass | TopDetections = dataclasses.field(default_factory=BestMasks)
    """How predictions become detections."""

    @classmethod
    def data_of(cls, classes: Classes) -> Any:
        """A folder in COCO's panoptic form where the model has those classes, else one with instance masks."""
        if classes == COCO_PANOPTIC:
            return CocoPanoptic(labels="category_id")
        return CocoMasks(labels="category_id" if classes == COCO else "contiguous")

    def plan(self, source: Any) -> "TrainPlan":
        """Buckets of image sizes.

        Raises:
            FieldError: the source gives no masks, or `best` is a score that it has none of.
        """
        if not getattr(source, "has_masks", False):
            raise FieldError(f"masks are trained on data that give them (--data.masks); got {self.data}.")
        if self.best in PARTS and not isinstance(source, PanopticSource):
            raise FieldError(f"best={self.best!r} is a score of panoptic data; a {type(self.data).__name__} has none.")
        return super().plan(source)

    def objective(self, mesh: Mesh) -> Objective:
        """The set loss and that of the masks of matched queries; each device matches its own images."""
        matching = matching_per_device(partial(match, self.loss.cost), mesh)
        return mask_objective(self.model, self.loss, self.mask_loss, matching)


def mask_objective(model: nn.Module, loss: Loss, mask_loss: MaskLoss, matching: Match) -> Objective:
    """The loss of a detector with masks; masks are computed of matched queries alone.

    A model whose class says `takes_targets = True` is also given the `targets`, and random numbers of the name "noise".
    In evaluation the loss of masks is that of the objects whose query has one.
    """

    def matched(predictions: Predictions, targets: Targets) -> Assignment:
        queries = matching(predictions, targets).queries
        return Assignment({name: jnp.where(targets.valid, rows, -1) for name, rows in queries.items()})

    def evaluate(variables: dict[str, Any], batch: Batch, key: Array) -> Evaluated:
        given, rngs = {}, {"dropout": key}
        if getattr(model, "takes_targets", False):
            given = {"targets": batch.targets}
            rngs = dict(zip(("dropout", "noise"), jax.random.split(key), strict=True))
        find: Callable = partial(matched, targets=batch.targets)
        answer, changed = forward(model, variables, images_of(batch), rngs, matching=find, **given)
        terms = loss(answer.predictions, batch.targets, answer.assignment)
        there = answer.queries >= 0
        return Evaluated(terms | _mask_terms(mask_loss, answer.masks, batch, batch.targets, there), changed)

    def validate(answer: MaskPredictions, batch: Batch) -> Terms:
        predictions = rows_of(answer.predictions, batch.records >= 0)
        assignment = matched(predictions, batch.targets)
        terms = loss(predictions, batch.targets, assignment)
        queries = assignment.queries[ANSWER][-1]
        rows = queries if answer.queries is None else _places(answer.queries, queries)
        made = dataclasses.replace(batch.targets, valid=batch.targets.valid & ((queries < 0) | (rows >= 0)))
        masks = _of_rows(answer.masks, jnp.maximum(rows, 0))
        return terms | _mask_terms(mask_loss, masks, batch, made, rows >= 0)

    return Objective(evaluate, validate, lambda terms: loss.total(terms) + mask_loss.total(terms))


def _mask_terms(
    loss: MaskLoss, masks: Array, batch: Batch, targets: Targets, there: Bool[Array, "batch objects"]
) -> Terms:
    """`mask` and `dice` per object, of the objects whose masks are `there`, one in the place of each."""
    planes: Any = batch.masks
    if planes is None:  # in evaluation a batch has none where not one of its images could be read
        planes = jnp.zeros((*batch.pixels.shape[:3], planes_for(there.shape[1])), jnp.uint8)
    objects = jnp.broadcast_to(jnp.arange(there.shape[1]), there.shape)

    def losses(masks: Array, objects: Array) -> dict[str, Array]:
        return loss.of_each(masks, unpack_masks(planes, objects))

    pairs = paired(targets, jnp.where(there, 0, -1))
    found = in_parts(losses, (masks, objects), pairs, each=TOGETHER)
    return {name: per_object(jnp.where(pairs, x, 0).sum()[None], targets) for name, x in found.items()}


def _of_rows(masks: Array, rows: Int[Array, "batch chosen"]) -> Array:
    """The masks of these numbers."""
    return jnp.take_along_axis(masks, rows[..., None, None], axis=1)


def _places(chosen: Int[Array, "batch chosen"], queries: Int[Array, "batch objects"]) -> Int[Array, "batch objects"]:
    """Where each query is among the chosen ones; -1 where it is not."""
    same = queries[..., None] == chosen[:, None]
    return jnp.where(same.any(-1), same.argmax(-1), -1)
