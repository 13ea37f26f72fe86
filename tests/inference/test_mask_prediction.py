"""A model with masks from a file in the official layout to pictures and results."""

import dataclasses
import json

import jax
import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_masks
from quick import drawn

from vitjax.backbones.resnet import ResNet
from vitjax.data.label_names import COCO_PANOPTIC, is_thing
from vitjax.data.masks import pack
from vitjax.data.memory import Pictures
from vitjax.data.panoptic_png import read_ids
from vitjax.data.run_lengths import in_coco
from vitjax.data.source import Sample
from vitjax.data.transforms import Resize
from vitjax.detection.detr import DETR
from vitjax.detection.postprocess import BestClass
from vitjax.drawing.boxes import label_color
from vitjax.explain.attention_picture import draw_attention
from vitjax.families.model_file import ModelFile, shapes_of
from vitjax.inference.predictor import Predictor
from vitjax.inference.save import save
from vitjax.inference.task import Asked
from vitjax.runs.read_model import read_model, write_official
from vitjax.segmentation.detr_masks import MaskDETR
from vitjax.segmentation.panoptic import panoptic
from vitjax.tasks.detection import Detection
from vitjax.tasks.mask_pictures import with_masks
from vitjax.tasks.masks import MaskDetector

BACKBONE = ResNet(depth=18, width=8, stage_blocks=(1, 1, 1, 1))
SIZES = {"num_queries": 3, "channels": 128, "encoder_layers": 1, "decoder_layers": 1, "feed_forward": 16}
MODEL = MaskDETR(DETR(BACKBONE, num_classes=250, **SIZES))


