"""Sets of predictions: what each is trained to say, by loops in float64 over what its rule assigns."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from vitjax.detection.focal_loss import FocalSetLoss
from vitjax.detection.loss import SetLoss
from vitjax.detection.matcher import match
from vitjax.structs import ANSWER, Predictions, PredictionSet, Targets

LAYERS, IMAGES, CLASSES, PLACES = 2, 3, 4, 3
COUNTS = (0, 1, PLACES)
LOSSES = {"softmax": SetLoss(no_object=0.3), "sigmoid": FocalSetLoss()}
OBJECTS = np.array([[-1, -1, -1, -1, -1, -1], [0, -1, 0, -1, 0, 0], [2, 1, -1, 2, 0, 2]])
VALID = np.array([[1, 1, 1, 1, 0, 0], [1, 1, 1, 0, 1, 0], [1, 1, 1, 1, 1, 0]], bool)


def set_of(generator, queries, layers=LAYERS, **fields):
    logits = 2 * generator.normal(size=(layers, IMAGES, queries, CLASSES)).astype(np.float32)
    return PredictionSet(logits, generator.uniform(0.2, 0.8, (*logits.shape[:3], 4)).astype(np.float32), **fields)


def drawn(counts=COUNTS):
    """An answer, proposals matched by class, and queries that are given objects, with targets."""
    generator = np.random.default_rng(0)
    boxes = generator.uniform(0.2, 0.8, (IMAGES, PLACES, 4)).astype(np.float32)
    labels = generator.integers(0, CLASSES - 1, (IMAGES, PLACES)).astype(np.int32)
    targets = Targets(boxes, labels, np.arange(PLACES) < np.array(counts)[:, None])
    objects, valid = (np.broadcast_to(x, (LAYERS, *x.shape)) for x in (OBJECTS.astype(np.int32), VALID))
    sets = {ANSWER: set_of(generator, 5), "proposal": set_of(generator, 9, layers=1)}
    sets["denoising"] = set_of(generator, OBJECTS.shape[1], objects=objects, valid=valid, rule="given")
    return Predictions(sets), targets


def terms_of(loss, predictions, targets):
    return jax.jit(lambda *inputs: loss(*inputs, match(loss.cost, *inputs)))(predictions, targets)


def giou(a, b):
    (al, at, ar, ab), (bl, bt, br, bb) = ((x - w / 2, y - h / 2, x + w / 2, y + h / 2) for x, y, w, h in (a, b))
    overlap = max(min(ar, br) - max(al, bl), 0) * max(min(ab, bb) - max(at, bt), 0)
    union = a[2] * a[3] + b[2] * b[3] - overlap
    hull = (max(ar, br) - min(al, bl)) * (max(ab, bb) - min(at, bt))
    return overlap / union - (hull - union) / hull


def class_loss(loss, logits, label):
    """The classification loss of one query, and its weight; a label of None is no object."""
    x = np.float64(logits)
    if loss.scores == "softmax":
        weight, place = (loss.no_object, CLASSES - 1) if label is None else (1, label)
        return weight * (np.log(np.exp(x).sum()) - x[place]), weight
    p = 1 / (1 + np.exp(-x))
    there = np.arange(CLASSES) == (-1 if label is None else label)
    away = -(1 - loss.alpha) * p**loss.gamma * np.log(1 - p)
    return np.where(there, -loss.alpha * (1 - p) ** loss.gamma * np.log(p), away).sum(), 0


def matched_objects(loss, logits, boxes, targets, image):
    """The object of each query in the cheapest matching."""
    valid, objects = targets.valid[image], np.full(len(logits), -1)
    prices = loss.cost(*map(jnp.asarray, (logits, boxes, targets.boxes[image], targets.labels[image])))
    rows, columns = linear_sum_assignment(np.asarray(prices)[:, valid])
    objects[rows] = columns
    return objects


def reference(loss, one, targets, layer):
    """Values of the terms of one layer, from the object of each query."""
    sums = dict.fromkeys(("class", "weight", "box", "giou", "pairs"), 0.0)
    for image in range(IMAGES):
        logits, boxes = one.logits[layer, image], one.boxes[layer, image]
        given = one.rule == "given"
        objects = OBJECTS[image] if given else matched_objects(loss, logits, boxes, targets, image)
        for query in np.flatnonzero(VALID[image]) if given else range(len(logits)):
            thing = objects[query]
            entropy, weight = class_loss(loss, logits[query], None if thing < 0 else targets.labels[image, thing])
            sums["class"], sums["weight"] = sums["class"] + entropy, sums["weight"] + weight
            if thing >= 0:
                wanted = np.float64(targets.boxes[image, thing])
                sums["box"] += np.abs(boxes[query] - wanted).sum()
                sums["giou"] += 1 - giou(boxes[query], wanted)
                sums["pairs"] += 1
    divisor = sums["weight"] or sums["pairs"]
    return {"class": sums["class"] / divisor} | {name: sums[name] / sums["pairs"] for name in ("box", "giou")}


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES.keys())
def test_the_loss_is_a_sum_over_sets_each_by_its_rule(loss):
    predictions, targets = drawn()
    terms, total = terms_of(loss, predictions, targets), 0.0
    weights = {"class": loss.classification, "box": loss.box, "giou": loss.giou}
    for name, one in predictions.sets.items():
        prefix = "" if name == ANSWER else f"{name}_"
        for layer in range(len(one.logits)):
            for term, value in reference(loss, one, targets, layer).items():
                found = terms[prefix + term].value[layer]
                np.testing.assert_allclose(found, value, rtol=1e-5, err_msg=prefix + term)
                total += weights[term] * value
    np.testing.assert_allclose(loss.total(terms), total, rtol=1e-5)


def test_terms_are_called_after_their_set_and_those_for_the_log_are_kept_where_they_say_something():
    terms = terms_of(LOSSES["sigmoid"], *drawn())
    each = {"class", "box", "giou"}
    assert terms.keys() == {
        *each, "class_error", "cardinality_error",
        *(f"proposal_{name}" for name in each), "proposal_cardinality_error",
        *(f"denoising_{name}" for name in each),
    }  # fmt: skip


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES.keys())
def test_given_queries_that_do_not_count_have_no_gradient_and_nothing_is_matched_for_them(loss):
    predictions, targets = drawn()
    assert match(loss.cost, predictions, targets).queries.keys() == {ANSWER, "proposal"}

    def total(predictions, targets):
        return loss.total(loss(predictions, targets, match(loss.cost, predictions, targets)))

    gradient = jax.jit(jax.grad(total, allow_int=True))(predictions, targets)
    of_logits, of_boxes = (np.asarray(getattr(gradient.sets["denoising"], part)) for part in ("logits", "boxes"))
    assert (of_logits[:, VALID] != 0).all() and (of_logits[:, ~VALID] == 0).all()
    pairs = VALID & (OBJECTS >= 0)
    assert (of_boxes[:, pairs] != 0).any(-1).all() and (of_boxes[:, ~pairs] == 0).all()


@pytest.mark.parametrize("places", [PLACES, 0])
def test_a_batch_without_objects_teaches_given_queries_that_nothing_is_there(places):
    predictions, targets = drawn((0,) * IMAGES)
    targets = jax.tree.map(lambda x: x[:, :places], targets)
    terms = terms_of(LOSSES["sigmoid"], predictions, targets)
    assert (terms["denoising_box"].value == 0).all() and (terms["denoising_giou"].value == 0).all()
    assert np.isfinite(terms["denoising_class"].value).all() and (terms["denoising_class"].value > 0).all()


def test_given_predictions_without_objects_are_refused():
    predictions, targets = drawn()
    nothing = {"denoising": predictions.sets["denoising"].replace(objects=None)}
    with pytest.raises(ValueError, match="'given' need objects"):
        terms_of(LOSSES["sigmoid"], Predictions(predictions.sets | nothing), targets)


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES.keys())
@pytest.mark.parametrize("valid", [None, VALID[:, :2] | np.array([True, False])], ids=["few", "few that count"])
def test_objects_that_no_query_is_left_for_are_counted_and_cost_nothing(loss, valid):
    predictions, targets = drawn()
    few = jax.tree.map(lambda x: x[:, :, :2], predictions.sets[ANSWER])
    counting = np.ones((IMAGES, 2), bool) if valid is None else valid
    few = few if valid is None else few.replace(valid=np.broadcast_to(valid, (LAYERS, *valid.shape)))
    terms = terms_of(loss, Predictions({ANSWER: few}), targets)
    left = np.maximum(targets.valid.sum(1) - counting.sum(1), 0)
    np.testing.assert_allclose(terms["unmatched"].value, left.sum() / IMAGES)
    for layer in range(LAYERS):
        total = 0.0
        for image in range(IMAGES):
            logits, boxes = few.logits[layer, image][counting[image]], few.boxes[layer, image][counting[image]]
            for query, thing in enumerate(matched_objects(loss, logits, boxes, targets, image)):
                total += np.abs(boxes[query] - targets.boxes[image, thing]).sum() if thing >= 0 else 0
        np.testing.assert_allclose(terms["box"].total[layer], total, rtol=1e-5)
        assert terms["box"].count[layer] == targets.valid.sum()
