"""What the constant answers of classifiers and segmenters score, and what is said of a model beside one."""

import numpy as np
import pytest

from vitjax.data.source import Classes
from vitjax.errors import VitjaxError
from vitjax.evaluation import class_checks, label_checks
from vitjax.evaluation.checks import Baseline
from vitjax.evaluation.classification import score_classes
from vitjax.evaluation.scores import Evaluation
from vitjax.evaluation.segmentation import confusion, score_confusion
from vitjax.prediction import Answer, Recognition

CLASSES = Classes(("sky", "sea", "sand"), (0, 1, 2))


class Labelled:
    """A source that tells its labels."""

    classes, max_objects, problems = CLASSES, 1, ()

    def __init__(self, *labels):
        self.labels = np.array(labels, np.int32)
        self.image_ids = range(len(self))

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, record):
        raise AssertionError("no image is looked at")

    def name(self, record):
        return f"{record}.png"


class Maps(Labelled):
    """A source of label maps."""

    def __init__(self, *maps):
        super().__init__(*[0] * len(maps))
        self.maps = [np.array(one, np.uint8) for one in maps]
        self.sizes = np.array([one.shape for one in self.maps], np.int32)

    def label_map(self, record):
        return self.maps[record]


def classified(*labels):
    """The evaluation of a classifier that says 'sky' of images with these labels."""
    answers = [
        Answer(record, np.array([label]), Recognition(("sky",), np.ones(1), np.zeros(1, int)))
        for record, label in enumerate(labels)
    ]
    return Evaluation(score_classes(answers, CLASSES), [], ())


def mapped(truth, found):
    counts = confusion(np.array(truth, np.uint8), np.array(found, np.uint8), 3)
    return Evaluation(score_confusion(counts, CLASSES), [], ())


def test_a_class_that_is_always_named_is_right_as_often_as_it_is_there():
    constant = class_checks.constant(Labelled(1, 1, 2, 0, 1))
    assert constant == {"label": 1, "name": "sea"}
    baseline = class_checks.baseline(constant, classified(1, 0, 0, 2), None)
    assert baseline.scores == {"top1": 0.25} and "'sea'" in baseline.answer


def test_a_source_that_does_not_tell_its_labels_has_no_constant_answer():
    assert class_checks.constant(Labelled()) is None


def test_it_scores_what_a_classifier_that_says_it_scores():
    evaluation = classified(0, 0, 1, 2, 0)
    assert class_checks.baseline({"label": 0}, evaluation, None).scores["top1"] == evaluation.scores.summary["top1"]


def test_a_label_for_every_pixel_scores_what_a_segmenter_that_gives_it_scores():
    truth = [[0, 0, 1, 255], [0, 1, 1, 0]]
    for label in range(3):
        evaluation = mapped(truth, np.full((2, 4), label))
        assert label_checks.baseline({"label": label}, evaluation, None).scores == pytest.approx(
            evaluation.scores.summary
        )


def test_the_most_frequent_label_counts_pixels_that_have_one():
    assert label_checks.constant(Maps([[255, 255, 255, 1]], [[2, 1, 255, 255]])) == {"label": 1, "name": "sea"}
    assert label_checks.constant(Maps([[255, 255]])) is None


@pytest.mark.parametrize("constant", [{}, {"label": 3}, {"label": -1}, {"label": "sky"}])
def test_a_label_that_there_is_not_is_refused(constant):
    with pytest.raises(VitjaxError, match="a label below 3"):
        class_checks.baseline(constant, classified(0), None)


@pytest.mark.parametrize(
    ("scores", "said"),
    [
        ({"AP": 0.4, "AP50": 0.54}, "AP50 0.540 against 0.590"),
        ({"AP": 0.2, "AP50": 0.54}, "AP 0.200 against 0.300, AP50 0.540 against 0.590"),
        ({"AP": 0.3, "AP50": 0.6}, "AP 0.300 against 0.300"),
        ({"AP": 0.31, "AP50": 0.6}, ""),
        ({"AP": float("nan")}, ""),
    ],
)
def test_a_sentence_says_where_a_model_is_not_above_the_constant_answer(scores, said):
    baseline = Baseline("the same box on every image", {"AP": 0.3, "AP50": 0.59})
    first, *more = baseline.lines(scores)
    assert first == "baseline, the same box on every image: AP 0.300, AP50 0.590"
    assert [said in line and line.startswith("The model is not better") for line in more] == [True] * bool(said)
    assert baseline.summary == {"baseline AP": 0.3, "baseline AP50": 0.59}
