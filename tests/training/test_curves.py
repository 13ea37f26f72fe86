"""What a run leaves in its report: curves and a summary."""

import json
import math

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from vitjax.tasks.classification import ImageClassifier
from vitjax.tasks.detection import Detector
from vitjax.training import curves
from vitjax.training.curves import plot_curves, write_summary
from vitjax.training.report import MetricsLog

AP = Detector.about.curves


def log_of_a_run(workdir, steps=3000, **more):
    """A log as training writes it."""
    with MetricsLog(workdir) as log:
        for step in range(steps // 40, steps + 1, steps // 40):
            loss = 20 * math.exp(-step / steps) + math.sin(step)
            terms = {"class": loss / 4, "box": loss / 50, "giou": loss / 5, "box_0": loss, "class_error": 40.0}
            log.write(step, "train", {"loss": loss, **terms, "gradient_norm": 1.0, "learning_rate": 1e-4, **more})
        for step in (steps // 2, steps):
            log.write(step, "val", {"AP": step / steps / 2, "AP50": step / steps, "AP75": math.nan})


def test_curves_are_drawn_from_the_log(tmp_path):
    log_of_a_run(tmp_path)
    paths = plot_curves(tmp_path, *AP)
    assert paths == [tmp_path / "report" / "loss.png", tmp_path / "report" / "ap.png"]
    for path in paths:
        with Image.open(path) as picture:
            assert min(picture.size) > 500
            assert len(np.unique(np.asarray(picture.convert("L")))) > 50


def test_the_curves_of_the_loss_are_the_total_and_its_terms():
    names = ("class", "box", "giou", "mask", "dice")
    others = (
        "step",
        "split",
        "loss",
        "learning_rate",
        "gradient_norm",
        "class_error",
        "cardinality_error",
        "box_0",
        "giou_11",
    )
    assert [name for name in (*names, *others) if not curves._NO_TERM.fullmatch(name)] == list(names)


def test_a_picture_without_data_is_left_out(tmp_path):
    with MetricsLog(tmp_path) as log:
        log.write(1, "train", {"loss": 0.0})
    assert plot_curves(tmp_path, *AP) == [tmp_path / "report" / "loss.png"]
    with MetricsLog(tmp_path / "only_val") as log:
        log.write(1, "val", {"AP": 0.0})
    assert plot_curves(tmp_path / "only_val", *AP) == [tmp_path / "only_val" / "report" / "ap.png"]
    with MetricsLog(tmp_path / "classifier") as log:
        log.write(1, "val", {"top1": 0.5, "top5": 1.0})
    assert plot_curves(tmp_path / "classifier", *ImageClassifier.about.curves) == [
        tmp_path / "classifier" / "report" / "accuracy.png"
    ]


@pytest.mark.parametrize("value", [math.nan, 0.0, -3.0, 1e9], ids=str)
def test_odd_values_do_not_stop_the_drawing(tmp_path, value):
    log_of_a_run(tmp_path, steps=40, mask=value)
    with MetricsLog(tmp_path) as log:
        log.write(41, "train", {"loss": value, "learning_rate": 0.0})
        log.write(41, "val", {"AP": math.nan})
    assert len(plot_curves(tmp_path, *AP)) == 2


def test_scores_beyond_one_are_drawn_whole(tmp_path, monkeypatch):
    tops = []
    monkeypatch.setattr(curves, "_style", lambda axes, title: tops.append((title, axes.get_ylim()[1])))
    for value, top in ((0.95, 1.02), (40.0, 46.0)):
        with MetricsLog(tmp_path / str(value)) as log:
            log.write(1, "val", {"error": value})
        assert plot_curves(tmp_path / str(value), "scores.png", ("error",))[0].name == "scores.png"
        assert tops[-1] == ("Validation", pytest.approx(top))


def test_a_log_of_nothing_but_nan_gives_no_pictures(tmp_path):
    with MetricsLog(tmp_path) as log:
        log.write(1, "train", {"loss": math.nan, "learning_rate": 0.0})
        log.write(1, "val", {"AP": math.nan, "AP50": math.nan})
    assert plot_curves(tmp_path, *AP) == []


def test_smoothing_keeps_a_constant_and_the_length():
    assert curves._smoothed([3.0] * 500) == pytest.approx([3.0] * 500)
    assert curves._smoothed([1.0, 5.0, 2.0]) == [1.0, 5.0, 2.0]
    assert curves._smoothed([]) == []


def test_the_summary_has_last_and_best_by_name_and_the_extras(tmp_path):
    last = {"step": 200, "AP": np.float32(0.25), "APs": math.nan}
    path = write_summary(tmp_path, last, {"AP": jnp.float32(0.5)}, steps=np.int64(200), seconds=12.5, device="cpu")
    assert path == tmp_path / "report" / "summary.json"
    assert json.loads(path.read_text()) == {
        "last": {"step": 200, "AP": 0.25, "APs": None},
        "best": {"AP": 0.5},
        "steps": 200,
        "seconds": 12.5,
        "device": "cpu",
    }


def test_a_second_summary_replaces_the_first_and_leaves_no_other_file(tmp_path):
    for value in (0.1, 0.2):
        path = write_summary(tmp_path, {"AP": value}, {}, shapes=[(1, 2), [3]])
    assert json.loads(path.read_text()) == {"last": {"AP": 0.2}, "best": {}, "shapes": [[1, 2], [3]]}
    assert list(path.parent.iterdir()) == [path]
