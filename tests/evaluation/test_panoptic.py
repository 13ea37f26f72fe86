"""Panoptic quality against the official rules written out pixel by pixel, and by hand."""

import json
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import vitjax
from vitjax.data.coco_panoptic import CocoPanoptic
from vitjax.data.mask_source import PanopticMap
from vitjax.data.source import Classes
from vitjax.errors import VitjaxError
from vitjax.evaluation.panoptic import no_counts, panoptic_counts, panoptic_quality, panoptic_scores

CLASSES = Classes(("cat", "dog", "sky"), (1, 2, 3), (2,))
SAMPLE = Path(vitjax.__file__).parents[2] / "shared" / "data" / "coco_panoptic_sample"


def panoptic(owner, labels, crowds=()):
    return PanopticMap(np.array(owner), np.array(labels, int), np.isin(np.arange(len(labels)), crowds))


def row(*segments):
    """A map of one row: so many pixels of each segment in turn, of nobody where it is -1."""
    return [[number for number, count in segments for _ in range(count)]]


def official(truth, found):
    """The official rules on sets of pixels: IoU, found, wrong and missed of every class."""
    true_pixels, pixels = (defaultdict(set), defaultdict(set))
    for place, owner in np.ndenumerate(truth.owner):
        true_pixels[int(owner)].add(place)
        pixels[int(found.owner[place])].add(place)
    overlap, tp, fp, fn = Counter(), Counter(), Counter(), Counter()
    matched, done = set(), set()
    for one, label in enumerate(truth.labels.tolist()):
        for other, its in enumerate(found.labels.tolist()):
            if truth.crowds[one] or label != its:
                continue
            union = true_pixels[one] | (pixels[other] - true_pixels[-1])
            iou = len(true_pixels[one] & pixels[other]) / max(len(union), 1)
            if iou > 0.5:
                overlap[label] += iou
                tp[label] += 1
                matched.add(other)
                done.add(one)
    last_crowd = {label: one for one, label in enumerate(truth.labels.tolist()) if truth.crowds[one]}
    for one, label in enumerate(truth.labels.tolist()):
        fn[label] += one not in done and not truth.crowds[one]
    for other, label in enumerate(found.labels.tolist()):
        ignored = true_pixels[-1] | (true_pixels[last_crowd[label]] if label in last_crowd else set())
        fp[label] += other not in matched and 2 * len(pixels[other] & ignored) <= len(pixels[other])
    return [[counter[label] for label in range(3)] for counter in (overlap, tp, fp, fn)]


@st.composite
def maps(draw):
    """A true and a found map of few pixels, where nobody's pixels, crowds and near agreement are common."""
    shape = draw(st.tuples(st.integers(1, 4), st.integers(1, 5)))
    owner = draw(arrays(int, shape, elements=st.integers(-1, 3)))
    labels = draw(arrays(int, 4, elements=st.integers(0, 2)))
    other = np.where(draw(arrays(bool, shape)), draw(arrays(int, shape, elements=st.integers(-1, 3))), owner)
    there = np.unique(other[other >= 0])
    found_labels = np.where(draw(arrays(bool, 4)), draw(arrays(int, 4, elements=st.integers(0, 2))), labels)[there]
    closed = np.where(other < 0, -1, np.searchsorted(there, other)) if len(there) else np.full(shape, -1)
    crowds = draw(st.sets(st.integers(0, 3), max_size=2))
    return panoptic(owner, labels, [*crowds]), panoptic(closed, found_labels)


@settings(deadline=None, max_examples=150)
@given(maps())
def test_counts_are_those_of_the_official_rules(pair):
    counts = panoptic_counts(*pair, 3)
    mine = [each.tolist() for each in (counts.overlap, counts.found, counts.wrong, counts.missed)]
    assert np.allclose(mine, official(*pair), atol=1e-12)


@settings(deadline=None, max_examples=25)
@given(maps(), st.permutations(range(4)))
def test_the_order_of_segments_does_not_matter(pair, order):
    truth, found = pair
    if len(set(truth.labels[truth.crowds].tolist())) < truth.crowds.sum():
        return  # of several crowds of a class the last counts
    moved = np.append(np.argsort(order), -1)[truth.owner]
    again = panoptic_counts(PanopticMap(moved, truth.labels[order], truth.crowds[order]), found, 3)
    assert np.allclose(np.stack(list(vars(again).values())), np.stack(list(vars(panoptic_counts(*pair, 3)).values())))


@pytest.mark.parametrize(
    ("truth", "found", "expected"),
    [
        pytest.param(panoptic(row((0, 4)), [0]), panoptic(row((0, 4)), [0]), (1, 1, 0, 0), id="found"),
        pytest.param(panoptic(row((0, 4)), [0]), panoptic(row((0, 4)), [1]), (0, 0, 0, 1), id="another class"),
        pytest.param(panoptic(row((0, 2), (1, 2)), [0, 1]), panoptic(row((0, 4)), [0]), (0, 0, 1, 2), id="half"),
        pytest.param(panoptic(row((0, 3), (1, 2)), [0, 1]), panoptic(row((0, 5)), [0]), (0.6, 1, 0, 1), id="more"),
        pytest.param(panoptic(row((0, 2), (-1, 2)), [0]), panoptic(row((0, 4)), [0]), (1, 1, 0, 0), id="void"),
        pytest.param(panoptic(row((-1, 3), (1, 2)), [0, 1]), panoptic(row((0, 5)), [0]), (0, 0, 0, 2), id="most void"),
        pytest.param(panoptic(row((-1, 2), (1, 2)), [0, 1]), panoptic(row((0, 4)), [0]), (0, 0, 1, 2), id="half void"),
        pytest.param(panoptic(row((0, 3)), [0], [0]), panoptic(row((0, 3)), [0]), (0, 0, 0, 0), id="crowd"),
        pytest.param(panoptic(row((0, 3)), [1], [0]), panoptic(row((0, 3)), [0]), (0, 0, 1, 0), id="crowd of another"),
        pytest.param(panoptic(row((0, 1), (-1, 1), (1, 1)), [0, 1], [0]), panoptic(row((0, 3)), [0]), (0, 0, 0, 1),
                     id="void and crowd together"),
        pytest.param(panoptic(row((0, 3)), [0]), panoptic(row((-1, 3)), []), (0, 0, 0, 1), id="nothing found"),
        pytest.param(panoptic(row((-1, 3)), [0]), panoptic(row((-1, 3)), []), (0, 0, 0, 1), id="a segment of no pixel"),
    ],
)  # fmt: skip
def test_known_cases(truth, found, expected):
    counts = panoptic_counts(truth, found, 3)
    overlap, tp, fp, _ = (float(each[0]) for each in (counts.overlap, counts.found, counts.wrong, counts.missed))
    assert (overlap, tp, fp, float(counts.missed.sum())) == expected


