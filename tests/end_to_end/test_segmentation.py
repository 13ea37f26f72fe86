"""A segmenter of digit scenes: trained, evaluated, asked, and refused where there is nothing for it."""

import json

import numpy as np
import pytest
from PIL import Image

import vitjax
from vitjax.commands.main import main, train
from vitjax.data.digit_maps import DigitMaps
from vitjax.detection.detr import DETR
from vitjax.runs.configs import load_config
from vitjax.tasks.detection import Detection
from vitjax.tasks.segmentation import Segmentation
from vitjax.training.report import read_metrics

CONFIG = '''"""A segmenter so small that it trains in seconds."""

from vitjax.backbones.resnet import ResNet
from vitjax.data.digit_maps import DigitMaps
from vitjax.data.transforms import Augmentation, Resize
from vitjax.segmentation.fcn_head import FCNHead
from vitjax.segmentation.label_map import BestLabel
from vitjax.segmentation.pixel_loss import PixelCrossEntropy
from vitjax.segmentation.segmenter import Segmenter
from vitjax.tasks.segmentation import Segmentation
from vitjax.runs.optimizer import AdamW


def experiment():
    return Segmentation(
        model=Segmenter(
            backbone=ResNet(depth=18, width=8, stage_blocks=(1, 1), norm="group"),
            head=FCNHead(norm="batch"),
            auxiliary=FCNHead(norm="group"),
        ),
        data=DigitMaps(height=32, width=40, max_digits=1, train_images=8, val_images=3),
        augmentation=Augmentation(sizes=(24,), max_side=None, crop=0.0),
        resize=Resize(size=24),
        loss=PixelCrossEntropy(),
        postprocess=BestLabel(),
        optimizer=AdamW(learning_rate=1e-3),
        epochs=2, batch_size=4, log_every=1,
    )
'''


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run of two epochs."""
    folder = tmp_path_factory.mktemp("segmenter")
    (folder / "tiny.py").write_text(CONFIG)
    assert train([str(folder / "tiny.py"), "--workdir", str(folder / "run")]) == 0
    return folder / "run"


def test_a_run_leaves_scores_curves_a_page_of_pictures_and_a_summary(run):
    report = run / "report"
    assert {path.name for path in report.iterdir()} == {"loss.png", "miou.png", "predictions.png", "summary.json"}
    assert 0 <= json.loads((report / "summary.json").read_text())["best"]["mIoU"] <= 1
    terms = {"loss", "cross_entropy", "auxiliary", "pixel_error", "gradient_norm"}
    assert all(terms <= entry.keys() for entry in read_metrics(run) if entry["split"] == "train")


def test_evaluate_and_predict_write_scores_pictures_and_label_maps(run, tmp_path, capsys):
    assert main(["evaluate", str(run), "--out", str(tmp_path), "--batch-size", "4"]) == 0
    assert {"mIoU", "accuracy", "background"} <= set(capsys.readouterr().out.split())
    assert json.loads((tmp_path / "scores.json").read_text()).keys() == {
        "mIoU",
        "accuracy",
        "baseline mIoU",
        "baseline accuracy",
    }
    assert len(json.loads((tmp_path / "results.json").read_text())) == 3
    scene = DigitMaps(height=32, width=40).open("val")[0].image
    Image.fromarray(scene).save(tmp_path / "scene.png")
    words = ["predict", str(run), str(tmp_path / "scene.png"), "--out", str(tmp_path / "out")]
    assert main(words) == 0
    labels = np.asarray(Image.open(tmp_path / "out" / "labels" / "scene.png"))
    assert labels.shape == (32, 40) and (tmp_path / "out" / "scene.png").is_file()
    told = vitjax.load(run)(scene)
    assert np.array_equal(told.label_map, labels) and sum(told.shares) == pytest.approx(1)
    assert main([*words, "--top", "3"]) == 1
    assert "--top is not for a segmentation model" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["explain", "RUN", "SCENE"], "this model, a Segmenter with a ResNet, has none"),
        (["export", "RUN", "OUT"], "segmentation"),
        (["convert", "RUN", "OUT.pth", "--to", "official"], "no official layout for a Segmenter"),
    ],
)
def test_what_there_is_not_for_a_segmenter_is_refused(run, tmp_path, capsys, words, message):
    words = [word.replace("RUN", str(run)).replace("OUT", str(tmp_path / "out")) for word in words]
    words = [word.replace("SCENE", str(tmp_path / "scene.png")) for word in words]
    Image.fromarray(np.zeros((32, 40, 3), np.uint8)).save(tmp_path / "scene.png")
    assert main(words) == 1
    assert message in capsys.readouterr().err


def test_a_converted_run_is_the_same_model(run, tmp_path):
    assert main(["convert", str(run), str(tmp_path / "copy")]) == 0
    one, other = vitjax.load(run), vitjax.load(tmp_path / "copy")
    assert one.model == other.model and one.classes == other.classes


def test_parts_of_other_tasks_are_refused():
    segmenter = load_config("zoo_plain_scenes").experiment
    with pytest.raises(ValueError, match=r"parts for segmentation, and these are not: model=DETR\."):
        Segmentation(model=DETR())
    with pytest.raises(ValueError, match=r"parts for detection.*: model=Segmenter, loss=PixelCrossEntropy"):
        Detection(model=segmenter.model, loss=segmenter.loss)
