"""The constant answer of a detector: the boxes that find most, were they put on every image without looking at it."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from vitjax.data.errors import DataError
from vitjax.errors import VitjaxError
from vitjax.evaluation.checks import Baseline
from vitjax.evaluation.coco import evaluate_boxes, to_results
from vitjax.evaluation.overlaps import overlaps

_CLUSTERS = (1, 2, 3, 5, 8, 13, 21)
_BOXES = 20  # of a class
_ALL = 100  # of an image, no more than of a detector count
_IMAGES = 2000  # of the training split, from all over it
_DECODED = 200  # the same of a source whose boxes come with its images only
_SCORED = 1000  # images of the split that is scored
_ROUNDS = 30


class Objects(NamedTuple):
    """Single objects of some images: xyxy as shares of the image's sides, label, and which of `images` they are on."""

    boxes: Float[np.ndarray, "objects 4"]
    labels: Int[np.ndarray, " objects"]
    rows: Int[np.ndarray, " objects"]
    images: int


class ConstantBoxes(NamedTuple):
    """Boxes for every image: xyxy as shares of its sides, with labels and scores."""

    boxes: Float[np.ndarray, "boxes 4"]
    labels: Int[np.ndarray, " boxes"]
    scores: Float[np.ndarray, " boxes"]

    def to_json(self) -> dict[str, Any]:
        """Plain Python."""
        return {
            "boxes": self.boxes.round(6).tolist(),
            "labels": self.labels.tolist(),
            "scores": self.scores.round(6).tolist(),
        }


def read_constant_boxes(content: Mapping[str, Any]) -> ConstantBoxes:
    """What `to_json` wrote.

    Raises:
        VitjaxError: it is something else.
    """
    try:
        boxes = np.asarray(content["boxes"], np.float64).reshape(-1, 4)
        labels, scores = np.asarray(content["labels"], np.int64), np.asarray(content["scores"], np.float64)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise VitjaxError("a constant answer has boxes of four shares, labels and scores") from error
    if not len(boxes) == labels.size == scores.size or not (np.isfinite(boxes).all() and np.isfinite(scores).all()):
        raise VitjaxError("a constant answer has a label and a score for each box, and all of it is finite")
    return ConstantBoxes(boxes, labels.reshape(-1), scores.reshape(-1))


def objects_of(source: Any, most: int = _IMAGES) -> Objects:
    """The objects on so many images from all over a DetectionSource; crowds are left out.

    Where they are in a table (`annotations`), as those of AnnotatedImages are, no image is read; else no more than 200.
    """
    table: Any = getattr(source, "annotations", None)
    records = _spread(len(source), most if table is not None else min(most, _DECODED))
    if table is not None:
        chosen = np.isin(table.records, records) & ~table.crowds
        on, boxes, labels = table.records[chosen], table.boxes[chosen], table.labels[chosen]
    else:
        read = [(np.zeros(0, np.int64), np.zeros((0, 4)), np.zeros(0, np.int64)), *_read(source, records)]
        on, boxes, labels = (np.concatenate(columns) for columns in zip(*read, strict=True))
    sides = source.sizes[on][:, [1, 0, 1, 0]]
    shares = np.clip(boxes / np.maximum(sides, 1), 0, 1).astype(np.float64)
    return Objects(shares, labels.astype(np.int64), np.searchsorted(records, on), len(records))


def constant_boxes(objects: Objects) -> ConstantBoxes:
    """Of each class the boxes that find most of the objects, by IoU 0.5 and as COCO counts.

    They are chosen one by one among the middles of 1 to 21 clusters: each finds the most of what those before it did
    not find, at most one object of an image, and its score is the share of the images on which it does.
    """
    parts = []
    for label in np.unique(objects.labels).tolist():
        own = objects.labels == label
        boxes, scores = _covering(objects.boxes[own], objects.rows[own], objects.images)
        parts.append((boxes, np.full(len(boxes), label), scores))
    if not parts:
        return ConstantBoxes(np.zeros((0, 4)), np.zeros(0, np.int64), np.zeros(0))
    boxes, labels, scores = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    best = np.argsort(-scores, kind="stable")[:_ALL]
    return ConstantBoxes(boxes[best], labels[best], scores[best])


