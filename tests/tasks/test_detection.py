"""What a detector answers, what it writes, and which parts go together."""

import types

import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from vitjax.data.label_names import COCO
from vitjax.data.source import Classes, Sample
from vitjax.data.transforms import Resize
from vitjax.detection.deformable_detr import DeformableDETR
from vitjax.detection.detr import DETR
from vitjax.detection.focal_loss import FocalSetLoss
from vitjax.detection.loss import SetLoss
from vitjax.detection.postprocess import BestClass, TopDetections
from vitjax.errors import FieldError
from vitjax.inference.results import Origin
from vitjax.inference.task import Asked
from vitjax.prediction import Answer, Prediction, names_of
from vitjax.structs import ANSWER, Predictions, PredictionSet
from vitjax.tasks.detection import Detection, Detector

CLASSES = Classes(("cat", "dog"), (3, 7))
TASK = Detector(nn.Module(), Resize(), BestClass(threshold=0.5))


def found(*scores):
    """Boxes that lie one below the other, of dogs and of what the data do not know."""
    labels = np.arange(len(scores)) % 2 + 1
    boxes = np.array([[4, 20 * row, 80, 20 * row + 16] for row in range(len(scores))], np.float32)
    return Prediction(boxes, np.array(scores, np.float32), labels, names_of(CLASSES, labels))


def test_the_answer_is_that_of_the_last_layer_in_pixels_of_the_original_image():
    logits = jnp.array([[[[9.0, 0, 0]]], [[[0, 9.0, 0]]]])
    boxes = jnp.array([[[[0.5, 0.5, 1, 1]]], [[[0.25, 0.5, 0.5, 0.2]]]])
    batch = types.SimpleNamespace(sizes=jnp.array([[10, 10]]), original_sizes=jnp.array([[100, 40]]))
    row = TASK.finish(Predictions({ANSWER: PredictionSet(logits, boxes)}), batch)
    assert row.labels.tolist() == [[1]]
    np.testing.assert_allclose(row.boxes[0, 0], [0, 40, 20, 60], atol=1e-5)


def test_a_label_that_the_data_do_not_have_is_its_own_category():
    entries, rows = TASK.results(found(0.9, 0.8), Origin("a.png"), 1, CLASSES, "a.png")
    assert [(entry["category_id"], entry["category_name"]) for entry in entries] == [(7, "dog"), (2, "2")]
    assert [row["label"] for row in rows] == [1, 2]


def test_people_are_shown_what_reaches_the_threshold_that_is_asked_for_or_the_models():
    for asked, count in ((Asked(), 2), (Asked(threshold=0.75), 1), (Asked(threshold=0.0), 3)):
        kept = TASK.kept(found(0.5, 0.25, 0.75), asked)
        assert kept.scores.tolist() == [0.75, 0.5, 0.25] and len(TASK.shown(kept, asked)) == count
        (line,) = TASK.summary(count, asked)
        assert line == f"{count} boxes of score {0.5 if asked.threshold is None else asked.threshold} or more"


def test_the_page_shows_only_what_reaches_the_threshold():
    sample = Sample(np.zeros((96, 96, 3), np.uint8), np.zeros((0, 4), np.float32), np.zeros(0, np.int32))
    picture, caption = TASK.page_picture(Answer(0, np.zeros(0, int), found(0.9, 0.4)), sample, CLASSES, "a.png")
    assert caption == "a.png"
    alone = TASK.page_picture(Answer(0, np.zeros(0, int), found(0.9)), sample, CLASSES, "a.png")[0]
    np.testing.assert_array_equal(picture, alone)
    assert (picture != TASK.page_picture(Answer(0, np.zeros(0, int), found(0.9, 0.6)), sample, CLASSES, "")[0]).any()


@pytest.mark.parametrize("size", [(96, 96), (30, 20), (900, 1200)])
def test_the_page_draws_every_image_as_large_as_its_tile_so_that_tags_are_not_shrunk(size):
    sample = Sample(np.zeros((*size, 3), np.uint8), np.zeros((0, 4), np.float32), np.zeros(0, np.int32))
    picture, _ = TASK.page_picture(Answer(0, np.zeros(0, int), found(0.9)), sample, CLASSES, "a.png")
    assert max(picture.shape) == TASK.about.page.tile


def test_a_model_of_cocos_ids_is_scored_on_data_with_them_and_others_on_data_that_count_their_classes():
    assert Detection.data_of(COCO).labels == "category_id"
    assert Detection.data_of(CLASSES).labels == "contiguous"


PARTS = {
    "loss": {"loss": FocalSetLoss()},
    "post-processing": {"postprocess": TopDetections()},
    "loss of the other": {"model": DeformableDETR(), "postprocess": TopDetections()},
    "post-processing of the other": {"model": DeformableDETR(), "loss": FocalSetLoss()},
}


@pytest.mark.parametrize("name", PARTS)
def test_loss_and_post_processing_read_the_scores_as_the_model_means_them(name):
    with pytest.raises(FieldError, match=r"gives (softmax|sigmoid) scores and \w+ takes"):
        Detection(**PARTS[name])


def test_the_parts_of_either_model_go_together():
    for model, loss, ending in ((DETR(), SetLoss(), BestClass()), (DeformableDETR(), FocalSetLoss(), TopDetections())):
        assert Detection(model=model, loss=loss, postprocess=ending).postprocess == ending
