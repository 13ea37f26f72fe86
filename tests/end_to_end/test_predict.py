import json
import shutil

import flax.linen as nn
import numpy as np
import pytest
from PIL import Image

import vitjax
from vitjax.commands.main import main
from vitjax.data.coco import CocoFolder
from vitjax.data.errors import DataError
from vitjax.data.transforms import Resize
from vitjax.detection.postprocess import BestClass
from vitjax.evaluation.coco import evaluate_boxes
from vitjax.evaluation.scores import Evaluation
from vitjax.tasks.detection import Detector
from vitjax.tasks.judgement import judgement


@pytest.fixture(scope="module")
def predictor(run):
    return vitjax.load(run)


def test_path_picture_and_array_give_the_same(predictor, data):
    path = data / "val" / "0.png"
    one = predictor(path, threshold=0.0)
    for same in (predictor(Image.open(path), threshold=0.0), predictor(np.asarray(Image.open(path)), threshold=0.0)):
        np.testing.assert_array_equal(one.boxes, same.boxes)
    assert len(one) == 5 and len(one.names) == 5
    assert np.all(np.diff(one.scores) <= 0)


def test_a_list_gives_what_each_image_gives_alone(predictor, data):
    paths = [data / "val" / f"{i}.png" for i in range(3)]
    together = predictor(paths, threshold=0.0)
    for path, prediction in zip(paths, together, strict=True):
        alone = predictor(path, threshold=0.0)
        np.testing.assert_allclose(prediction.boxes, alone.boxes, atol=1e-2)
        np.testing.assert_allclose(prediction.scores, alone.scores, atol=1e-4)


def test_the_threshold_leaves_out_what_is_below(predictor, data):
    assert len(predictor(data / "val" / "0.png", threshold=1.0)) == 0


def test_a_missing_image_is_named(predictor):
    with pytest.raises(DataError, match=r"nowhere\.jpg"):
        predictor("nowhere.jpg")


def test_an_array_that_is_no_image_is_told_what_is_wanted(predictor):
    with pytest.raises(
        DataError, match=r"float32 and shape \(3, 40, 50\)\. An image is a path, a PIL image, or an array"
    ):
        predictor(np.zeros((3, 40, 50), np.float32))


def test_a_folder_that_is_no_run_is_told_so(tmp_path):
    with pytest.raises(DataError, match="neither a run folder"):
        vitjax.load(tmp_path)


def test_a_step_that_is_not_kept_is_answered_with_those_that_are(run):
    with pytest.raises(DataError, match="no checkpoint of step 3"):
        vitjax.load(run, step=3)


def test_predict_writes_a_picture_per_image_and_coco_results(run, data, tmp_path, capsys):
    out = tmp_path / "out"
    (tmp_path / "text.png").write_text("no image")
    words = ["predict", str(run), str(data / "val"), str(tmp_path / "text.png"), "--out", str(out)]
    assert main([*words, "--threshold", "0"]) == 0
    assert {path.name for path in out.iterdir()} == {"0.png", "1.png", "2.png", "predictions.json"}
    results = json.loads((out / "predictions.json").read_text())
    assert len(results) == 15
    assert {"image_id", "category_id", "bbox", "score", "file_name", "category_name"} <= results[0].keys()
    assert all(result["category_name"] == f"digit {(result['category_id'] - 1) // 2}" for result in results)
    assert "skipped, cannot be read: " in capsys.readouterr().out