@pytest.fixture(scope="module")
def predictor(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "masks.pth"
    variables = jax.tree.map(np.asarray, drawn(shapes_of(MODEL)))
    variables["params"]["detr"]["class_head"]["kernel"] *= 50  # so that it is sure of what it finds
    write_official(ModelFile(MODEL, variables, COCO_PANOPTIC, Resize(), BestClass()), path)
    file = read_model(path)
    assert file.model == MODEL and file.classes == COCO_PANOPTIC
    return Predictor(MaskDetector(file.model, Resize(48, 80), file.postprocess), file.variables, file.classes)


@pytest.fixture(scope="module")
def picture(tmp_path_factory):
    path = tmp_path_factory.mktemp("images") / "17.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 90, 3), np.uint8)).save(path)
    return path


def test_every_box_has_a_mask_of_the_size_of_the_image_on_pictures_and_in_the_results(predictor, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (60, 90, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    found = predictor(pixels, threshold=0.0)
    assert len(found) == len(found.masks) == 3
    assert found.masks.logits.shape == (3, 12, 18) and found.masks[0].shape == (60, 90)
    save(predictor, [tmp_path / "a.png"], tmp_path / "out", asked=Asked(threshold=0.0), batch_size=8)
    results = json.loads((tmp_path / "out" / "predictions.json").read_text(encoding="utf-8"))
    for row, result in enumerate(results):
        assert result["segmentation"] == in_coco(found.masks[row])
        assert coco_masks.area(result["segmentation"]) == found.masks[row].sum()
    assert Image.open(tmp_path / "out" / "panoptic" / "a.png").size == (90, 60)


def test_segments_are_written_in_cocos_panoptic_form_and_it_is_said(predictor, picture, tmp_path):
    told = save(predictor, [picture], tmp_path, batch_size=8)
    assert told.notes == [f"segments in COCO's panoptic form, of 1 images: {tmp_path}/panoptic_segments.json"]
    content = json.loads((tmp_path / "panoptic_segments.json").read_text())
    (answer,) = predictor.predict(Pictures([picture], COCO_PANOPTIC), batch_size=1)
    found = answer.prediction
    wanted = panoptic(found.scores, found.labels, found.masks, is_thing=is_thing)
    (annotation,) = content["annotations"]
    assert annotation["image_id"] == content["images"][0]["id"] == 17 and len(wanted.segments) > 0
    segments = [(one["id"] - 1, one["category_id"], one["area"]) for one in annotation["segments_info"]]
    assert segments == [(one.id, one.label, one.area) for one in wanted.segments]
    np.testing.assert_array_equal(read_ids(tmp_path / "panoptic_segments" / "17.png") - 1, wanted.ids)


def test_of_tiles_there_are_masks_and_no_segments_and_it_is_said(predictor, picture, tmp_path):
    told = save(predictor, [picture], tmp_path, asked=Asked(tiles=48, threshold=0.0), batch_size=8)
    assert told.notes == ["1 images were put together from tiles, of which no segments are made"]
    results = json.loads((tmp_path / "predictions.json").read_text())
    assert results and all(one["segmentation"]["size"] == [60, 90] for one in results)
    assert not list(tmp_path.glob("panoptic*"))


def test_the_best_alone_those_above_a_threshold_and_what_is_left_of_nms_keep_their_masks(predictor, picture, tmp_path):
    every = predictor(picture, threshold=0.0)
    for asked in ({"top": 1, "threshold": 0.0}, {"threshold": float(every.scores[1])}, {"nms": 0.0, "threshold": 0.0}):
        found = predictor(picture, **asked)
        places = [every.scores.tolist().index(score) for score in found.scores.tolist()]
        assert 0 < len(found) == len(found.masks) and places[0] == 0
        for mask, place in zip((found.masks[row] for row in range(len(found))), places, strict=True):
            np.testing.assert_array_equal(mask, every.masks[place])
    assert [one["segmentation"] for one in every.to_dict()["detections"]] == [in_coco(every.masks[i]) for i in range(3)]
    assert Image.open(every.save(tmp_path / "one.png")).size == every.draw().size
    plain = dataclasses.replace(every, masks=None).draw()
    assert np.any(np.array(every.draw()) != np.array(plain))


def test_the_page_shows_the_truth_on_the_left_and_what_is_found_on_the_right(predictor, picture):
    task, (answer,) = predictor.task, predictor.predict(Pictures([picture], COCO_PANOPTIC), batch_size=1)
    image, masks = Pictures([picture], COCO_PANOPTIC)[0].image, np.zeros((2, 60, 90), bool)
    masks[0, 10:50, 10:80], masks[1, 20:40, 30:60] = True, True
    sample = Sample(
        image, np.float32([[10, 10, 80, 50], [30, 20, 60, 40]]), np.array([1, 18], np.int32), masks=pack(masks)
    )
    page, caption = task.page_picture(answer, sample, COCO_PANOPTIC, "17.png")
    half = (page.shape[1] - 8) // 2
    assert caption == "17.png: truth, found" and (page[:, half : half + 8] == 255).all()
    found = predictor(picture)
    right = with_masks(image, found, COCO_PANOPTIC, 400 / 90)
    np.testing.assert_array_equal(page[:, half + 8 :], right)
    seam = np.array(label_color("dog", COCO_PANOPTIC.names))  # the smaller lies on top, and has its colour
    assert (np.abs(page[:, :half].astype(int) - seam).max(-1) < 40).sum() > 100
    alone, caption = task.page_picture(answer, dataclasses.replace(sample, masks=None), COCO_PANOPTIC, "17.png")
    assert caption == "17.png" and alone.shape[1] < page.shape[1]
    nothing = dataclasses.replace(sample, boxes=sample.boxes[:0], labels=sample.labels[:0], masks=pack(masks[:0]))
    assert task.page_picture(answer, nothing, COCO_PANOPTIC, "17.png")[0].shape == page.shape


def test_attention_of_a_query_is_explained_beside_its_own_mask(predictor, picture, tmp_path):
    attention = predictor.attention(picture)
    (answer,) = predictor.predict(Pictures([picture], COCO_PANOPTIC), batch_size=1)
    for query in range(3):
        asked = attention.of_query(query)
        np.testing.assert_array_equal(asked.question.mask, answer.prediction.masks[query])
        np.testing.assert_allclose(asked.question.score, answer.prediction.scores[query], atol=1e-5)
        np.testing.assert_allclose(asked.mean.sum(), 1, atol=1e-4)
    assert attention.of_pixel(3, 4).question.mask is None
    without = dataclasses.replace(asked, question=dataclasses.replace(asked.question, mask=None))
    both, alone = (Image.open(draw_attention(one, tmp_path / "a.png", dpi=40)).size for one in (asked, without))
    assert both[0] > 1.7 * alone[0]


def test_it_is_trained_by_a_task_of_its_own():
    with pytest.raises(ValueError, match="Detection is made of parts for detection, and these are not: model=MaskDETR"):
        Detection(model=MODEL)
