"""Names of earlier versions, read as those of today."""

import pytest

from vitjax.classification.erasing import Erasing
from vitjax.classification.mixing import Mixing
from vitjax.data.coco_masks import CocoMasks
from vitjax.runs.experiment import Experiment
from vitjax.runs.moved import renamed
from vitjax.runs.serialize import from_json, to_json
from vitjax.segmentation.detr_masks import MaskDETR
from vitjax.tasks.classification import Classification
from vitjax.tasks.detection import Detection
from vitjax.tasks.masks import MaskDetection
from vitjax.tasks.segmentation import Segmentation

# What every experiment had, and only classifiers have today.
OF_CLASSIFIERS = {"erasing": Erasing(probability=0.25), "mixing": Mixing(probability=0.5)}


@pytest.mark.parametrize("kind", [Detection, Classification, Segmentation], ids=lambda kind: kind.kind)
def test_the_experiment_of_all_tasks_is_that_of_the_task_of_its_post_processing(kind):
    content = to_json(kind(seed=3)) | {name: to_json(part) for name, part in OF_CLASSIFIERS.items()}
    content["class"] = "vitjax.training.experiment.Experiment"
    wanted = kind(seed=3, **(OF_CLASSIFIERS if kind is Classification else {}))
    assert from_json(content, Experiment) == wanted


def test_the_post_processing_of_a_user_is_taken_for_a_detectors():
    fields = {"postprocess": {"class": "vitjax_config_mine.Best"}, "erasing": None, "seed": 1}
    name, kept = renamed("vitjax.training.experiment.Experiment", fields)
    assert name == "vitjax.tasks.detection.Detection" and kept.keys() == {"postprocess", "seed"}


@pytest.mark.parametrize("name", ["vitjax.tasks.detection.Detection", "vitjax.training.experiment.Experiment"])
def test_a_detector_with_masks_that_was_a_detector_has_a_task_of_its_own(name):
    content = to_json(Detection(seed=3)) | {"model": to_json(MaskDETR()), "class": name}
    found = from_json(content, Experiment)
    assert type(found) is MaskDetection and found.model == MaskDETR() and found.seed == 3
    assert (type(found.data), found.postprocess) == (CocoMasks, Detection().postprocess)


def test_what_has_not_moved_is_as_it_was():
    fields = {"erasing": 1}
    for name in ("vitjax.detection.detr.DETR", "vitjax_config_mine.Model", "Model"):
        assert renamed(name, fields) == (name, fields)
    assert renamed("vitjax.training.optimizer.AdamW", fields) == ("vitjax.runs.optimizer.AdamW", fields)
