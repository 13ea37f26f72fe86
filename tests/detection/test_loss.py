import dataclasses

import jax
import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from vitjax.detection.loss import SetLoss
from vitjax.detection.matcher import SoftmaxCost, match
from vitjax.structs import ANSWER, Predictions, PredictionSet, Targets

LAYERS, IMAGES, QUERIES, CLASSES, OBJECTS = 2, 4, 6, 5, 6
BACKGROUND = CLASSES - 1
LOSS = SetLoss(
    classification=1.5, box=4.0, giou=3.0, no_object=0.2, cost=SoftmaxCost(classification=1.5, box=4.0, giou=3.0)
)


def drawn(counts=(0, 1, 3, QUERIES), seed=0):
    """Predictions, and targets with so many objects per image; what stands in padded places is drawn too."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(size=(LAYERS, len(counts), QUERIES, CLASSES)) * 2
    boxes, wanted = (generator.uniform(0.1, 0.9, (*shape, 4)) for shape in (logits.shape[:3], (len(counts), OBJECTS)))
    labels = generator.integers(0, BACKGROUND, (len(counts), OBJECTS))
    valid = generator.permuted(np.arange(OBJECTS) < np.array(counts)[:, None], axis=1)
    targets = Targets(wanted.astype(np.float32), labels.astype(np.int32), valid)
    return answered(logits.astype(np.float32), boxes.astype(np.float32)), targets


def answered(logits, boxes, **fields):
    return Predictions({ANSWER: PredictionSet(logits, boxes, **fields)})


@jax.jit
def terms_of(predictions, targets):
    return LOSS(predictions, targets, match(LOSS.cost, predictions, targets))


def total_of(predictions, targets):
    return LOSS.total(terms_of(predictions, targets))


def giou(a, b):
    """Generalised IoU of two cxcywh boxes."""
    (al, at, ar, ab), (bl, bt, br, bb) = ((x - w / 2, y - h / 2, x + w / 2, y + h / 2) for x, y, w, h in (a, b))
    overlap = max(min(ar, br) - max(al, bl), 0) * max(min(ab, bb) - max(at, bt), 0)
    union = a[2] * a[3] + b[2] * b[3] - overlap
    hull = (max(ar, br) - min(al, bl)) * (max(ab, bb) - min(at, bt))
    return overlap / union - (hull - union) / hull


def reference(logits, boxes, targets):
    """(total, count) of every term for one layer: loops in float64, over what is there only, matched by scipy."""
    sums = dict.fromkeys(("class", "weight", "box", "giou", "wrong", "objects", "miscounted"), 0.0)
    for image in range(len(logits)):
        valid = np.asarray(targets.valid[image])
        wanted, labels = np.float64(targets.boxes[image])[valid], np.asarray(targets.labels[image])[valid]
        scores, found = np.float64(logits[image]), np.float64(boxes[image])
        probability = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
        cost = np.zeros((QUERIES, len(labels)))
        for q, o in np.ndindex(cost.shape):
            distance = sum(abs(found[q, k] - wanted[o, k]) for k in range(4))
            price = LOSS.cost.box * distance - LOSS.cost.classification * probability[q, labels[o]]
            cost[q, o] = price - LOSS.cost.giou * giou(found[q], wanted[o])
        classes = np.full(QUERIES, BACKGROUND)
        for q, o in zip(*linear_sum_assignment(cost), strict=True):
            classes[q] = labels[o]
            sums["box"] += sum(abs(found[q, k] - wanted[o, k]) for k in range(4))
            sums["giou"] += 1 - giou(found[q], wanted[o])
            sums["wrong"] += scores[q].argmax() != labels[o]
            sums["objects"] += 1
        for q in range(QUERIES):
            weight = LOSS.no_object if classes[q] == BACKGROUND else 1.0
            sums["class"] -= weight * np.log(probability[q, classes[q]])
            sums["weight"] += weight
        sums["miscounted"] += abs((scores.argmax(1) != BACKGROUND).sum() - len(labels))
    return {
        "class": (sums["class"], sums["weight"]),
        "box": (sums["box"], sums["objects"]),
        "giou": (sums["giou"], sums["objects"]),
        "class_error": (100 * sums["wrong"], sums["objects"]),
        "cardinality_error": (sums["miscounted"], len(logits)),
    }


@pytest.mark.parametrize("counts", [(0, 1, 3, QUERIES), (0, 0)], ids=["some objects", "no objects"])
def test_every_term_is_that_of_the_paper(counts):
    predictions, targets = drawn(counts)
    weights = {"class": LOSS.classification, "box": LOSS.box, "giou": LOSS.giou}
    terms, total = terms_of(predictions, targets), 0.0
    for layer in range(LAYERS):
        wanted = reference(predictions.logits[layer], predictions.boxes[layer], targets)
        assert wanted.keys() == terms.keys()
        for name, (sum_, count) in wanted.items():
            found = (terms[name].total[layer], terms[name].count[layer])
            np.testing.assert_allclose(found, (sum_, count), rtol=1e-5, err_msg=name)
        total += sum(weight * wanted[name][0] / max(wanted[name][1], 1) for name, weight in weights.items())
    np.testing.assert_allclose(LOSS.total(terms), total, rtol=1e-5)


def test_padded_places_change_neither_loss_nor_gradient():
    predictions, targets = drawn((1, 2, 3, 0))
    _, other = drawn(seed=1)
    keep = targets.valid
    boxes = np.where(keep[..., None], targets.boxes, np.float32(0))
    changed = dataclasses.replace(targets, boxes=boxes, labels=np.where(keep, targets.labels, other.labels))
    step = jax.jit(jax.value_and_grad(total_of))
    jax.tree.map(np.testing.assert_array_equal, step(predictions, changed), step(predictions, targets))


@pytest.mark.parametrize("counts", [(0, 1, 3, QUERIES), (0, 0, 0, 0)], ids=["some objects", "no objects"])
@pytest.mark.parametrize("box", [[0.5, 0.5, 0, 0], [0, 0, 0, 0], [1, 1, 1, 1], [0.5, 0.5, 0, 0.3]], ids=str)
def test_degenerate_boxes_have_finite_loss_and_gradients(box, counts):
    predictions, targets = drawn(counts)
    predictions = answered(predictions.logits, np.broadcast_to(np.float32(box), predictions.boxes.shape))
    same = dataclasses.replace(targets, boxes=np.broadcast_to(np.float32(box), targets.boxes.shape))
    step = jax.jit(jax.value_and_grad(total_of))
    for wanted in (targets, same):
        value, gradient = step(predictions, wanted)
        assert np.isfinite(value)
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))


def test_a_batch_without_objects_has_a_loss_but_no_class_error():
    predictions, targets = drawn((0, 0))
    terms = terms_of(predictions, targets)
    assert np.isnan(terms["class_error"].value).all()
    assert (terms["box"].value == 0).all() and (terms["giou"].value == 0).all() and (terms["class"].value > 0).all()


def test_sums_and_counts_of_the_parts_of_a_batch_add_up_to_those_of_the_whole():
    predictions, targets = drawn((0, 1, 3, QUERIES))
    whole = terms_of(predictions, targets)
    parts = [
        terms_of(jax.tree.map(lambda x, p=part: x[:, p], predictions), jax.tree.map(lambda x, p=part: x[p], targets))
        for part in (slice(0, 2), slice(2, 4))
    ]
    for name, mean in whole.items():
        np.testing.assert_allclose(sum(part[name].total for part in parts), mean.total, rtol=1e-5, err_msg=name)
        np.testing.assert_allclose(sum(part[name].count for part in parts), mean.count, rtol=1e-6, err_msg=name)


def test_layers_do_not_mix():
    predictions, targets = drawn()
    alone = terms_of(jax.tree.map(lambda x: x[1:], predictions), targets)
    for name, mean in terms_of(predictions, targets).items():
        np.testing.assert_allclose(alone[name].value, mean.value[1:], rtol=1e-6)


def test_a_perfect_prediction_costs_nothing():
    predictions, targets = drawn((3, QUERIES))
    logits = 50 * np.eye(CLASSES, dtype=np.float32)[np.where(targets.valid, targets.labels, BACKGROUND)]
    perfect = answered(*(np.broadcast_to(x, (LAYERS, *x.shape)) for x in (logits, targets.boxes)))
    terms = terms_of(perfect, targets)
    for mean in terms.values():
        np.testing.assert_allclose(mean.value, 0, atol=1e-6)
    assert np.asarray(terms_of(predictions, targets)["class_error"].value).max() > 0


def test_class_weights_weigh_the_cross_entropy_of_matched_queries_as_torch_does_it():
    weights = (0.5, 2.0, 0.0, 3.0)
    loss = dataclasses.replace(LOSS, class_weights=weights)
    predictions, targets = drawn()
    logits = predictions.sets[ANSWER].logits[0]
    queries = np.where(targets.valid, np.argsort(np.random.default_rng(1).random((IMAGES, OBJECTS)), 1), -1)
    queries = queries.astype(np.int32)
    found = loss.of_classes(*jax.device_put((logits, None, targets, queries)))
    total = count = 0.0
    for image in range(IMAGES):
        wanted = np.full(QUERIES, BACKGROUND)
        for at in np.flatnonzero(targets.valid[image]):
            wanted[queries[image, at]] = targets.labels[image, at]
        for row, label in zip(np.float64(logits[image]), wanted, strict=True):
            weight = (*weights, 0.2)[label]
            total, count = total + weight * (np.log(np.exp(row).sum()) - row[label]), count + weight
    np.testing.assert_allclose([found.total, found.count], [total, count], rtol=1e-5)
