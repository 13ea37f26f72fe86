"""Which experiment trains a model, and what is fixed for each task."""

from typing import ClassVar

import pytest
from flax import linen as nn

from vitjax.classification.classifier import Classifier
from vitjax.classification.recurrent_attention import RecurrentAttention
from vitjax.detection.deformable_detr import DeformableDETR
from vitjax.detection.detr import DETR
from vitjax.detection.dino import DINO
from vitjax.errors import FieldError
from vitjax.inference.task import Asked
from vitjax.runs.experiment import Experiment, require_score
from vitjax.segmentation.detr_masks import MaskDETR
from vitjax.segmentation.segmenter import Segmenter
from vitjax.tasks import TASKS, experiment_of
from vitjax.tasks.classification import Classification
from vitjax.tasks.detection import Detection
from vitjax.tasks.masks import MaskDetection
from vitjax.tasks.segmentation import Segmentation


class Unsaid(nn.Module):
    """A model of a user's own that does not say what it is for."""


class Said(nn.Module):
    """One that says it."""

    task: ClassVar[str] = "segmentation"


MODELS = {
    Detection: (DETR(), DeformableDETR(), DINO(), Unsaid()),
    Classification: (Classifier(), RecurrentAttention()),
    Segmentation: (Segmenter(), Said()),
    MaskDetection: (MaskDETR(DETR()), MaskDETR(DeformableDETR())),
}
HEADLINES = {
    Detection: ("AP", "AP50", "AP75", "AR100"),
    Classification: ("top1", "top5"),
    Segmentation: ("mIoU", "accuracy"),
    MaskDetection: ("segm_AP", "segm_AP50", "AP", "PQ"),
}
ANSWERS = {  # what can be asked of each, and what is refused by name
    Detection: ("top", "nms", "threshold"),
    Classification: ("top",),
    Segmentation: (),
    MaskDetection: ("top", "nms", "threshold"),
}
ASKED = {"threshold": 0.5, "top": 3, "nms": 0.7}


def task_of(kind):
    experiment = kind()
    return experiment.predicts(nn.Module(), experiment.resize, experiment.postprocess)


@pytest.mark.parametrize("kind", MODELS)
def test_a_model_is_trained_by_the_experiment_of_its_task_and_one_that_does_not_say_is_a_detector(kind):
    assert [experiment_of(model) for model in MODELS[kind]] == [kind] * len(MODELS[kind])


@pytest.mark.parametrize("name", TASKS)
def test_every_task_has_an_experiment_of_its_name_whose_parts_are_for_it(name):
    (kind,) = (kind for kind in MODELS if kind.kind == name)
    assert issubclass(kind, Experiment) and experiment_of(kind().model) is kind
    loss = getattr(kind(), "mask_loss", kind().loss)  # a detector with masks has that of a detector, too
    assert kind().model.task == loss.task == kind().postprocess.task == name


@pytest.mark.parametrize("kind", HEADLINES)
def test_the_best_checkpoint_is_chosen_by_the_first_score_that_is_told(kind):
    about = task_of(kind).about
    assert about.headline == HEADLINES[kind] and kind().score == HEADLINES[kind][0]
    for score in about.headline:
        require_score(score, about.scores)
        assert kind(best=score).score == score


def test_files_hold_a_hundred_boxes_of_an_image_and_all_classes():
    tops = {kind: task_of(kind).about.top for kind in MODELS}
    assert tops == {Detection: 100, Classification: None, Segmentation: None, MaskDetection: 100}


def test_pictures_are_drawn_of_boxes_and_labels_and_videos_are_not_for_labels():
    abouts = {kind: task_of(kind).about for kind in MODELS}
    assert {kind: about.draws for kind, about in abouts.items()} == {
        Detection: True,
        Classification: False,
        Segmentation: True,
        MaskDetection: True,
    }
    assert {kind: about.folders for kind, about in abouts.items()} == {
        Detection: (),
        Classification: (),
        Segmentation: ("labels",),
        MaskDetection: ("panoptic",),
    }
    assert [kind for kind, about in abouts.items() if about.no_videos] == [Segmentation]


def test_a_page_shows_images_from_all_over_the_source_only_where_classes_come_one_after_the_other():
    spread = {kind: task_of(kind).about.page.spread for kind in MODELS}
    assert spread == {Detection: False, Classification: True, Segmentation: False, MaskDetection: False}


@pytest.mark.parametrize("name", ASKED)
@pytest.mark.parametrize("kind", ANSWERS)
def test_what_is_not_for_a_task_is_refused_by_name(kind, name):
    task, asked = task_of(kind), Asked(**{name: ASKED[name]})
    if name in ANSWERS[kind]:
        task.allow(asked)
    else:
        with pytest.raises(FieldError, match=f"--{name} "):
            task.allow(asked)


@pytest.mark.parametrize("kind", ANSWERS)
def test_to_ask_for_nothing_is_allowed(kind):
    task_of(kind).allow(Asked())


@pytest.mark.parametrize("values", [{"nms": -0.1}, {"nms": 1.1}, {"top": 0}, {"top": -3}])
def test_what_is_no_overlap_and_no_number_of_things_cannot_be_asked(values):
    ((name, value),) = values.items()
    with pytest.raises(FieldError, match=rf"{name}.*got {value}"):
        Asked(**values)


def test_the_ends_of_the_range_of_an_overlap_can_be_asked():
    assert Asked(nms=0.0).given() == ["nms"] and Asked(nms=1.0, top=1).given() == ["top", "nms"]
