"""Weights made to fit: queries cut and extended, heads by the names of classes and for other layers."""

import numpy as np
import pytest

from vitjax.data.label_names import COCO
from vitjax.data.source import Classes
from vitjax.runs.adapt import adapt

PETS = Classes(("dog", "unicorn", "cat"), (1, 2, 3))


def drawn(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def one(path, given, wanted, **classes):
    adapted = adapt({path: given}, {path: wanted}, **classes)
    return adapted.arrays[path], adapted.fates[path]


def test_what_has_the_same_shape_is_taken_and_what_has_not_starts_new():
    given, wanted = drawn(3, 4), drawn(3, 4, seed=1)
    assert one("params/a/kernel", given, wanted) == (pytest.approx(given), "taken")
    found, fate = one("params/a/kernel", drawn(3, 5), wanted)
    assert fate == "new: (3, 4) here, (3, 5) there" and np.array_equal(found, wanted)


def test_queries_are_cut_or_extended_by_copies_with_a_little_noise():
    given = drawn(4, 6)
    fewer, fate = one("params/query_embedding", given, drawn(3, 6))
    assert np.array_equal(fewer, given[:3]) and fate == "cut from 4 to 3 queries"
    more, fate = one("params/query_embedding", given, drawn(10, 6))
    assert np.array_equal(more[:4], given) and "extended from 4 to 10" in fate
    apart = np.abs(more[4:] - given[np.arange(6) % 4])
    assert 0.02 < apart.mean() < 0.3 and apart.min() > 0


@pytest.mark.parametrize("no_object", [0, 1])
def test_a_head_over_cocos_ids_serves_other_classes_by_name(no_object):
    given, wanted = drawn(5, 91 + no_object), drawn(5, 3 + no_object, seed=1)
    found, fate = one("params/class_head/kernel", given, wanted, old=COCO, new=PETS)
    assert fate == "taken for 2 of 3 classes by name"
    assert np.array_equal(found[:, [0, 2]], given[:, [18, 17]]) and np.array_equal(found[:, 1], wanted[:, 1])
    if no_object:
        assert np.array_equal(found[:, -1], given[:, -1])


@pytest.mark.parametrize("more", [0, 9], ids=["as many labels as classes", "room for more labels"])
def test_an_embedding_of_labels_serves_other_classes_by_name_and_keeps_its_last_row(more):
    given, wanted = drawn(92 + more, 5), drawn(4, 5, seed=1)
    found, fate = one("params/label_embedding", given, wanted, old=COCO, new=PETS)
    assert fate == "taken for 2 of 3 classes by name"
    assert np.array_equal(found[[0, 2]], given[[18, 17]]) and np.array_equal(found[1], wanted[1])
    assert np.array_equal(found[-1], wanted[-1] if more else given[-1])


def test_heads_of_proposals_are_taken_by_name_as_others_are():
    found, fate = one("params/proposals/class_head/bias", drawn(91), drawn(3, seed=1), old=COCO, new=PETS)
    assert fate == "taken for 2 of 3 classes by name" and np.array_equal(found[[0, 2]], drawn(91)[[18, 17]])


def test_without_names_a_head_of_the_same_size_is_taken_as_it_is():
    given = drawn(3)
    assert np.array_equal(one("params/head/bias", given, drawn(3, seed=1), old=PETS)[0], given)


def test_layers_take_the_head_they_shared_and_proposals_that_of_the_last_layer():
    shared = {"params/box_head/layer_0/kernel": drawn(2, 2)}
    wanted = {f"params/box_head_{layer}/layer_0/kernel": drawn(2, 2, seed=1) for layer in (0, 1)}
    adapted = adapt(shared, wanted)
    assert all(np.array_equal(array, drawn(2, 2)) for array in adapted.arrays.values()) and not adapted.unused
    layers = {f"params/class_head_{layer}/bias": drawn(2, seed=layer) for layer in (0, 9, 10)}
    adapted = adapt(layers, {"params/class_head_11/bias": drawn(2, seed=50)})
    assert np.array_equal(adapted.arrays["params/class_head_11/bias"], drawn(2, seed=10))
    assert adapted.fates["params/class_head_11/bias"] == "taken, of class_head_10"


def test_the_table_counts_arrays_and_parameters_by_part_and_fate():
    given = {"params/backbone/stem/kernel": drawn(3, 3), "params/old/bias": drawn(2)}
    wanted = {"params/backbone/stem/kernel": drawn(3, 3), "params/backbone/stem/bias": drawn(3)}
    lines = [line.split() for line in adapt(given, wanted).table(wanted)]
    assert lines == [
        ["part", "arrays", "parameters"],
        ["backbone/stem", "1", "9", "taken"],
        ["backbone/stem", "1", "3", "new"],
        ["old", "1", "not", "used"],
    ]
