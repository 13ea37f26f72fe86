"""DETR with masks in the transformers library: stored numbers, and live where it is installed; there and back."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from vitjax.data.label_names import COCO_PANOPTIC
from vitjax.data.source import Classes
from vitjax.detection.detr import DETR
from vitjax.export.convert import convert
from vitjax.families import mask_detr_huggingface
from vitjax.families.huggingface.config import classes_in, config_of, model_in
from vitjax.families.huggingface.folder import read_folder, write_folder
from vitjax.families.model_file import shapes_of
from vitjax.formats.tables import PublishedError, to_published
from vitjax.segmentation.detr_masks import MaskDETR
from vitjax.structs import Images

from .rule import MASKS, images, weight
from .test_numbers import FOLDER, assert_same

NUMBERS = dict(np.load(FOLDER / "detr_masks.npz"))
ABOUT = json.loads(NUMBERS.pop("about").tobytes())
IN_MEMORY = {  # of the head, as newer versions of the library have it
    "bbox_attention.q_proj.weight": "bbox_attention.q_linear.weight",
    "mask_head.conv1.conv.weight": "mask_head.lay1.weight",
    "mask_head.conv2.norm.bias": "mask_head.gn2.bias",
    "mask_head.fpn_stages.0.fpn_adapter.bias": "mask_head.adapter1.bias",
    "mask_head.fpn_stages.2.refine.conv.weight": "mask_head.lay5.weight",
    "mask_head.fpn_stages.1.refine.norm.weight": "mask_head.gn4.weight",
    "mask_head.output_conv.bias": "mask_head.out_lay.bias",
    "detr.model.backbone.model.conv1.weight": "detr.model.backbone.conv_encoder.model.conv1.weight",
    "detr.model.encoder.layers.3.self_attn.o_proj.bias": "detr.model.encoder.layers.3.self_attn.out_proj.bias",
}


def folder_at(path, config=None, **changed):
    """A folder as the library writes it."""
    path.mkdir()
    (path / "config.json").write_text(json.dumps(ABOUT["config"] if config is None else config))
    tensors = {name: weight(name, tuple(shape)) for name, shape in ABOUT["shapes"].items()}
    save_file({name: x for name, x in {**tensors, **changed}.items() if x is not None}, path / "model.safetensors")
    return path


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return read_folder(folder_at(tmp_path_factory.mktemp("masks") / "folder"))


@pytest.fixture(scope="module")
def numbers(file):
    """What the model gives here, padding leaking as in the library."""
    model = file.model.clone(detr=file.model.detr.clone(padding="reference"))
    given = Images(*(jnp.asarray(x) for x in images()))
    found = jax.jit(lambda variables: model.apply(variables, given, train=False))(file.variables)
    return {"logits": found.predictions.logits[-1], "boxes": found.predictions.boxes[-1], "masks": found.masks}


def test_boxes_and_masks_are_those_of_the_library(file, numbers):
    assert isinstance(file.model, MaskDETR) and file.notes == ()
    assert NUMBERS["masks"].shape == (2, 3, 12, 16) and np.abs(NUMBERS["masks"]).max() > 0.1
    assert_same(numbers, NUMBERS, ("logits", "boxes", "masks"))


def test_what_the_library_writes_goes_back_to_the_bit_also_by_the_command(file, tmp_path):
    folder_at(tmp_path / "theirs")
    told = convert(str(tmp_path / "theirs"), tmp_path / "again", to="huggingface")
    assert told.notes == ()
    tensors = load_file(tmp_path / "again" / "model.safetensors")
    assert tensors.keys() == ABOUT["shapes"].keys()
    assert all(x.tobytes() == weight(name, x.shape).tobytes() for name, x in tensors.items())
    config = json.loads((tmp_path / "again" / "config.json").read_text())
    assert config["architectures"] == ["DetrForSegmentation"]
    assert model_in(config)[0] == file.model


@pytest.mark.parametrize(
    ("architectures", "made"), [(["DetrForSegmentation"], True), (None, True), (["DetrForObjectDetection"], False)]
)
def test_masks_are_made_where_config_says_so_or_says_nothing(architectures, made, tmp_path):
    config = {**ABOUT["config"], "architectures": architectures}
    file = read_folder(folder_at(tmp_path / "folder", config))
    assert isinstance(file.model, MaskDETR if made else DETR)
    left = "tensors of the mask head are left behind; what is taken is the detector"
    assert made or (len(file.notes) == 1 and left in file.notes[0])


def test_every_tensor_that_is_missing_or_unknown_is_named(tmp_path):
    strange = {"mask_head.lay3.weight": None, "mask_head.lay9.scale": np.zeros(3, np.float32)}
    with pytest.raises(PublishedError, match=r"(?s)mask_head\.lay9\.scale.*conv_3/kernel|conv_3/kernel.*lay9\.scale"):
        read_folder(folder_at(tmp_path / "folder", **strange))


def test_every_parameter_of_the_published_model_has_a_name():
    model = MaskDETR(DETR(num_classes=250, encoder_layers=1, decoder_layers=1))
    zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.int8), shapes_of(model))
    for backbone in ("transformers", "timm"):
        names = to_published(zeros, table=mask_detr_huggingface.names(backbone))
        head = [name for name in names if not name.startswith("detr.model.")]
        assert len(head) == 4 + 5 * 4 + 3 * 2 + 2 + 2 + 6
        assert names["bbox_attention.k_linear.weight"].shape == (256, 256) and "mask_head.lay5.bias" in names
        assert sum(names[name].size for name in names if name.startswith(("mask_head.", "bbox_a"))) == 1_333_657


def test_names_in_memory_are_those_in_files_by_another_spelling():
    table = mask_detr_huggingface.names("timm")
    assert {name: table.primary(name) for name in IN_MEMORY} == IN_MEMORY
    assert all(table.of_published(name) for name in IN_MEMORY)


def test_what_is_stuff_goes_there_and_comes_back(file):
    config, _ = config_of(MaskDETR(DETR(num_classes=250)), mask_detr_huggingface.FORM, COCO_PANOPTIC)
    assert classes_in(config) == COCO_PANOPTIC and classes_in(config).stuff == COCO_PANOPTIC.stuff
    assert file.classes == Classes(("cat", "dog", "emu"), (0, 1, 2)) and file.classes.stuff == ()


def test_the_library_as_installed_gives_these_numbers_and_reads_what_is_written(file, numbers, tmp_path):
    transformers = pytest.importorskip("transformers")
    make = pytest.importorskip("families.huggingface.make_numbers")
    (tmp_path / "theirs").mkdir()
    model, _ = make.drawn("Detr", MASKS, tmp_path / "theirs", "ForSegmentation")
    assert_same(numbers, make.masks_of(model), ("logits", "boxes", "masks"))
    write_folder(tmp_path / "ours", file)
    loaded, notes = transformers.DetrForSegmentation.from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not any(notes.values()), notes
    assert_same(numbers, make.masks_of(loaded.eval()), ("logits", "boxes", "masks"))
