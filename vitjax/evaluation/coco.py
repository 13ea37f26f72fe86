"""COCO box metrics: pycocotools' numbers, without the inputs that make pycocotools wrong, crash or fall silent."""

import contextlib
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int
from pycocotools import coco as coco_tool
from pycocotools import cocoeval as coco_scorer
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from vitjax.errors import VitjaxError
from vitjax.evaluation.scores import METRICS

_TOOLS: tuple[Any, ...] = (coco_tool, coco_scorer)


class ClassScore(NamedTuple):
    """The scores of one class, nan where it has no objects; crowds are not counted as objects."""

    name: str
    AP: float
    AP50: float
    objects: int


@dataclass(frozen=True)
class CocoScores:
    """The twelve COCO numbers in [0, 1], nan where there is no ground truth of that kind, and a row for every class.

    `ignored` counts results whose category the ground truth does not have; they are left out, as pycocotools does.
    `ranked` has what was found of each class, as `vitjax/evaluation/thresholds.py` takes it.
    """

    summary: dict[str, float]
    per_class: tuple[ClassScore, ...]
    curves: dict[str, np.ndarray] = field(repr=False)
    ranked: tuple[Any, ...] = field(repr=False)
    ignored: int = 0

    @property
    def by_class(self) -> dict[str, float]:
        """The AP of every class."""
        return {f"AP/{row.name}": row.AP for row in self.per_class}

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """pycocotools' `precision` and `scores` (IoU, recall, class, area, detections) and `recall`, and their axes.

        The entry of `scores` is the least score with which that recall is reached; -1 is where there are no objects.
        `by_threshold` has precision, recall and F1 (in this order) at an IoU of 0.5 of every class, and last of all
        together, where the results that reach each of `thresholds` are taken.
        """
        from vitjax.evaluation.thresholds import GRID, at_thresholds, together

        rows = [at_thresholds(one, GRID) for one in (*self.ranked, together(self.ranked))]
        return {**self.curves, "thresholds": GRID, "by_threshold": np.array(rows, np.float32)}

    def table(self) -> str:
        """Text: a row for every class and one for all, then the twelve numbers; "-" where there is nothing to score."""
        objects = sum(row.objects for row in self.per_class)
        rows = [*self.per_class, ClassScore("all", self.summary["AP"], self.summary["AP50"], objects)]
        width = max(len("class"), *(len(row.name) for row in rows))
        lines = [f"{'class':<{width}}  objects     AP   AP50"]
        lines += [f"{name:<{width}}  {n:>7}  {_decimals(ap):>5}  {_decimals(ap50):>5}" for name, ap, ap50, n in rows]
        numbers = [f"{name:<5} {_decimals(value):>5}" for name, value in self.summary.items()]
        lines += ["", "  ".join(numbers[:6]), "  ".join(numbers[6:])]
        if self.ignored:
            lines += ["", f"{self.ignored} results left out: their category ids are not in the ground truth"]
        return "\n".join(lines)