def score_constant_boxes(constant: ConstantBoxes, source: Any) -> Baseline:
    """COCO's scores of the boxes on every image of AnnotatedImages or another DetectionSource.

    Where there are more than 1,000 images it is so many from all over, and the answer says so.
    """
    truth, records = source.ground_truth(), _spread(len(source), _SCORED)
    ids = [source.image_ids[record] for record in records.tolist()]
    if len(records) < len(source):
        chosen = set(ids)
        images = [image for image in truth["images"] if image["id"] in chosen]
        annotations = [one for one in truth["annotations"] if one["image_id"] in chosen]
        truth = {**truth, "images": images, "annotations": annotations}
    known = constant.labels < len(source.classes)
    boxes, labels, scores = (part[known] for part in constant)
    sides = source.sizes[records][:, None, [1, 0, 1, 0]]
    shape = (len(records), len(labels))
    columns = (np.broadcast_to(scores, shape), np.broadcast_to(labels, shape), boxes * sides)
    summary = evaluate_boxes(truth, to_results(ids, *columns, source.classes.category_ids)).summary
    count = len(labels)
    answer = f"the same {count} boxes on every image" if count != 1 else "the same box on every image"
    if len(records) < len(source):
        answer += f" ({len(records):,} of {len(source):,} images)"
    return Baseline(answer, {name: summary[name] for name in ("AP", "AP50")})


def _spread(records: int, most: int) -> Int[np.ndarray, " chosen"]:
    """So many records at most, from all over."""
    return np.unique(np.linspace(0, records - 1, min(most, records)).round().astype(np.int64))


def _read(source: Any, records: Int[np.ndarray, " chosen"]) -> Iterator[tuple[np.ndarray, ...]]:
    """Record, box and label of the objects on each image that can be read."""
    for record in records.tolist():
        try:
            sample = source[record]
        except DataError:  # such are told where they are trained on
            continue
        yield np.full(len(sample.labels), record), sample.boxes, sample.labels


def _covering(
    boxes: Float[np.ndarray, "objects 4"], rows: Int[np.ndarray, " objects"], images: int
) -> tuple[Float[np.ndarray, "chosen 4"], Float[np.ndarray, " chosen"]]:
    """The boxes that find most of one class, and the share of the images on which each finds something."""
    count = min(len(boxes), 1 + max(_CLUSTERS))
    candidates = np.concatenate([_middles(boxes, clusters) for clusters in _CLUSTERS if clusters <= count])
    near = overlaps(candidates, boxes)
    left = np.ones(len(boxes), bool)
    chosen, scores = [], []
    for _ in range(_BOXES):
        finds = [_found(near[place], left, rows) for place in range(len(candidates))]
        best = max(range(len(candidates)), key=lambda place: len(finds[place]))
        if not len(finds[best]):
            break
        chosen.append(best)
        scores.append(len(finds[best]) / images)
        left[finds[best]] = False
    return candidates[chosen], np.array(scores, np.float64)


def _found(
    near: Float[np.ndarray, " objects"], left: np.ndarray, rows: Int[np.ndarray, " objects"]
) -> Int[np.ndarray, " found"]:
    """The objects that one box finds: on each image the one that it overlaps most, of those that are left."""
    able = np.flatnonzero(left & (near >= 0.5))
    able = able[np.argsort(-near[able], kind="stable")]
    return able[np.unique(rows[able], return_index=True)[1]]


def _middles(boxes: Float[np.ndarray, "objects 4"], clusters: int) -> Float[np.ndarray, "clusters 4"]:
    """The medians of clusters of boxes by centre and size; the beginning is spread at random, the same every time."""
    points = np.concatenate([(boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]], axis=1)
    rng = np.random.default_rng(clusters)
    middles = [np.median(points, axis=0)]
    for _ in range(clusters - 1):
        far = _distances(points, np.array(middles)).min(1)
        middles.append(points[rng.choice(len(points), p=far / far.sum()) if far.sum() > 0 else 0])
    at = np.array(middles)
    for _ in range(_ROUNDS):
        nearest = _distances(points, at).argmin(1)
        own = [points[nearest == cluster] for cluster in range(clusters)]
        new = np.array([np.median(one, axis=0) if len(one) else at[cluster] for cluster, one in enumerate(own)])
        if np.array_equal(new, at):
            break
        at = new
    return np.concatenate([at[:, :2] - at[:, 2:] / 2, at[:, :2] + at[:, 2:] / 2], axis=1)


def _distances(points: np.ndarray, middles: np.ndarray) -> Float[np.ndarray, "points middles"]:
    return ((points[:, None] - middles) ** 2).sum(-1)
