import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from vitjax.detection.matcher import FocalCost, SoftmaxCost, assign, match
from vitjax.structs import ANSWER, Predictions, PredictionSet, Targets

QUERIES, OBJECTS = 12, 12
solve = jax.jit(jax.vmap(assign))


def problems(draw):
    """Thirteen costs, and of 12 places for objects 0, 1, ... 12 that hold one, in any order."""
    generator = np.random.default_rng(0)
    cost = draw(generator, (OBJECTS + 1, QUERIES, OBJECTS)).astype(np.float32)
    valid = np.arange(OBJECTS) < np.arange(OBJECTS + 1)[:, None]
    return cost, generator.permuted(valid, axis=1)


COSTS = {
    "random": lambda generator, shape: generator.normal(size=shape),
    "large": lambda generator, shape: 1e4 * generator.normal(size=shape) + 1e5,
    "with ties": lambda generator, shape: generator.integers(0, 3, shape),
    "all equal": lambda generator, shape: np.ones(shape),
}


@pytest.mark.parametrize("name", COSTS)
def test_the_assignment_is_as_cheap_as_that_of_scipy(name):
    costs, valids = problems(COSTS[name])
    for cost, valid, queries in zip(costs, valids, np.asarray(solve(costs, valids)), strict=True):
        chosen = queries[valid]
        assert len(set(chosen)) == valid.sum() and ((queries >= 0) & (queries < QUERIES)).all()
        optimum = cost[:, valid][linear_sum_assignment(cost[:, valid])].sum(dtype=np.float64)
        np.testing.assert_allclose(cost[chosen, valid].sum(dtype=np.float64), optimum, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("queries, objects", [(5, 1), (100, 30)])
def test_the_assignment_is_as_cheap_as_that_of_scipy_with_more_queries_than_places(queries, objects):
    cost = np.random.default_rng(1).normal(size=(queries, objects)).astype(np.float32)
    found = jax.jit(assign)(cost, np.ones(objects, bool))
    optimum = cost[linear_sum_assignment(cost)].sum()
    np.testing.assert_allclose(cost[found, np.arange(objects)].sum(), optimum, rtol=1e-5)


def test_what_stands_in_padded_places_has_no_influence():
    costs, valids = problems(COSTS["random"])
    others = np.where(valids[:, None], costs, np.random.default_rng(2).normal(size=costs.shape) * 1e3)
    others[5, :, ~valids[5]] = np.nan
    found, wanted = solve(others.astype(np.float32), valids), solve(costs, valids)
    np.testing.assert_array_equal(found[valids], wanted[valids])


def test_a_cost_that_is_not_finite_spoils_no_other_match():
    """It counts as a million, beside which float32 tells costs apart to a tenth; the solver alone would be misled."""
    costs = np.random.default_rng(4).normal(size=(60, QUERIES, OBJECTS)).astype(np.float32)
    valid = np.arange(OBJECTS) < 6
    costs[:20, :, 2], costs[20:40, 3], costs[40:, :, 4] = np.nan, -np.inf, np.inf
    found = np.asarray(solve(costs, np.broadcast_to(valid, (60, OBJECTS))))[:, valid]
    for cost, chosen in zip(np.nan_to_num(costs, nan=1e6, posinf=1e6, neginf=-1e6)[..., valid], found, strict=True):
        assert len(set(chosen)) == len(chosen)
        optimum = cost[linear_sum_assignment(cost)].sum(dtype=np.float64)
        np.testing.assert_allclose(cost[chosen, np.arange(6)].sum(dtype=np.float64), optimum, rtol=0, atol=0.1)


def test_a_price_beyond_a_million_spoils_no_other_match():
    """With -7e7 in a float32 sum, prices of 3 and of 0 were one."""
    costs, valids = problems(COSTS["random"])
    huge = costs.copy()
    huge[:, 0, 1], huge[:, 5, 2], huge[:, :, 3] = -6.7e7, 3e38, 1e30
    found = np.asarray(solve(huge, valids))
    for cost, valid, queries in zip(np.clip(huge, -1e6, 1e6), valids, found, strict=True):
        chosen = queries[valid]
        optimum = cost[:, valid][linear_sum_assignment(cost[:, valid])].sum(dtype=np.float64)
        np.testing.assert_allclose(cost[chosen, valid].sum(dtype=np.float64), optimum, rtol=0, atol=0.5)


def drawn(layers=2, images=3, queries=6, classes=5, objects=4):
    generator = np.random.default_rng(3)
    logits = generator.normal(size=(layers, images, queries, classes))
    located = generator.uniform(0.2, 0.8, (layers, images, queries, 4))
    predictions = Predictions({ANSWER: PredictionSet(logits.astype(np.float32), located.astype(np.float32))})
    boxes = generator.uniform(0.2, 0.8, (images, objects, 4))
    labels = generator.integers(0, classes - 1, (images, objects))
    valid = np.arange(objects) < np.array([[0], [2], [4]])
    return predictions, Targets(boxes.astype(np.float32), labels.astype(np.int32), valid)


def test_all_layers_and_images_are_matched_as_each_alone():
    cost, (predictions, targets) = SoftmaxCost(), drawn()
    found = np.asarray(jax.jit(lambda *inputs: match(cost, *inputs))(predictions, targets).queries[ANSWER])
    assert found.shape == (2, 3, 4)
    single = jax.jit(lambda *pairs: cost(*pairs))
    for layer, image in np.ndindex(2, 3):
        valid, chosen = targets.valid[image], found[layer, image][targets.valid[image]]
        pairs = predictions.logits[layer, image], predictions.boxes[layer, image]
        prices = np.asarray(single(*pairs, targets.boxes[image], targets.labels[image]))[:, valid]
        rows, columns = linear_sum_assignment(prices)
        np.testing.assert_array_equal(np.sort(chosen), rows)
        np.testing.assert_allclose(prices[chosen, np.arange(len(chosen))].sum(), prices[rows, columns].sum(), rtol=1e-5)


def test_the_cost_is_minus_probability_plus_distance_minus_overlap():
    logits = np.float32([[0.0, 1.0, 2.0], [3.0, 0.0, 0.0]])
    boxes = np.float32([[0.3, 0.3, 0.2, 0.2], [0.5, 0.5, 0.2, 0.4]])
    targets, labels = np.float32([[0.3, 0.3, 0.2, 0.2], [0.7, 0.5, 0.2, 0.4]]), np.array([1, 0])
    cost = SoftmaxCost(classification=2.0, box=3.0, giou=5.0)
    found = jax.jit(lambda *pairs: cost(*pairs))(logits, boxes, targets, labels)
    probability = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    np.testing.assert_allclose(found[0, 0], -2 * probability[0, 1] + 3 * 0 - 5 * 1, rtol=1e-5)
    np.testing.assert_allclose(found[1, 1], -2 * probability[1, 0] + 3 * 0.2 - 5 * 0, rtol=1e-5, atol=1e-5)


def test_data_without_places_for_objects_have_empty_assignments():
    predictions, targets = drawn(objects=4)
    none = jax.tree.map(lambda x: x[:, :0], targets)
    assert match(SoftmaxCost(), predictions, none).queries[ANSWER].shape == (2, 3, 0)


COUNTS = {"all": np.ones(5, bool), "some": np.array([True, False, True, True, False]), "none": np.zeros(5, bool)}


@pytest.mark.parametrize("counts", COUNTS.values(), ids=COUNTS.keys())
@pytest.mark.parametrize("places", [3, 5, 9])
def test_as_many_objects_as_there_are_queries_are_matched_as_scipy_matches_them(places, counts):
    generator = np.random.default_rng(places)
    costs = generator.normal(size=(places + 1, 5, places)).astype(np.float32)
    valids = generator.permuted(np.arange(places) < np.arange(places + 1)[:, None], axis=1)
    found = np.asarray(jax.jit(jax.vmap(assign, (0, 0, None)))(costs, valids, counts))
    for cost, valid, chosen in zip(costs, valids, found, strict=True):
        allowed = cost[counts][:, valid]
        rows, columns = linear_sum_assignment(allowed)
        wanted = np.full(valid.sum(), -1)
        wanted[columns] = np.flatnonzero(counts)[rows]
        np.testing.assert_array_equal(chosen[valid], wanted)


def test_more_objects_than_queries_are_matched_in_every_layer_as_cheaply_as_by_scipy():
    cost, (predictions, targets) = SoftmaxCost(), drawn(queries=3)
    found = np.asarray(jax.jit(lambda *inputs: match(cost, *inputs))(predictions, targets).queries[ANSWER])
    for layer, image in np.ndindex(2, 3):
        valid = targets.valid[image]
        pairs = predictions.logits[layer, image], predictions.boxes[layer, image]
        prices = np.asarray(cost(*map(jnp.asarray, (*pairs, targets.boxes[image], targets.labels[image]))))[:, valid]
        rows, columns = linear_sum_assignment(prices)
        wanted = np.full(valid.sum(), -1)
        wanted[columns] = rows
        np.testing.assert_array_equal(found[layer, image][valid], wanted)


def test_the_focal_cost_is_the_loss_it_saves_plus_distance_minus_overlap():
    logits = np.float32([[0.0, 1.0], [-3.0, 2.0]])
    boxes = np.float32([[0.3, 0.3, 0.2, 0.2], [0.5, 0.5, 0.2, 0.4]])
    targets, labels = np.float32([[0.3, 0.3, 0.2, 0.2], [0.7, 0.5, 0.2, 0.4]]), np.array([1, 0])
    cost = FocalCost(classification=2.0, box=3.0, giou=5.0, alpha=0.25, gamma=2.0)
    found = jax.jit(lambda *pairs: cost(*pairs))(logits, boxes, targets, labels)
    p = 1 / (1 + np.exp(-np.float64(logits)))
    saved = 0.25 * (1 - p) ** 2 * -np.log(p) - 0.75 * p**2 * -np.log(1 - p)
    np.testing.assert_allclose(found[0, 0], 2 * saved[0, 1] + 3 * 0 - 5 * 1, rtol=1e-5)
    np.testing.assert_allclose(found[1, 1], 2 * saved[1, 0] + 3 * 0.2 - 5 * 0, rtol=1e-5, atol=1e-5)


def test_proposals_are_matched_as_class_0_and_never_to_a_token_that_does_not_count():
    predictions, targets = drawn()
    proposals = drawn(layers=1, queries=12)[0].sets[ANSWER]
    counting = np.arange(12) % 2 == np.array([[[0], [1], [0]]])
    sets = predictions.sets | {"proposal": proposals.replace(valid=counting, rule="one class")}
    cost = FocalCost()
    found = np.asarray(jax.jit(lambda *inputs: match(cost, *inputs))(Predictions(sets), targets).queries["proposal"])
    for image in range(3):
        valid, chosen = targets.valid[image], found[0, image][targets.valid[image]]
        pairs = proposals.logits[0, image], proposals.boxes[0, image], targets.boxes[image]
        prices = np.asarray(cost(*map(jnp.asarray, (*pairs, np.zeros_like(targets.labels[image])))))[:, valid]
        prices = np.where(counting[0, image][:, None], prices, 1e6)
        rows, columns = linear_sum_assignment(prices)
        np.testing.assert_array_equal(np.sort(chosen), rows)
        np.testing.assert_allclose(prices[chosen, np.arange(len(chosen))].sum(), prices[rows, columns].sum(), rtol=1e-5)


def test_matching_all_tokens_of_a_full_size_image_needs_no_more_memory_than_its_costs():
    tokens, places, images = 22_223, 100, 2
    shape = jax.ShapeDtypeStruct

    def predictions(queries, rule):
        logits, boxes = (shape((1, images, queries, axis), np.float32) for axis in (91, 4))
        return PredictionSet(logits, boxes, rule=rule)

    sets = {"proposal": predictions(tokens, "one class"), ANSWER: predictions(300, "matched")}
    targets = Targets(
        shape((images, places, 4), np.float32), shape((images, places), np.int32), shape((images, places), bool)
    )
    compiled = jax.jit(lambda *inputs: match(FocalCost(), *inputs)).lower(Predictions(sets), targets)
    cost_matrices = 4 * images * tokens * places
    assert compiled.compile().memory_analysis().temp_size_in_bytes < 6 * cost_matrices
