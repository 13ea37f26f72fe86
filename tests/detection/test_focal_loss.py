import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from vitjax.detection.focal_loss import FocalSetLoss, sigmoid_focal
from vitjax.detection.matcher import FocalCost, match
from vitjax.structs import ANSWER, Assignment, Predictions, PredictionSet, Targets

LAYERS, QUERIES, TOKENS, CLASSES, OBJECTS = 2, 6, 20, 5, 4
LOSS = FocalSetLoss(
    classification=1.5,
    box=4.0,
    giou=3.0,
    alpha=0.3,
    gamma=1.7,
    cost=FocalCost(classification=1.0, box=2.0, giou=3.0, alpha=0.3, gamma=1.7),
)


def predictions_of(generator, layers, images, queries):
    logits = generator.normal(size=(layers, images, queries, CLASSES)) * 2
    return PredictionSet(
        logits.astype(np.float32), generator.uniform(0.1, 0.9, (*logits.shape[:3], 4)).astype(np.float32)
    )


def drawn(counts=(0, 1, OBJECTS), seed=0):
    """Predictions with proposals of which some do not count, and targets with so many objects per image."""
    generator = np.random.default_rng(seed)
    answer, proposals = (
        predictions_of(generator, layers, len(counts), queries) for layers, queries in ((LAYERS, QUERIES), (1, TOKENS))
    )
    counting = generator.uniform(size=(1, len(counts), TOKENS)) < 0.7
    boxes = generator.uniform(0.1, 0.9, (len(counts), OBJECTS, 4)).astype(np.float32)
    labels = generator.integers(0, CLASSES, (len(counts), OBJECTS)).astype(np.int32)
    valid = np.arange(OBJECTS) < np.array(counts)[:, None]
    proposals = proposals.replace(valid=counting, rule="one class")
    return Predictions({ANSWER: answer, "proposal": proposals}), Targets(boxes, labels, valid)


@jax.jit
def terms_of(predictions, targets):
    return LOSS(predictions, targets, match(LOSS.cost, predictions, targets))


def total_of(predictions, targets):
    return LOSS.total(terms_of(predictions, targets))


def focal(logit, there):
    p = 1 / (1 + np.exp(-np.float64(logit)))
    if there:
        return -LOSS.alpha * (1 - p) ** LOSS.gamma * np.log(p)
    return -(1 - LOSS.alpha) * p**LOSS.gamma * np.log(1 - p)


def reference(logits, boxes, counting, targets, labels):
    """Sums of one layer by loops in float64, matched by scipy over what is there only."""
    sums = {"class": 0.0, "box": 0.0}
    for image in range(len(logits)):
        valid = targets.valid[image]
        wanted, named = targets.boxes[image][valid], labels[image][valid]
        prices = np.asarray(LOSS.cost(*map(jnp.asarray, (logits[image], boxes[image], wanted, named))))
        prices = np.where(counting[image][:, None], prices, 1e6)
        matched = dict(zip(*linear_sum_assignment(prices), strict=True)) if valid.any() else {}
        for query, scores in enumerate(logits[image]):
            hit = matched.get(query)
            if hit is not None:
                sums["box"] += np.abs(boxes[image, query] - wanted[hit]).sum()
            if counting[image, query]:
                sums["class"] += sum(focal(x, hit is not None and c == named[hit]) for c, x in enumerate(scores))
    return sums


def test_every_term_is_the_focal_set_loss_over_matched_pairs():
    predictions, targets = drawn()
    terms = terms_of(predictions, targets)
    objects = targets.valid.sum()
    everything = np.ones((len(targets.labels), QUERIES), bool)
    for layer in range(LAYERS):
        wanted = reference(
            predictions.logits[layer], predictions.boxes[layer], everything, targets, np.asarray(targets.labels)
        )
        for name, value in wanted.items():
            np.testing.assert_allclose(terms[name].total[layer], value, rtol=1e-5, err_msg=name)
            assert terms[name].count[layer] == objects


def test_proposals_are_trained_to_find_objects_of_any_class_and_only_where_they_count():
    predictions, targets = drawn()
    terms, proposals = terms_of(predictions, targets), predictions.sets["proposal"]
    labels = np.zeros_like(targets.labels)
    wanted = reference(proposals.logits[0], proposals.boxes[0], proposals.valid[0], targets, labels)
    for name, value in wanted.items():
        np.testing.assert_allclose(terms[f"proposal_{name}"].total[0], value, rtol=1e-5, err_msg=name)


