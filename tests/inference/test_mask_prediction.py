"""A model with masks from a file in the official layout to pictures and results."""

import json

import jax
import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_masks
from quick import drawn

from vitjax.backbones.resnet import ResNet
from vitjax.data.label_names import COCO_PANOPTIC
from vitjax.data.transforms import Resize
from vitjax.detection.detr import DETR
from vitjax.detection.postprocess import BestClass
from vitjax.families.model_file import ModelFile, shapes_of
from vitjax.inference.predictor import Predictor
from vitjax.inference.save import save
from vitjax.inference.task import Asked
from vitjax.runs.read_model import read_model, write_official
from vitjax.segmentation.detr_masks import MaskDETR
from vitjax.tasks.detection import Detection, Detector, run_lengths

BACKBONE = ResNet(depth=18, width=8, stage_blocks=(1, 1, 1, 1))
SIZES = {"num_queries": 3, "channels": 128, "encoder_layers": 1, "decoder_layers": 1, "feed_forward": 16}
MODEL = MaskDETR(DETR(BACKBONE, num_classes=250, **SIZES))


@pytest.fixture(scope="module")
def predictor(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "masks.pth"
    variables = jax.tree.map(np.asarray, drawn(shapes_of(MODEL)))
    write_official(ModelFile(MODEL, variables, COCO_PANOPTIC, Resize(), BestClass()), path)
    file = read_model(path)
    assert file.model == MODEL and file.classes == COCO_PANOPTIC
    return Predictor(Detector(file.model, Resize(48, 80), file.postprocess), file.variables, file.classes)


def test_every_box_has_a_mask_of_the_size_of_the_image_on_pictures_and_in_the_results(predictor, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (60, 90, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    found = predictor(pixels, threshold=0.0)
    assert len(found) == len(found.masks) == 3
    assert found.masks.logits.shape == (3, 12, 18) and found.masks[0].shape == (60, 90)
    save(predictor, [tmp_path / "a.png"], tmp_path / "out", asked=Asked(threshold=0.0), batch_size=8)
    results = json.loads((tmp_path / "out" / "predictions.json").read_text(encoding="utf-8"))
    for row, result in enumerate(results):
        assert result["segmentation"] == run_lengths(found.masks[row])
        assert coco_masks.area(result["segmentation"]) == found.masks[row].sum()
    assert Image.open(tmp_path / "out" / "panoptic" / "a.png").size == (90, 60)


def test_it_is_trained_by_a_task_of_its_own():
    with pytest.raises(ValueError, match="Detection is made of parts for detection, and these are not: model=MaskDETR"):
        Detection(model=MODEL)