def test_scores_are_means_over_the_classes_that_are_there_or_found():
    truth = panoptic([[0, 0, 0, 1, 1, 1, 2, 2]], [0, 0, 2])
    found = panoptic([[0, 0, 1, 1, 1, 1, 2, 2]], [0, 0, 1])
    scores = panoptic_quality([(truth, found)], CLASSES)
    cat = (2 / 3 + 3 / 4) / 2
    assert scores.per_class[0] == ("cat", cat, cat, 1, 2) and scores.per_class[1] == ("dog", 0, 0, 0, 0)
    assert scores.per_class[2] == ("sky", 0, 0, 0, 1)
    assert scores.all == pytest.approx((cat / 3, cat / 3, 1 / 3, 3)) and scores.things[:3] == (cat / 2, cat / 2, 0.5)
    assert scores.summary["PQ_stuff"] == 0 and scores.by_class["PQ/cat"] == cat
    assert scores.table().splitlines()[1].split() == ["cat", "2", "70.8", "70.8", "100.0"]
    nothing = panoptic_scores(no_counts(3), CLASSES)
    assert np.isnan([*nothing.summary.values()]).all() and "-" in nothing.table()


@pytest.mark.parametrize(
    ("found", "fault"),
    [
        (panoptic([[0]], [0]), r"its own size; got \(1, 1\) for \(1, 2\)"),
        (panoptic([[0, 0]], [3]), "found segment has the label 3, but there are 3 classes"),
        (panoptic([[0, 1]], [0]), "of segment 1, but there are 1"),
        (panoptic([[0, 0]], [0, 1]), "found segment 1, of label 1, has no pixel"),
    ],
)
def test_what_is_no_map_is_refused(found, fault):
    with pytest.raises(VitjaxError, match=fault):
        panoptic_counts(panoptic([[0, 0]], [0]), found, 3)


def as_found(truth, lost=()):
    """The truth as a model would have to find it: no crowds, and without the segments that are lost."""
    kept = np.array([row for row in range(len(truth.labels)) if not truth.crowds[row] and row not in lost])
    places = np.full(len(truth.labels) + 1, -1)
    places[kept] = np.arange(len(kept))
    return PanopticMap(places[truth.owner], truth.labels[kept].copy(), truth.crowds[kept])


@pytest.mark.skipif(not SAMPLE.is_dir(), reason="the two images are not at hand")
def test_two_images_of_coco_score_as_computed_by_hand(tmp_path):
    (tmp_path / "images").symlink_to(SAMPLE / "input_images")
    (tmp_path / "panoptic_val").symlink_to(SAMPLE / "panoptic_examples")
    (tmp_path / "panoptic_val.json").symlink_to(SAMPLE / "panoptic_examples.json")
    source = CocoPanoptic(str(tmp_path), labels="category_id").open("val")
    assert len(source) == 2 and source.problems == () and len(source.classes) == 250
    truths = [source.panoptic(record) for record in range(2)]
    listed = [each["segments_info"] for each in json.loads((tmp_path / "panoptic_val.json").read_text())["annotations"]]
    for truth, segments in zip(truths, listed, strict=True):
        assert np.bincount(truth.owner[truth.owner >= 0]).tolist() == [each["area"] for each in segments]
    perfect = panoptic_quality([(truth, as_found(truth)) for truth in truths], source.classes)
    assert perfect.all == (1, 1, 1, 17 + 30) and perfect.things[:3] == perfect.stuff[:3] == (1, 1, 1)
    # Of the 175 pixels of the ball 50 are missed; sky and grass of the first image are exchanged; of 11 horses one is
    # not found. There are 8 classes: person, ball, truck, horse; tree, sky, grass, gravel.
    first, second = as_found(truths[0]), as_found(truths[1], [truths[1].labels.tolist().index(19)])
    ball, sky, grass = (first.labels.tolist().index(label) for label in (37, 187, 193))
    first.labels[[sky, grass]] = 193, 187
    first.owner.flat[np.flatnonzero(first.owner == ball)[:50]] = -1
    scores = panoptic_quality(zip(truths, (first, second), strict=True), source.classes)
    things, stuff = 1 + 5 / 7 + 1 + 10 / 10.5, 1 + 1 / 2 + 1 / 2 + 1
    assert (scores.things.PQ, scores.stuff.PQ) == pytest.approx((things / 4, stuff / 4))
    assert scores.all[:3] == pytest.approx(((things + stuff) / 8, (7 + 5 / 7) / 8, (6 + 10 / 10.5) / 8))
