"""The thresholds that a run keeps for its checkpoints, and which one a model is shown with."""

import dataclasses

import pytest

from vitjax.detection.postprocess import BestClass, TopDetections
from vitjax.errors import VitjaxError
from vitjax.runs.judgement import BASELINE, THRESHOLDS, read_baseline, read_threshold, with_best_threshold, write_points


@dataclasses.dataclass(frozen=True)
class Unfiltered:
    """A post-processing without a threshold."""


def test_each_kept_step_has_its_threshold_and_others_are_let_go(tmp_path):
    for step, threshold in ((2, 0.25), (4, 0.5), (6, 0.75)):
        write_points(tmp_path, step, {"threshold": threshold}, [4, 6])
    assert [read_threshold(tmp_path, step) for step in (2, 4, 6)] == [None, 0.5, 0.75]
    write_points(tmp_path, 6, None, [4, 6])
    assert [read_threshold(tmp_path, step) for step in (4, 6)] == [0.5, None]


def test_a_run_without_thresholds_has_none(tmp_path):
    assert read_threshold(tmp_path, 4) is None and read_baseline(tmp_path) is None


SPOILT = ["", "[]", '{"4": ', '{"4": 0.5}', '{"4": {"threshold": "high"}}', '{"4": {"threshold": 2}}', '{"4": {}}']


@pytest.mark.parametrize("text", [*SPOILT, '{"4": {"threshold": NaN}}', "[" * 100_000], ids=lambda text: text[:30])
def test_a_damaged_file_is_named_and_never_a_threshold(tmp_path, text):
    (tmp_path / THRESHOLDS).write_text(text)
    with pytest.raises(VitjaxError, match=r"thresholds\.json"):
        read_threshold(tmp_path, 4)


def test_a_damaged_file_is_written_anew(tmp_path):
    (tmp_path / THRESHOLDS).write_text("{")
    write_points(tmp_path, 4, {"threshold": 0.5}, [4])
    assert read_threshold(tmp_path, 4) == 0.5


def test_a_damaged_baseline_is_named(tmp_path):
    (tmp_path / BASELINE).write_text("7")
    with pytest.raises(VitjaxError, match=r"baseline\.json holds no object but int"):
        read_baseline(tmp_path)


@pytest.mark.parametrize("kind", [BestClass, TopDetections])
def test_the_best_threshold_takes_the_place_of_the_default_but_not_of_ones_own(tmp_path, kind):
    write_points(tmp_path, 4, {"threshold": 0.125}, [4])
    best, word = with_best_threshold(kind(), tmp_path, 4)
    assert best == kind(threshold=0.125) and "best F1" in word
    own, word = with_best_threshold(kind(threshold=0.8), tmp_path, 4)
    assert own == kind(threshold=0.8) and "postprocess.threshold" in word
    default, word = with_best_threshold(kind(), tmp_path, 5)
    assert default == kind() and "default" in word
    (tmp_path / "thresholds.json").write_text("{")
    default, word = with_best_threshold(kind(), tmp_path, 4)
    assert default == kind() and "thresholds.json cannot be read" in word


def test_what_has_no_threshold_gets_none(tmp_path):
    write_points(tmp_path, 4, {"threshold": 0.125}, [4])
    assert with_best_threshold(Unfiltered(), tmp_path, 4) == (Unfiltered(), "")
