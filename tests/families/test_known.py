"""Families are found by the names that models have for them, each without the others."""

import subprocess
import sys

import flax.linen as nn
import numpy as np
import pytest

from vitjax.backbones.crossformer import CrossFormer
from vitjax.backbones.efficientnet_lite import EfficientNetLite
from vitjax.backbones.resnet import ResNet
from vitjax.backbones.spatially_transformed import SpatiallyTransformed
from vitjax.classification.classifier import Classifier
from vitjax.classification.loss import CrossEntropy
from vitjax.classification.policy_loss import PolicyLoss
from vitjax.classification.recurrent_attention import RecurrentAttention
from vitjax.data.errors import DataError
from vitjax.data.image_folder import ImageFolder
from vitjax.data.label_names import numbered
from vitjax.data.transforms import Resize
from vitjax.detection.conditional_detr import ConditionalDETR
from vitjax.detection.dab_detr import DABDETR
from vitjax.detection.deformable_detr import DeformableDETR
from vitjax.detection.detr import DETR
from vitjax.detection.dino import DINO
from vitjax.detection.postprocess import BestClass
from vitjax.export.convert import convert, default_experiment, write_run_folder
from vitjax.families.huggingface.folder import write_folder
from vitjax.families.known import NAMES, detector_inside, every_family, family_named, family_of
from vitjax.families.model_file import ModelFile
from vitjax.formats.tables import PublishedError
from vitjax.runs.read_model import read_model, write_official
from vitjax.segmentation.detr_masks import MaskDETR
from vitjax.segmentation.segmenter import Segmenter
from vitjax.tasks.detection import Detection

MODELS = {
    "detr": DETR(),
    "mask_detr": MaskDETR(),
    "mask_deformable_detr": MaskDETR(DeformableDETR()),
    "mask_conditional_detr": MaskDETR(ConditionalDETR()),
    "mask_dab_detr": MaskDETR(DABDETR()),
    "mask_dino": MaskDETR(DINO()),
    "deformable_detr": DeformableDETR(),
    "dino": DINO(),
    "conditional_detr": ConditionalDETR(),
    "dab_detr": DABDETR(),
    "resnet": Classifier(ResNet()),
    "crossformer": Classifier(CrossFormer()),
    "efficientnet_lite": Classifier(EfficientNetLite()),
    "classifier": Classifier(SpatiallyTransformed(ResNet())),
    "recurrent_attention": RecurrentAttention(),
    "segmenter": Segmenter(),
}


class Mine(nn.Module):
    """A detector that only its maker knows."""

    num_classes: int | None = None


MINE = ModelFile(Mine(2), {"params": {"mine": np.ones(3, np.float32)}}, numbered(2), Resize(), BestClass())


@pytest.mark.parametrize("name", NAMES)
def test_every_family_is_found_by_its_models(name):
    family = family_of(MODELS[name])
    assert family is family_named(name) and isinstance(MODELS[name], family.model)


@pytest.mark.parametrize("name", NAMES)
def test_the_parts_of_a_family_go_together(name):
    family = family_named(name)
    file = ModelFile(MODELS[name], {}, family.classes(2), family.resize(), family.postprocess())
    experiment = default_experiment(file)
    assert (experiment.model, experiment.loss) == (MODELS[name], family.loss())
    assert isinstance(experiment.data, ImageFolder) == (MODELS[name].task == "classification")


def test_tables_of_families_have_names_of_their_own():
    names = [table.name for family in every_family() if family.official for table in family.official.tables]
    assert len(names) == len(set(names)) > 0


def test_a_classifier_that_is_trained_by_reward_keeps_its_loss():
    assert (family_named("classifier").loss, family_named("recurrent_attention").loss) == (CrossEntropy, PolicyLoss)


def test_a_family_that_there_is_not_is_named():
    with pytest.raises(ValueError, match=r"there is no family 'detrr'; there are detr, mask_detr, .*segmenter"):
        family_named("detrr")


def test_a_model_of_ones_own_is_of_no_family_and_stays_as_it_is():
    assert family_of(MINE.model) is None and MINE.without_masks() is MINE
    assert detector_inside(MINE.model, MINE.variables) == (MINE.model, MINE.variables)


def test_a_model_of_ones_own_has_no_files_elsewhere(tmp_path):
    with pytest.raises(PublishedError, match="there is no official layout for a Mine"):
        write_official(MINE, tmp_path / "mine.pth")
    with pytest.raises(DataError, match=r"only DETR and .* can be written for transformers; got Mine"):
        write_folder(tmp_path / "folder", MINE)
    with pytest.raises(DataError, match="Mine is of no known family, so what it is trained with is not known"):
        write_run_folder(MINE, tmp_path / "run")
    assert not [*tmp_path.iterdir()]


def test_a_classifier_on_a_backbone_that_nobody_published_has_no_official_layout(tmp_path):
    file = ModelFile(MODELS["classifier"], {}, numbered(2), Resize(), BestClass())
    with pytest.raises(PublishedError, match="there is no official layout for a Classifier"):
        write_official(file, tmp_path / "mine.pth")


def test_a_run_of_a_family_without_files_goes_from_folder_to_folder(tmp_path):
    family, model = family_named("recurrent_attention"), RecurrentAttention(num_classes=2)
    file = ModelFile(model, MINE.variables, numbered(2), family.resize(), family.postprocess())
    write_run_folder(file, tmp_path / "first")
    convert(str(tmp_path / "first"), tmp_path / "second")
    again = read_model(tmp_path / "second")
    assert again.model == model
    np.testing.assert_array_equal(again.variables["params"]["mine"], MINE.variables["params"]["mine"])


def test_asking_for_one_family_imports_no_other_and_nothing_of_hugging_face():
    program = (
        "import sys; from vitjax.detection.detr import DETR; from vitjax.families.known import family_of; "
        "print(family_of(DETR()).loss.__name__, *sys.modules)"
    )
    loss, *modules = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stdout.split()
    families = {name.removeprefix("vitjax.families.") for name in modules if name.startswith("vitjax.families.")}
    assert loss == "SetLoss" and families == {"family", "known", "parts", "detr"}
    assert not any(name.startswith(("vitjax.segmentation", "vitjax.classification")) for name in modules)


def test_the_default_experiment_is_that_of_its_family():
    family = family_of(Detection().model)
    assert (type(Detection().loss), type(Detection().postprocess)) == (family.loss, family.postprocess)
