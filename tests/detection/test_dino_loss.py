"""DINO's loss on matched, proposed and denoised queries, by loops in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vitjax.detection.dino_loss import EPSILON, DINOLoss
from vitjax.detection.focal_loss import FocalSetLoss
from vitjax.detection.matcher import match
from vitjax.structs import ANSWER, Predictions, PredictionSet, Targets

QUERIES, CLASSES, LOSS = 6, 4, DINOLoss()
OBJECTS = np.array([[0, 1, -1, -1, 0, 1], [0, -1, -1, -1, 0, -1]], np.int32)  # of slots, of which the last are not used
USED = np.array([[1, 1, 1, 1, 1, 0], [1, 1, 1, 1, 1, 0]], bool)
TARGETS = Targets(
    jnp.asarray(np.random.default_rng(1).uniform(0.002, 0.006, (2, 2, 4)), jnp.float32),
    jnp.array([[1, 3], [0, 0]], jnp.int32),
    jnp.array([[True, True], [True, False]]),
)


def drawn(seed, **fields):
    generator = np.random.default_rng(seed)
    logits = jnp.asarray(generator.normal(size=(1, 2, QUERIES, CLASSES)), jnp.float32)
    boxes = jnp.asarray(generator.uniform(0.002, 0.006, (1, 2, QUERIES, 4)), jnp.float32)
    return PredictionSet(logits, boxes, **fields)


PREDICTIONS = Predictions(
    {
        ANSWER: drawn(0),
        "proposal": drawn(1),
        "denoising": drawn(2, valid=jnp.asarray(USED[None]), objects=jnp.asarray(OBJECTS[None]), rule="given"),
    }
)


@pytest.fixture(scope="module")
def found():
    assignment = match(LOSS.cost, PREDICTIONS, TARGETS)
    return jax.jit(LOSS)(PREDICTIONS, TARGETS, assignment), assignment


def giou(a, b):
    (al, at, ar, ab), (bl, bt, br, bb) = ((x - w / 2, y - h / 2, x + w / 2, y + h / 2) for x, y, w, h in (a, b))
    overlap = max(min(ar, br) - max(al, bl), 0) * max(min(ab, bb) - max(at, bt), 0)
    union = a[2] * a[3] + b[2] * b[3] - overlap
    hull = (max(ar, br) - min(al, bl)) * (max(ab, bb) - min(at, bt))
    return overlap / (union + EPSILON) - (hull - union) / (hull + EPSILON)


def by_loops(one, objects, used):
    """The three terms of one layer, from the object of each query."""
    logits, boxes = (np.asarray(x[0], np.float64) for x in (one.logits, one.boxes))
    totals = {"class": 0.0, "box": 0.0, "giou": 0.0}
    pairs = 0
    for image, query in np.argwhere(used):
        place = objects[image, query]
        p = 1 / (1 + np.exp(-logits[image, query]))
        there = np.arange(CLASSES) == (TARGETS.labels[image, place] if place >= 0 else -1)
        totals["class"] += np.where(there, -0.25 * (1 - p) ** 2 * np.log(p), -0.75 * p**2 * np.log(1 - p)).sum()
        if place >= 0:
            wanted = np.asarray(TARGETS.boxes[image, place], np.float64)
            pairs += 1
            totals["box"] += np.abs(boxes[image, query] - wanted).sum()
            totals["giou"] += 1 - giou(boxes[image, query], wanted)
    return {name: total / pairs for name, total in totals.items()}


@pytest.mark.parametrize("name", [ANSWER, "proposal", "denoising"])
def test_every_set_is_divided_by_its_pairs_and_small_boxes_have_their_epsilon(found, name):
    terms, assignment = found
    objects, used = OBJECTS, USED
    if name != "denoising":
        objects, used = np.full((2, QUERIES), -1), np.ones((2, QUERIES), bool)
        for image, place in np.argwhere(np.asarray(TARGETS.valid)):
            objects[image, assignment.queries[name][0, image, place]] = place
    prefix = "" if name == ANSWER else f"{name}_"
    for term, wanted in by_loops(PREDICTIONS.sets[name], objects, used).items():
        np.testing.assert_allclose(terms[f"{prefix}{term}"].value, [wanted], rtol=1e-4, err_msg=term)


def test_the_total_has_all_sets_with_the_published_weights(found):
    terms, _ = found
    weights = {"class": 1.0, "box": 5.0, "giou": 2.0}
    wanted = sum(
        w * float(terms[f"{p}{n}"].value[0]) for n, w in weights.items() for p in ("", "proposal_", "denoising_")
    )
    np.testing.assert_allclose(LOSS.total(terms), wanted, rtol=1e-6)


def test_the_matching_has_the_epsilon_too():
    one = PREDICTIONS.sets[ANSWER]
    arguments = (one.logits[0, 0], one.boxes[0, 0], TARGETS.boxes[0], TARGETS.labels[0])
    found, plain = LOSS.cost(*arguments), FocalSetLoss().cost(*arguments)
    boxes, wanted = (np.asarray(x, np.float64) for x in (one.boxes[0, 0], TARGETS.boxes[0]))
    pairs = [[giou(a, b) for b in wanted] for a in boxes]
    distance = np.abs(boxes[:, None] - wanted).sum(-1)
    worth = np.asarray(LOSS.cost.worth(one.logits[0, 0]))[:, np.asarray(TARGETS.labels[0])]
    np.testing.assert_allclose(found, 5 * distance - 2 * np.array(pairs) - 2 * worth, atol=1e-4)
    assert not np.allclose(found, plain, atol=1e-2)
