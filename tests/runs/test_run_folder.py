import pytest

from vitjax.data.errors import DataError
from vitjax.data.source import Classes
from vitjax.detection.deformable_detr import DeformableDETR
from vitjax.detection.focal_loss import FocalSetLoss
from vitjax.detection.postprocess import TopDetections
from vitjax.runs.run_folder import read_run, require_same_model, write_run
from vitjax.tasks.detection import Detection

DEFORMABLE = Detection(model=DeformableDETR(refine=True), loss=FocalSetLoss(), postprocess=TopDetections(k=7))


def test_an_experiment_comes_back_from_its_run_folder(tmp_path):
    classes = Classes(("cat", "dog"), (3, 5))
    write_run(tmp_path, DEFORMABLE, classes)
    assert read_run(tmp_path) == (DEFORMABLE, classes)


def test_a_folder_with_a_run_of_another_model_is_refused(tmp_path):
    require_same_model(tmp_path, Detection())
    write_run(tmp_path, DEFORMABLE, Classes(("cat",), (1,)))
    require_same_model(tmp_path, DEFORMABLE)
    with pytest.raises(DataError, match="a run of a DeformableDETR and this one is a DETR"):
        require_same_model(tmp_path, Detection())


def test_a_loss_that_reads_the_logits_another_way_than_the_model_means_them_is_refused():
    with pytest.raises(ValueError, match="DeformableDETR gives sigmoid scores and SetLoss takes softmax scores"):
        Detection(model=DeformableDETR())