def evaluate_boxes(
    ground_truth: Mapping[str, Any], results: Sequence[Mapping[str, Any]], *, masks: bool = False
) -> CocoScores:
    """COCO scores of COCO-results dicts (image_id, category_id, bbox xywh px, score) on a COCO instances dict.

    Works on a copy, in which ids are renumbered (pycocotools takes annotation id 0 for "not matched", and an annotation
    overwrites another of its id) and a missing area or iscrowd is filled in. Of each class in an image the 100 best
    results count. No results give zeros; an object of no size counts, as one that cannot be found. With `masks` it is
    these that overlap: all have run lengths and an area, as `evaluate_masks` gives them.

    Raises:
        VitjaxError: a field is missing, an image or an annotation's category is unknown, or a box, area or score is NaN
            or infinite (pycocotools may score such a result as found).
    """
    from vitjax.evaluation.thresholds import ranked_of

    images = _ranks(_ids(ground_truth, "images", "image"))
    categories = _ranks(_ids(ground_truth, "categories", "category"))
    names = {category["id"]: str(category.get("name", category["id"])) for category in ground_truth["categories"]}
    truth = _truth_rows(ground_truth.get("annotations") or [], images, categories)
    found = _result_rows(results, images, categories)
    for told, given in ((truth, ground_truth["annotations"]), (found, results)) if masks else ():
        known = (one for one in given if one["category_id"] in categories)
        for row, one in zip(told, known, strict=True):
            row.update(segmentation=one["segmentation"], area=one["area"])
    evaluation = _run(_as_coco(images, categories, truth), _as_coco(images, categories, found), masks)
    objects = Counter(row["category_id"] for row in truth if not row["iscrowd"])
    summary = {name: _mean(np.asarray(value)) for name, value in zip(METRICS, evaluation.stats, strict=True)}
    # Axes: IoU thresholds, recalls, classes, area ranges (first: all), limits of detections (last: 100).
    precision = evaluation.eval["precision"][:, :, :, 0, -1]
    rows = tuple(
        ClassScore(names[key], _mean(precision[:, :, rank - 1]), _mean(precision[0, :, rank - 1]), objects[rank])
        for key, rank in categories.items()
    )
    curves = {name: evaluation.eval[name].astype(np.float32) for name in ("precision", "scores", "recall")}
    axes = {"iou": evaluation.params.iouThrs, "recall_levels": evaluation.params.recThrs}
    axes |= {"classes": np.array([row.name for row in rows]), "areas": np.array(evaluation.params.areaRngLbl)}
    curves |= axes | {"detections": np.array(evaluation.params.maxDets)}
    ranked = ranked_of(evaluation, len(images), [objects[rank] for rank in categories.values()])
    return CocoScores(summary, rows, curves, ranked, ignored=len(results) - len(found))


def to_results(
    image_ids: Sequence[int | str] | Int[np.ndarray, " batch"],
    scores: Float[np.ndarray, "batch detections"],
    labels: Int[np.ndarray, "batch detections"],
    boxes_xyxy_px: Float[np.ndarray, "batch detections 4"],
    category_ids: Sequence[int],
) -> list[dict[str, Any]]:
    """COCO-results dicts in plain Python numbers, ready for json; a label is the row of its id in `category_ids`.

    Boxes keep 3 decimals, about what float32 holds at the far side of a 4,096 px image; scores keep 7, all that float32
    holds near one, so that no two that matter become a tie. That makes a third of the json.

    Raises:
        VitjaxError: a label has no category id.
    """
    outside = (labels < 0) | (labels >= len(category_ids))
    if outside.any():
        raise VitjaxError(
            f"Label {labels[outside][0]} has no category id: there are {len(category_ids)}, counted from 0."
        )
    # In float64, or the width would carry a second rounding.
    boxes = boxes_xyxy_px.astype(np.float64)
    xywh = np.concatenate([boxes[..., :2], boxes[..., 2:] - boxes[..., :2]], axis=-1).round(3).tolist()
    rounded = scores.astype(np.float64).round(7).tolist()
    categories = np.asarray(category_ids, dtype=np.int64)[labels].tolist()
    return [
        {"image_id": image, "category_id": category, "bbox": box, "score": score}
        for image, *columns in zip(np.asarray(image_ids).tolist(), categories, xywh, rounded, strict=True)
        for category, box, score in zip(*columns, strict=True)
    ]


def _ids(ground_truth: Mapping[str, Any], key: str, kind: str) -> list[Hashable]:
    if key not in ground_truth:
        raise VitjaxError(f"The ground truth has no {key!r} but {sorted(ground_truth)}; give a COCO instances dict.")
    return _column(ground_truth[key], "id", kind)


def _ranks(ids: Iterable[Hashable]) -> dict[Hashable, int]:
    """Ids in pycocotools' order, which decides among equal scores, numbered from 1."""
    ordered = sorted(set(ids), key=lambda value: (isinstance(value, str), value))
    return {value: rank for rank, value in enumerate(ordered, start=1)}


def _truth_rows(
    annotations: Sequence[Mapping[str, Any]], images: Mapping[Hashable, int], categories: Mapping[Hashable, int]
) -> list[dict[str, Any]]:
    image_ids = _known(_column(annotations, "image_id", "annotation"), images, "annotations", "images")
    category_ids = _known(_column(annotations, "category_id", "annotation"), categories, "annotations", "categories")
    boxes = _boxes(annotations, "annotation")
    given = [row.get("area") for row in annotations]
    pairs = zip(given, boxes[:, 2] * boxes[:, 3], strict=True)
    areas = np.array([product if area is None else area for area, product in pairs], dtype=np.float64)
    _refuse_non_finite(boxes, areas, image_ids, "annotations hold a NaN or infinite box or area")
    crowds = [int(row.get("iscrowd") or 0) for row in annotations]
    columns = zip(image_ids, category_ids, boxes.tolist(), areas.tolist(), crowds, strict=True)
    return [_row(images[image], categories[category], *shape) for image, category, *shape in columns]