def test_the_total_weighs_layers_and_proposals_alike():
    terms = terms_of(*drawn())
    weights = {"class": LOSS.classification, "box": LOSS.box, "giou": LOSS.giou}
    wanted = sum(
        weight * np.sum(terms[prefix + name].value) for name, weight in weights.items() for prefix in ("", "proposal_")
    )
    np.testing.assert_allclose(LOSS.total(terms), wanted, rtol=1e-6)


def test_proposals_that_do_not_count_have_no_influence():
    predictions, targets = drawn()
    proposals, other = predictions.sets["proposal"], drawn(seed=1)[0].sets["proposal"]
    counting = proposals.valid
    changed = proposals.replace(
        logits=np.where(counting[..., None], proposals.logits, other.logits),
        boxes=np.where(counting[..., None], proposals.boxes, other.boxes),
    )
    step = jax.jit(jax.value_and_grad(total_of, allow_int=True))
    for which in (predictions, Predictions(predictions.sets | {"proposal": changed})):
        value, gradient = step(which, targets)
        assert np.all(np.asarray(gradient.sets["proposal"].logits)[~counting] == 0)
        np.testing.assert_allclose(value, total_of(predictions, targets), rtol=1e-6)


def test_a_batch_without_objects_still_teaches_that_nothing_is_there():
    predictions, targets = drawn((0, 0))
    answer = predictions.sets[ANSWER]

    def total(logits):
        return total_of(Predictions(predictions.sets | {ANSWER: answer.replace(logits=logits)}), targets)

    value, gradient = jax.value_and_grad(total)(predictions.logits)
    assert np.isfinite(value) and (np.asarray(gradient) > 0).all()


@pytest.mark.parametrize("logit", [-200.0, -20.0, 0.0, 20.0, 200.0])
@pytest.mark.parametrize("wanted", [0.0, 1.0])
@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_the_focal_loss_is_finite_with_finite_gradient_at_any_logit(logit, wanted, gamma):
    value, gradient = jax.value_and_grad(sigmoid_focal)(jnp.float32(logit), jnp.float32(wanted), 0.25, gamma)
    assert np.isfinite(value) and value >= 0 and np.isfinite(gradient)


def test_without_focusing_and_weights_it_is_the_cross_entropy():
    logits = jnp.linspace(-5, 5, 11)
    found = sigmoid_focal(logits, jnp.ones_like(logits), 0.5, 0.0)
    np.testing.assert_allclose(found, 0.5 * np.log1p(np.exp(-logits)), rtol=1e-5)


def test_class_weights_weigh_the_columns_of_the_logits():
    weights = np.array([0.5, 2.0, 0.0, 1.0, 3.0])
    predictions, targets = drawn()
    logits = predictions.sets[ANSWER].logits[0]
    queries = np.where(targets.valid, np.arange(OBJECTS)[::-1], -1).astype(np.int32)
    wanted = np.zeros(logits.shape, np.float32)
    for image, at in np.argwhere(targets.valid):
        wanted[image, queries[image, at], targets.labels[image, at]] = 1
    focal = np.float64(sigmoid_focal(jnp.asarray(logits), jnp.asarray(wanted), LOSS.alpha, LOSS.gamma))
    found = dataclasses.replace(LOSS, class_weights=tuple(weights)).of_classes(
        *jax.device_put((logits, None, targets, queries))
    )
    np.testing.assert_allclose([found.total, found.count], [(focal * weights).sum(), 1 + OBJECTS], rtol=1e-5)


def test_proposals_which_tell_no_classes_apart_have_no_class_weights(monkeypatch):
    asked = {}
    monkeypatch.setattr(FocalSetLoss, "_layer", lambda self, logits, *_: asked.setdefault(logits.shape[1], self) and {})
    predictions, targets = drawn()
    nobody = Assignment({name: jnp.zeros((LAYERS, 3, OBJECTS), int) for name in predictions.sets})
    nobody.queries["proposal"] = nobody.queries["proposal"][:1]
    loss = dataclasses.replace(LOSS, class_weights=(2.0,) * CLASSES)
    loss(predictions, targets, nobody)
    assert asked == {QUERIES: loss, TOKENS: LOSS}