def test_images_of_the_same_name_do_not_overwrite_each_other(run, data, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    shutil.copy(data / "val" / "0.png", other / "0.png")
    out = tmp_path / "out"
    assert main(["predict", str(run), str(data / "val" / "0.png"), str(other), "--out", str(out)]) == 0
    assert {path.name for path in out.glob("*.png")} == {"0.png", "0_2.png"}


def test_evaluate_prints_the_twelve_numbers_and_every_class(run, data, tmp_path, capsys):
    assert main(["evaluate", str(run), "--data.split", "val", "--out", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "AP50" in said and "digit 3" in said
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert scores.keys() >= {"AP", "AP50", "AR100", "APs", "baseline AP", "baseline AP50"}
    json.loads((tmp_path / "results.json").read_text())
    assert f"boxes on every image: AP {scores['baseline AP']:.3f}, AP50 {scores['baseline AP50']:.3f}" in said
    assert ("The model is not better than a constant answer: AP" in said) == (
        scores["AP"] <= scores["baseline AP"] or scores["AP50"] <= scores["baseline AP50"]
    )
    assert " objects found by " in said and "badly placed" in said
    assert {"mistakes.json", "confusion.png", "worst.png"} <= {path.name for path in tmp_path.iterdir()}


def test_a_run_is_shown_with_the_threshold_of_its_checkpoint_and_says_both(run, tmp_path, capsys):
    copy = shutil.copytree(run, tmp_path / "run")
    (copy / "thresholds.json").write_text('{"4": {"threshold": 0.125}, "2": {"threshold": 0.25}}')
    predictor = vitjax.load(copy)
    line = capsys.readouterr().err.splitlines()[-1]
    assert predictor.step in (2, 4) and predictor.threshold == {2: 0.25, 4: 0.125}[predictor.step]
    assert line.startswith(f"{copy}, step {predictor.step}, the best by AP (")
    assert line.endswith(f"; boxes from a score of {predictor.threshold:g} on, which had the best F1 in its validation")
    assert predictor.told(0.5).endswith("; boxes from a score of 0.5 on, as asked for")
    (copy / "thresholds.json").unlink()
    assert vitjax.load(copy, quiet=True).threshold == 0.5 and capsys.readouterr().err == ""


def test_without_the_run_the_training_split_gives_the_constant_answer_and_without_both_that_is_said(data, tmp_path):
    source, task = CocoFolder(str(data)).open("val"), Detector(nn.Module(), Resize(), BestClass())
    evaluation = Evaluation(evaluate_boxes(source.ground_truth(), []), [], ())
    known = judgement("facebook/detr", task, evaluation, source, CocoFolder(str(data)))
    assert known.scores.keys() >= {"baseline AP", "baseline AP50"} and "boxes on every image" in known.lines[-2]
    unknown = judgement("facebook/detr", task, evaluation, source, CocoFolder(str(data), train_split="learn"))
    assert unknown.lines[-1].startswith("no baseline: ") and "learn" in unknown.lines[-1]
    assert "baseline AP" not in unknown.scores


def test_evaluate_on_data_of_other_classes_is_refused(run, folder, capsys):
    path = folder / "annotations" / "instances_val.json"
    content = json.loads(path.read_text())
    content["categories"][0]["name"] = "letter"
    path.write_text(json.dumps(content))
    assert main(["evaluate", str(run), "--data.root", str(folder)]) == 1
    error = capsys.readouterr().err
    assert "letter" in error and "Traceback" not in error


def test_a_command_that_does_not_exist_is_answered_with_those_that_do(capsys):
    assert main(["evalute"]) == 2
    assert "evaluate" in capsys.readouterr().err


def test_models_lists_published_scores(capsys):
    assert main(["models"]) == 0
    said = capsys.readouterr().out
    assert "detr_resnet50_coco" in said and "published: AP 42.0" in said and "measured here: AP50 0.78" in said


@pytest.mark.parametrize("command", ["predict", "evaluate", "export"])
def test_the_precision_of_matrix_products_can_be_given(command, run, data, tmp_path, capsys):
    words = {"predict": [str(data / "val" / "0.png"), "--out", str(tmp_path / "out")], "evaluate": []}
    words["export"] = [str(tmp_path / "out"), "--size", "32", "64"]
    assert main([command, str(run), *words[command], "--matmul-precision", "highest"]) == 0
    with pytest.raises(SystemExit):
        main([command, str(run), *words[command], "--matmul-precision", "most"])