def _result_rows(
    results: Sequence[Mapping[str, Any]], images: Mapping[Hashable, int], categories: Mapping[Hashable, int]
) -> list[dict[str, Any]]:
    image_ids = _known(_column(results, "image_id", "result"), images, "results", "images")
    category_ids = _column(results, "category_id", "result")
    boxes = _boxes(results, "result")
    # In float64 a score of None is NaN, and refused as such.
    scores = np.asarray(_column(results, "score", "result"), dtype=np.float64)
    _refuse_non_finite(boxes, scores, image_ids, "results hold a NaN or infinite box or score")
    return [
        _row(images[image], categories[category], box, box[2] * box[3], 0) | {"score": score}
        for image, category, box, score in zip(image_ids, category_ids, boxes.tolist(), scores.tolist(), strict=True)
        if category in categories
    ]


def _row(image: int, category: int, box: Any, area: Any, crowd: Any) -> dict[str, Any]:
    return {"image_id": image, "category_id": category, "bbox": box, "area": area, "iscrowd": crowd}


def _column(records: Sequence[Mapping[str, Any]], key: str, kind: str) -> list[Any]:
    for index, record in enumerate(records):
        if key not in record:
            raise VitjaxError(
                f"The {kind} at index {index} has no {key!r} but {sorted(record)}; COCO format asks for it."
            )
    return [record[key] for record in records]


def _boxes(records: Sequence[Mapping[str, Any]], kind: str) -> Float[np.ndarray, "records 4"]:
    boxes = _column(records, "bbox", kind)
    for index, box in enumerate(boxes):
        if not isinstance(box, list | tuple | np.ndarray) or len(box) != 4:
            raise VitjaxError(
                f"The {kind} at index {index} has bbox {box!r}; COCO asks for [x, y, width, height] in pixels."
            )
    return np.asarray(boxes, dtype=np.float64).reshape(-1, 4)


def _known(ids: list[Hashable], known: Mapping[Hashable, int], kind: str, of: str) -> list[Hashable]:
    strangers = [value for value in ids if value not in known]
    if strangers:
        raise VitjaxError(
            f"{len(strangers)} of {len(ids)} {kind} have an id that is not among the {len(known)} {of} of the "
            f"ground truth, the first is {strangers[0]!r}; evaluate on the ground truth of the same split."
        )
    return ids


def _refuse_non_finite(boxes: np.ndarray, values: np.ndarray, image_ids: list[Hashable], what: str) -> None:
    bad = ~np.isfinite(np.column_stack([boxes, values])).all(axis=1)
    if bad.any():
        first = image_ids[int(np.argmax(bad))]
        raise VitjaxError(f"{bad.sum()} of {bad.size} {what}, the first in image {first!r}; no score can be given.")


def _as_coco(images: Mapping[Hashable, int], categories: Mapping[Hashable, int], rows: list[dict[str, Any]]) -> COCO:
    coco = COCO()
    coco.dataset = {
        "images": [{"id": rank, "height": 0, "width": 0} for rank in images.values()],  # masks know their own
        "categories": [{"id": rank} for rank in categories.values()],
        "annotations": [row | {"id": number} for number, row in enumerate(rows, start=1)],
    }
    with _silence():
        coco.createIndex()
    return coco


def _run(truth: COCO, found: COCO, masks: bool) -> COCOeval:
    with _silence():
        evaluation = COCOeval(truth, found, iouType="segm" if masks else "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """pycocotools prints nothing; others may meanwhile, from other threads, whose stdout is the same."""
    for module in _TOOLS:
        module.print = lambda *_: None
    try:
        yield
    finally:
        for module in _TOOLS:
            vars(module).pop("print", None)


def _mean(values: np.ndarray) -> float:
    """The mean of what is not -1, pycocotools' mark for "no such ground truth"."""
    scored = values[values > -1]
    return float(scored.mean()) if scored.size else float("nan")


def _decimals(value: float) -> str:
    return "-" if np.isnan(value) else f"{value:.3f}"
