"""What a detector does wrong: which kinds of mistakes, which classes it takes for which, and on which images most.

Source: Bolya et al., TIDE: A General Toolbox for Identifying Object Detection Errors, 2020, whose kinds, thresholds and
order of questions these are; here they count the boxes that reach a threshold, there they weigh all by AP.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from vitjax.evaluation.overlaps import overlaps

RIGHT_IOU = 0.5
"""A box is right from this IoU on with an object of its class that no better box has taken."""
BACKGROUND_IOU = 0.1
"""A box that overlaps every object by less than this, or as much, is of the background."""
KINDS = ("missed", "badly placed", "wrong class", "double", "background", "wrong class and place")
MISSED, PLACED, CLASS, DOUBLE, BACKGROUND, BOTH = range(len(KINDS))
RIGHT, IGNORED, _OPEN = -1, -2, -3  # in place of a kind; what lies on a crowd is neither right nor wrong
_MOST = 100  # boxes of a class and an image that COCO counts


class Truth(NamedTuple):
    """The objects of an image: xyxy in pixels, label, and whether it is a crowd."""

    boxes: Float[np.ndarray, "objects 4"]
    labels: Int[np.ndarray, " objects"]
    crowds: Bool[np.ndarray, " objects"]


class Found(NamedTuple):
    """The detections of an image, best first: xyxy in pixels, label and score."""

    boxes: Float[np.ndarray, "found 4"]
    labels: Int[np.ndarray, " found"]
    scores: Float[np.ndarray, " found"]


class Judged(NamedTuple):
    """What is right and wrong on an image: the place in KINDS of each detection, or RIGHT or IGNORED.

    `finders` has the detection that finds each object, -1 where none does; `taken_for` the one of another class on an
    object that none finds, -1 where there is none. `missed` are the objects that no detection finds, nor would find if
    its class or its place were right.
    """

    kinds: Int[np.ndarray, " found"]
    finders: Int[np.ndarray, " objects"]
    taken_for: Int[np.ndarray, " objects"]
    missed: Bool[np.ndarray, " objects"]


def judge(truth: Truth, found: Found) -> Judged:
    """The mistakes on one image.

    Detections are matched as COCO does, best first. Of one that finds nothing it is asked in turn: does it lie on an
    object of its class by an IoU of 0.1 to 0.5 (badly placed); on one of another by 0.5 or more (wrong class); on one
    of its own that a better box has found (double); on nothing by more than 0.1 (background)? What is left has wrong
    class and place.
    """
    near = overlaps(found.boxes, truth.boxes, truth.crowds)
    same = found.labels[:, None] == truth.labels[None]
    single = ~truth.crowds
    kinds, finders = np.full(len(found.labels), RIGHT), np.full(len(truth.labels), -1)
    for place in range(len(kinds)):
        able = np.flatnonzero(same[place] & single & (finders < 0) & (near[place] >= RIGHT_IOU))
        if len(able):
            finders[able[::-1][near[place][able[::-1]].argmax()]] = place  # of equal ones the last, as COCO does
        elif (same[place] & ~single & (near[place] >= RIGHT_IOU)).any():
            kinds[place] = IGNORED
        else:
            kinds[place] = _OPEN
    excused = np.zeros(len(finders), bool)
    for place in np.flatnonzero(kinds == _OPEN).tolist():
        kinds[place], about = _kind(near[place] * single, same[place])
        if about is not None:
            excused[about] = True
    missed = single & (finders < 0) & ~excused
    return Judged(kinds, finders, _confused(near, same, single & (finders < 0), kinds >= 0), missed)


def _kind(near: Float[np.ndarray, " objects"], same: Bool[np.ndarray, " objects"]) -> tuple[int, int | None]:
    """The kind of a detection that finds nothing, and the object that it would find, were it better."""
    if not len(near):
        return BACKGROUND, None
    own, other = near * same, near * ~same
    if BACKGROUND_IOU <= own.max() <= RIGHT_IOU:
        return PLACED, int(own.argmax())
    if other.max() >= RIGHT_IOU:
        return CLASS, int(other.argmax())
    if own.max() >= RIGHT_IOU:
        return DOUBLE, None
    return (BACKGROUND if near.max() <= BACKGROUND_IOU else BOTH), None


def _confused(
    near: Float[np.ndarray, "found objects"],
    same: Bool[np.ndarray, "found objects"],
    free: Bool[np.ndarray, " objects"],
    wrong: Bool[np.ndarray, " found"],
) -> Int[np.ndarray, " objects"]:
    """For each object that nothing finds the best wrong detection of another class that lies on it, each used once."""
    taken = np.full(len(free), -1)
    for place in np.flatnonzero(wrong).tolist():
        able = np.where(free & (taken < 0) & ~same[place] & (near[place] >= RIGHT_IOU), near[place], 0.0)
        if len(able) and able.max() > 0:
            taken[int(able.argmax())] = place
    return taken


@dataclasses.dataclass(frozen=True)
class ImageMistakes:
    """An image with what was found on it, and the F1 and the number of mistakes there."""

    image_id: Any
    truth: Truth
    found: Found
    judged: Judged
    f1: float
    wrong: int


@dataclasses.dataclass(frozen=True)
class Mistakes:
    """What a detector does wrong on a split with the boxes from a score of `threshold` on.

    `kinds` counts each of KINDS. `confusion` has a row for every class, and last for the background, and a column for
    what it was found as, and last for not at all; each single object counts in one row and each box in one column,
    those on crowds left out. `worst` has the images of the lowest F1, of equal ones those with most mistakes first.
    """

    names: tuple[str, ...]
    threshold: float
    kinds: Int[np.ndarray, " kinds"]
    confusion: Int[np.ndarray, "truth found"]
    worst: tuple[ImageMistakes, ...]

    @property
    def objects(self) -> int:
        """How many single objects there are."""
        return int(self.confusion[:-1].sum())

    @property
    def found(self) -> int:
        """How many boxes were found, those on crowds left out."""
        return int(self.confusion[:, :-1].sum())

    @property
    def right(self) -> int:
        """How many of them are right."""
        return int(np.trace(self.confusion))


def mistakes_of(
    ground_truth: Mapping[str, Any], results: Sequence[Mapping[str, Any]], threshold: float, *, worst: int = 8
) -> Mistakes:
    """The mistakes of COCO results that reach a threshold, image by image."""
    categories = sorted(ground_truth["categories"], key=lambda one: one["id"])
    label_of = {one["id"]: label for label, one in enumerate(categories)}
    classes = len(categories)
    kinds, confusion = np.zeros(len(KINDS), np.int64), np.zeros((classes + 1, classes + 1), np.int64)
    images = []
    for key, truth, found in _by_image(ground_truth, results, threshold, label_of):
        judged = judge(truth, found)
        kinds += np.bincount(judged.kinds[judged.kinds >= 0], minlength=len(KINDS))
        kinds[MISSED] += judged.missed.sum()
        confusion += _table(truth, found, judged, classes)
        right = int((judged.kinds == RIGHT).sum())
        wrong = int((judged.kinds >= 0).sum()), int((~truth.crowds).sum()) - right
        total = 2 * right + sum(wrong)
        images.append(ImageMistakes(key, truth, found, judged, 2 * right / total if total else 1.0, sum(wrong)))
        if len(images) > 4 * worst:  # so that no more than a few are held
            images = _worst(images, worst)
    names = tuple(str(one.get("name", one["id"])) for one in categories)
    return Mistakes(names, threshold, kinds, confusion, tuple(_worst(images, worst)))


def _worst(images: list[ImageMistakes], count: int) -> list[ImageMistakes]:
    return sorted((image for image in images if image.wrong), key=lambda image: (image.f1, -image.wrong))[:count]


def _table(truth: Truth, found: Found, judged: Judged, classes: int) -> Int[np.ndarray, "truth found"]:
    """The confusion on one image."""
    finder = np.where(judged.finders >= 0, judged.finders, judged.taken_for)
    labels = np.append(found.labels, classes)  # place -1 is the background
    rows, columns = truth.labels[~truth.crowds], labels[finder[~truth.crowds]]
    alone = np.setdiff1d(np.flatnonzero(judged.kinds >= 0), judged.taken_for)
    rows = np.append(rows, np.full(len(alone), classes))
    columns = np.append(columns, found.labels[alone])
    return np.bincount(rows * (classes + 1) + columns, minlength=(classes + 1) ** 2).reshape(classes + 1, classes + 1)


def _by_image(
    ground_truth: Mapping[str, Any], results: Sequence[Mapping[str, Any]], threshold: float, label_of: Mapping[Any, int]
) -> Iterator[tuple[Any, Truth, Found]]:
    """Every image with its objects, and its detections of known classes that reach the threshold, best first."""
    ids = [image["id"] for image in ground_truth["images"]]
    place_of = {key: place for place, key in enumerate(ids)}
    objects = ground_truth.get("annotations") or []
    taken = [one for one in results if one["score"] >= threshold and one["category_id"] in label_of]
    crowds = np.array([bool(one.get("iscrowd")) for one in objects], bool)
    scores = np.array([one["score"] for one in taken], np.float64)
    on, boxes, labels = _columns(objects, place_of, label_of)
    found_on, found_boxes, found_labels = _columns(taken, place_of, label_of)
    rows = np.argsort(on, kind="stable")
    found_rows = _counted(found_on, found_labels, scores)
    ends = np.searchsorted(on[rows], np.arange(len(ids) + 1))
    found_ends = np.searchsorted(found_on[found_rows], np.arange(len(ids) + 1))
    for place, key in enumerate(ids):
        mine = rows[ends[place] : ends[place + 1]]
        ours = found_rows[found_ends[place] : found_ends[place + 1]]
        truth = Truth(boxes[mine], labels[mine], crowds[mine])
        yield key, truth, Found(found_boxes[ours], found_labels[ours], scores[ours])


def _counted(
    on: Int[np.ndarray, " found"], labels: Int[np.ndarray, " found"], scores: Float[np.ndarray, " found"]
) -> Int[np.ndarray, " counted"]:
    """The detections that COCO counts, image by image, best first: the 100 best of a class."""
    by_class = np.lexsort((-scores, labels, on))
    first = np.append(True, (np.diff(on[by_class]) != 0) | (np.diff(labels[by_class]) != 0))[: len(by_class)]
    places = np.arange(len(by_class))
    rank = places - np.maximum.accumulate(np.where(first, places, 0))
    left = np.sort(by_class[rank < _MOST])
    return left[np.lexsort((-scores[left], on[left]))]


def _columns(
    rows: Sequence[Mapping[str, Any]], place_of: Mapping[Any, int], label_of: Mapping[Any, int]
) -> tuple[Int[np.ndarray, " rows"], Float[np.ndarray, "rows 4"], Int[np.ndarray, " rows"]]:
    """The image, the xyxy box and the label of annotations or results."""
    on = np.array([place_of[one["image_id"]] for one in rows], np.int64)
    labels = np.array([label_of[one["category_id"]] for one in rows], np.int64)
    boxes = np.array([one["bbox"] for one in rows], np.float64).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    return on, boxes, labels
