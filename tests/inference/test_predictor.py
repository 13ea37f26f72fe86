"""A model as a Python call: answers in the order of the images, and as many as are asked for."""

import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from inference.test_sweep import COLOURS, Coloured, Shade

from vitjax.classification.postprocess import TopClasses
from vitjax.data.crops import CenterCrop
from vitjax.data.errors import DataError
from vitjax.data.transforms import Resize
from vitjax.detection.postprocess import BestClass
from vitjax.errors import FieldError
from vitjax.inference import predictor
from vitjax.inference.predictor import Predictor
from vitjax.inference.sweep import Sweep
from vitjax.structs import ANSWER, Predictions, PredictionSet
from vitjax.tasks.classification import ImageClassifier
from vitjax.tasks.detection import Detector

SIZES = [(90, 30), (30, 90), (40, 40), (31, 88), (90, 31)]


class WholeImage(nn.Module):
    """Finds one thing, which is as large as the image."""

    def __call__(self, images, *, train):
        batch = len(images.pixels)
        logits = jnp.broadcast_to(jnp.array([0.0, 4, 0, 0]), (1, batch, 1, 4))
        return Predictions(
            {ANSWER: PredictionSet(logits, jnp.broadcast_to(jnp.array([0.5, 0.5, 1, 1]), (1, batch, 1, 4)))}
        )


@pytest.fixture(scope="module")
def detector():
    return Predictor(Detector(WholeImage(), Resize(32, 64), BestClass()), {}, COLOURS)


@pytest.fixture(scope="module")
def classifier():
    return Predictor(ImageClassifier(Shade(), CenterCrop(8, 8), TopClasses(3)), {}, COLOURS)


def blank(height, width):
    return np.zeros((height, width, 3), np.uint8)


def test_answers_are_in_the_order_of_the_images_whatever_their_sizes(detector):
    found = detector([blank(*size) for size in SIZES])
    assert [one.boxes.round().tolist() for one in found] == [[[0, 0, width, height]] for height, width in SIZES]
    assert [one.names for one in found] == [("green",)] * len(SIZES)


def test_one_image_gives_one_answer_and_no_images_none(detector):
    assert detector(blank(*SIZES[0])).boxes.shape == (1, 4)
    assert detector([]) == []


def test_each_call_gives_as_many_classes_as_it_asks_for(classifier):
    image = Coloured()[2].image
    assert [len(classifier(image, top=top)) for top in (None, 1, 2, None, 1)] == [3, 1, 2, 3, 1]
    assert classifier(image, top=1).names == ("blue",)


def test_a_detector_is_compiled_once_whatever_is_asked_of_it(monkeypatch):
    made = []
    monkeypatch.setattr(predictor, "Sweep", lambda *parts: made.append(parts) or Sweep(*parts))
    detector = Predictor(Detector(WholeImage(), Resize(32, 64), BestClass()), {}, COLOURS)
    for asked in ({}, {"top": 1}, {"top": 5, "nms": 0.5}, {"threshold": 0.9}):
        detector(blank(40, 40), **asked)
    assert len(made) == 1


def test_predictions_and_scores_are_computed_at_the_precision_that_is_given(monkeypatch):
    made = []
    monkeypatch.setattr(predictor, "Sweep", lambda *parts: made.append(parts[2]) or Sweep(*parts))
    task = ImageClassifier(Shade(), CenterCrop(8, 8), TopClasses(3))
    for precision in ("highest", None):
        classifier = Predictor(task, {}, COLOURS, precision=precision)
        classifier(blank(8, 8))
        classifier.evaluate(Coloured(), batch_size=4)
    assert made == ["highest"] * 2 + [None] * 2


def test_what_the_model_does_not_know_is_refused(classifier):
    with pytest.raises(FieldError, match="--threshold and --nms are for detectors"):
        classifier(blank(8, 8), nms=0.5)


def test_a_file_that_breaks_off_is_named(classifier, tmp_path):
    from PIL import Image

    path = tmp_path / "cut.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(DataError, match=r"cut\.png cannot be read as an image"):
        classifier([blank(8, 8), path])


def test_the_scores_of_a_source_count_its_broken_images(classifier):
    evaluation = classifier.evaluate(Coloured(), batch_size=4)
    assert evaluation.scores.summary["top1"] == pytest.approx(5 / 7)
    assert evaluation.unreadable == ("0.png", "4.png")


@pytest.mark.parametrize(("size", "multiple"), [(None, 32), (511, 32), (512, 128), (800, 128)])
def test_large_images_are_padded_to_coarse_sides(size, multiple):
    task = Detector(WholeImage(), Resize(size, None if size is None else 1333), BestClass())
    assert Predictor(task, {}, COLOURS).subject.multiple == multiple


def test_the_threshold_is_that_of_the_post_processing_where_it_has_one(classifier):
    task = Detector(WholeImage(), Resize(32, 64), BestClass(threshold=0.125))
    assert Predictor(task, {}, COLOURS).threshold == 0.125 and classifier.threshold == 0


def test_a_batch_of_an_array_is_a_list_of_results_that_know_their_images(detector):
    batch = np.random.default_rng(0).uniform(0, 1, (3, 40, 40, 3))
    found = detector(batch, batch_size=2)
    assert [one.boxes.round().tolist() for one in found] == [[[0, 0, 40, 40]]] * 3
    seen = [one.view.source[one.view.record].image for one in found]
    np.testing.assert_array_equal(seen, np.rint(255 * batch))
    assert found.to_dict()["images"][2]["image"] == "image 2" and detector(jnp.asarray(batch[0])).draw().size == (
        320,
        320,
    )
    with pytest.raises(FieldError, match="batch_size is at least 1, got 0"):
        detector(batch, batch_size=0)


@pytest.mark.parametrize("device", ["cpu", "cpu:1", "CPU:0"])
def test_a_device_can_be_named(device):
    found = Predictor(Detector(WholeImage(), Resize(32, 64), BestClass()), {}, COLOURS, device=device)
    assert found._mesh.size == (2 if device == "cpu" else 1)
    assert {each.id for each in found._mesh.devices.flat} == {"cpu": {0, 1}, "cpu:1": {1}, "CPU:0": {0}}[device]
    assert found(blank(40, 40)).boxes.round().tolist() == [[0, 0, 40, 40]]


@pytest.mark.parametrize("device", ["cpu:2", "cpu:", "cpu:x", "abacus", "cpu:-3"])
def test_a_device_that_there_is_not_is_told_with_those_that_there_are(device):
    with pytest.raises(FieldError, match=rf"there is no device '{device}'; by default there are cpu:0, cpu:1, and cpu"):
        Predictor(Detector(WholeImage(), Resize(32, 64), BestClass()), {}, COLOURS, device=device)


def test_tiles_are_not_for_classifiers(classifier):
    with pytest.raises(FieldError, match="--tiles is for detectors and segmentation models"):
        classifier(blank(8, 8), tiles=True)
