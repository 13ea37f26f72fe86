"""Denoising queries: what slots hold, by the published rule written as loops; what noise may do; who sees whom."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vitjax.detection.denoising import draw_noise, pairs_of, slots_of, with_noise
from vitjax.structs import Targets

CLASSES = 7


def valid_of(counts, most):
    return np.arange(most) < np.array(counts)[:, None]


def targets_of(counts, most, seed=0):
    generator = np.random.default_rng(seed)
    centre, size = (
        generator.uniform(0.3, 0.7, (len(counts), most, 2)),
        generator.uniform(0.1, 0.5, (len(counts), most, 2)),
    )
    labels = generator.integers(0, CLASSES, (len(counts), most)).astype(np.int32)
    return Targets(
        jnp.asarray(np.concatenate([centre, size], -1), jnp.float32),
        jnp.asarray(labels),
        jnp.asarray(valid_of(counts, most)),
    )


def by_loops(counts, number, groups):
    """For each image (group, object, positive) of every used slot, as the published code lays them out."""
    most = max(counts)
    repeats = (groups or max(1, number // most)) if most else 0
    return [
        [
            (group, index if index < count else -1, half == 0)
            for group in range(repeats)
            for half in range(2)
            for index in range(most)
        ]
        for count in counts
    ]


@pytest.mark.parametrize("counts", [(3, 7), (0, 6), (1, 1), (0, 0), (20, 4), (2, 1, 4)], ids=str)
@pytest.mark.parametrize(("number", "groups"), [(12, None), (100, None), (1, None), (5, 4)], ids=str)
def test_slots_hold_what_the_published_rule_says(counts, number, groups):
    slots = slots_of(jnp.asarray(valid_of(counts, 20)), number, groups, len(counts))
    wanted = by_loops(counts, number, groups)
    for image, rows in enumerate(wanted):
        found = zip(
            slots.group[image].tolist(), slots.object[image].tolist(), slots.positive[image].tolist(), strict=True
        )
        assert [*found] == rows + [(-1, -1, False)] * (slots.group.shape[1] - len(rows))


def test_every_batch_has_the_same_number_of_slots():
    shapes = {
        slots_of(jnp.asarray(valid_of(counts, 9)), 30, None, 2).group.shape for counts in [(0, 0), (9, 1), (3, 4)]
    }
    assert shapes == {(2, 60)}
    assert slots_of(jnp.asarray(valid_of((40, 2), 40)), 30, None, 2).group.shape == (2, 80)  # none is left out


def test_images_in_a_row_have_groups_of_one_size_and_others_their_own():
    counts = (3, 7, 2, 1, 5)
    slots = slots_of(jnp.asarray(valid_of(counts, 9)), 30, None, 2)
    for first, pair in ((0, counts[:2]), (2, counts[2:4]), (4, counts[4:])):
        alone = slots_of(jnp.asarray(valid_of(pair, 9)), 30, None, 2)
        for name in ("group", "object", "positive"):
            together = getattr(slots, name)[first : first + len(pair)]
            np.testing.assert_array_equal(together, getattr(alone, name))


def test_objects_are_found_wherever_they_stand_among_the_places():
    slots = slots_of(jnp.array([[False, True, False, True]]), 4, None, 1)
    assert slots.object[0].tolist() == [1, 3, 1, 3, 1, 3, 1, 3]
    assert slots.wanted[0].tolist() == [1, 3, -1, -1, 1, 3, -1, -1]


def test_a_query_sees_matching_queries_and_those_of_its_own_group():
    slots, queries = slots_of(jnp.asarray(valid_of((2, 1), 4)), 5, None, 2), 3
    pairs, groups = np.asarray(pairs_of(slots, queries)), np.asarray(slots.group)
    room = groups.shape[1]
    for image, a, b in np.ndindex(*pairs.shape):
        if b >= room:
            wanted = True
        else:
            wanted = a < room and groups[image, b] >= 0 and groups[image, a] == groups[image, b]
        assert pairs[image, a, b] == wanted, (image, a, b)


def test_noise_is_a_function_of_its_key():
    same, again, other = (draw_noise(jax.random.key(seed), (2, 50), CLASSES) for seed in (3, 3, 4))
    for one, copy, different in zip(*map(jax.tree.leaves, (same, again, other)), strict=True):
        np.testing.assert_array_equal(one, copy)
        assert np.any(one != different)
    assert set(np.unique(same.sign)) == {-1, 1} and set(np.unique(same.label)) == set(range(CLASSES))


@pytest.mark.parametrize("box_noise", [0.4, 1.0])
def test_corners_move_by_less_than_half_a_side_or_by_that_to_twice_as_much(box_noise):
    targets = targets_of((5, 3), 5)
    slots = slots_of(targets.valid, 100, None, 2)
    noise = draw_noise(jax.random.key(0), slots.group.shape, CLASSES)
    _, boxes = with_noise(targets, slots, noise, label_noise=0.5, box_noise=box_noise)
    for image, slot in np.argwhere(np.asarray(slots.object) >= 0):
        x, y, w, h = np.asarray(targets.boxes[image, slots.object[image, slot]], np.float64)
        centre, size = np.split(np.asarray(boxes[image, slot], np.float64), 2)
        corners = np.concatenate([centre - size / 2, centre + size / 2])
        moved = np.abs(corners - [x - w / 2, y - h / 2, x + w / 2, y + h / 2]) / (
            np.array([w, h, w, h]) / 2 * box_noise
        )
        low, high = (0, 1) if slots.positive[image, slot] else (1, 2)
        inside = (corners > 1e-6) & (corners < 1 - 1e-6)  # a corner that left the image is on its rim
        assert (moved[inside] >= low - 1e-4).all() and (moved[inside] <= high + 1e-4).all()


def test_half_of_the_label_noise_draws_a_label_anew():
    targets = targets_of((10, 10), 10)
    slots = slots_of(targets.valid, 2000, None, 2)
    noise = draw_noise(jax.random.key(1), slots.group.shape, CLASSES)
    labels, _ = with_noise(targets, slots, noise, label_noise=0.5, box_noise=1.0)
    own = np.take_along_axis(np.asarray(targets.labels), np.asarray(slots.object), axis=1)
    assert np.mean(labels != own) == pytest.approx(0.25 * (1 - 1 / CLASSES), abs=0.02)
    labels, _ = with_noise(targets, slots, noise, label_noise=0.0, box_noise=1.0)
    np.testing.assert_array_equal(labels, own)


def test_no_objects_and_no_places_for_any_are_no_queries():
    for most in (0, 3):
        targets = targets_of((0, 0), most)
        slots = slots_of(targets.valid, 6, None, 2)
        noise = draw_noise(jax.random.key(0), slots.group.shape, CLASSES)
        labels, boxes = with_noise(targets, slots, noise, label_noise=0.5, box_noise=1.0)
        assert not slots.used.any() and labels.shape == (2, 12) and np.isfinite(boxes).all()
