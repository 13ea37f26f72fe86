"""Folders in Hugging Face's layout: the same bits after writing and reading, and what is wrong with one named."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from quick import drawn
from safetensors.numpy import load_file, save_file

from vitjax.backbones.crossformer import CrossFormer
from vitjax.backbones.resnet import ResNet
from vitjax.classification.classifier import Classifier
from vitjax.classification.postprocess import TopClasses
from vitjax.data.errors import DataError
from vitjax.data.source import Classes
from vitjax.data.transforms import Resize
from vitjax.detection.deformable_detr import DeformableDETR
from vitjax.detection.detr import DETR
from vitjax.detection.postprocess import BestClass, TopDetections
from vitjax.families.huggingface.folder import is_folder, read_folder, write_folder
from vitjax.families.model_file import ModelFile
from vitjax.formats.pth import write_pth
from vitjax.formats.tables import PublishedError
from vitjax.structs import Images

CLASSES = Classes(("", "cat", "dog"), (0, 1, 2))
SIZES = {"num_classes": 3, "num_queries": 5, "channels": 32, "heads": 2, "feed_forward": 8}
SIZES |= {"encoder_layers": 1, "decoder_layers": 2, "backbone": ResNet(width=4, stage_blocks=(1, 1))}
LEVELS = {"levels": 3, "backbone_levels": 2}


def file_of(model, *, classes: Classes = CLASSES, resize: Resize | None = None) -> ModelFile:
    images = Images(jnp.zeros((1, 64, 64, 3)), jnp.ones((1, 64, 64), bool))
    variables = drawn(jax.eval_shape(lambda: model.init(jax.random.key(0), images, train=False)))
    postprocess = {DETR: BestClass, DeformableDETR: TopDetections, Classifier: TopClasses}[type(model)]()
    return ModelFile(model, variables, classes, resize or Resize(), postprocess)


@pytest.fixture(scope="module")
def detr() -> ModelFile:
    return file_of(DETR(**SIZES))


@pytest.fixture
def folder(detr, tmp_path):
    write_folder(tmp_path / "folder", detr)
    return tmp_path / "folder"


def change(folder, **settings) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | settings))


def same(one: dict, other: dict) -> bool:
    equal = jax.tree.map(lambda a, b: a.dtype == b.dtype and a.tobytes() == b.tobytes(), one, other)
    return jax.tree.all(equal)


@pytest.mark.parametrize(
    "model",
    [
        pytest.param(DETR(**SIZES), id="detr"),
        pytest.param(DETR(**SIZES, position="learned"), id="learned"),
        pytest.param(DETR(**SIZES | {"backbone": ResNet(depth=18, width=4)}), id="resnet18"),
        pytest.param(DeformableDETR(**SIZES, **LEVELS), id="multi_scale"),
        pytest.param(DeformableDETR(**SIZES, levels=1, backbone_levels=1), id="single_scale"),
        pytest.param(DeformableDETR(**SIZES, **LEVELS, refine=True), id="refine"),
        pytest.param(DeformableDETR(**SIZES, **LEVELS, refine=True, two_stage=True), id="two_stage"),
    ],
)
def test_a_model_is_the_same_bits_after_a_folder(model, tmp_path):
    file = file_of(model, resize=Resize(480, 640))
    write_folder(tmp_path / "a" / "folder", file)
    assert is_folder(tmp_path / "a" / "folder")
    back = read_folder(tmp_path / "a" / "folder")
    assert same(back.variables, file.variables)
    assert dataclasses.replace(back, variables={}) == dataclasses.replace(file, variables={})


def test_shared_heads_are_written_under_every_name(tmp_path):
    plain, refine = (DeformableDETR(**SIZES, **LEVELS, refine=refine) for refine in (False, True))
    write_folder(tmp_path / "plain", file_of(plain))
    write_folder(tmp_path / "refine", file_of(refine))
    tensors = load_file(tmp_path / "plain" / "model.safetensors")
    np.testing.assert_array_equal(tensors["class_embed.0.bias"], tensors["class_embed.1.bias"])
    tensors = load_file(tmp_path / "refine" / "model.safetensors")
    name = "bbox_embed.1.layers.2.bias"
    np.testing.assert_array_equal(tensors[name], tensors[f"model.decoder.{name}"])
    assert "model.decoder.class_embed.0.bias" not in tensors
    assert json.loads((tmp_path / "refine" / "config.json").read_text())["tie_word_embeddings"] is False


def test_heads_that_the_library_left_out_as_copies_are_filled_in(tmp_path):
    file = file_of(DeformableDETR(**SIZES, **LEVELS, refine=True))
    write_folder(tmp_path / "folder", file)
    weights = tmp_path / "folder" / "model.safetensors"
    tensors = {name: x for name, x in load_file(weights).items() if not name.startswith(("class_embed.1", "bbox_em"))}
    save_file(tensors, weights)
    with pytest.raises(PublishedError, match=r"nothing fills \(2\): params/class_head_1/"):
        read_folder(tmp_path / "folder")
    change(tmp_path / "folder", tie_word_embeddings=True)
    found, given = (each.variables["params"] for each in (read_folder(tmp_path / "folder"), file))
    np.testing.assert_array_equal(found["class_head_1"]["kernel"], given["class_head_0"]["kernel"])
    np.testing.assert_array_equal(found["box_head_1"]["layer_0"]["bias"], given["box_head_1"]["layer_0"]["bias"])


def test_a_mask_head_is_left_behind(detr, folder):
    tensors = {f"detr.{name}": x for name, x in load_file(folder / "model.safetensors").items()}
    tensors |= {
        "mask_head.lay1.weight": np.zeros(3, np.float32),
        "bbox_attention.q_linear.bias": np.zeros(3, np.float32),
    }
    save_file(tensors, folder / "model.safetensors")
    file = read_folder(folder)
    assert same(file.variables, detr.variables)
    assert file.notes == ("note: 2 tensors of the mask head are left behind; what is taken is the detector",)


@pytest.mark.parametrize("layout", ["parts", "torch", "half"])
def test_weights_are_read_from_other_layouts_too(layout, detr, folder):
    weights = folder / "model.safetensors"
    tensors = load_file(weights)
    if layout == "half":
        save_file({name: x.astype(np.float16) for name, x in tensors.items()}, weights)
        params = read_folder(folder).variables["params"]
        assert all(leaf.dtype == np.float32 for leaf in jax.tree.leaves(params))
        return
    weights.unlink()
    if layout == "torch":
        write_pth(folder / "w.pth", tensors)
        (folder / "w.pth").rename(folder / "pytorch_model.bin")
    else:
        places = {name: f"part-{n % 2}.safetensors" for n, name in enumerate(tensors)}
        for part in set(places.values()):
            save_file({name: x for name, x in tensors.items() if places[name] == part}, folder / part)
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    assert is_folder(folder) and same(read_folder(folder).variables, detr.variables)


def test_a_list_of_parts_leads_nowhere_else(folder):
    (folder / "model.safetensors").unlink()
    index = folder / "model.safetensors.index.json"
    for weight_map in ({"a": "../secret.safetensors"}, {}, ["a"], "a", None):
        index.write_text(json.dumps({"weight_map": weight_map}))
        with pytest.raises(DataError, match="should have a weight_map to files beside it"):
            read_folder(folder)


def test_a_tensor_too_many_is_named(folder):
    tensors = load_file(folder / "model.safetensors") | {"model.other.weight": np.zeros(3, np.float32)}
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(PublishedError, match=r"without a place here \(1\): model.other.weight \(3,\)"):
        read_folder(folder)


def test_settings_that_are_no_json_are_named(folder):
    (folder / "config.json").write_text("{")
    with pytest.raises(DataError, match=r"config\.json cannot be read as JSON"):
        read_folder(folder)
    (folder / "config.json").write_text("[]")
    with pytest.raises(DataError, match="should hold settings by name; it holds a list"):
        read_folder(folder)


def test_a_folder_needs_settings_and_weights(folder, tmp_path):
    assert is_folder(folder) and not is_folder(tmp_path) and not is_folder(folder / "config.json")
    (folder / "model.safetensors").unlink()
    assert not is_folder(folder)
    with pytest.raises(DataError, match=r"none of model\.safetensors and pytorch_model\.bin"):
        read_folder(folder)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (DETR(**SIZES, pre_norm=True), "pre_norm=True"),
        (DETR(**SIZES | {"backbone": ResNet(norm="group")}), "norm='group'"),
        (DETR(**SIZES | {"backbone": CrossFormer()}), "CrossFormer for its backbone"),
        (DeformableDETR(**SIZES | {"channels": 24}, **LEVELS), "channels=24"),
        (DETR(**SIZES | {"backbone": ResNet(width=8, dilation=True)}), "dilation=True"),
        (Classifier(ResNet(18), num_classes=3), "only DETR and DeformableDETR"),
    ],
)
def test_a_model_that_the_library_does_not_have_is_refused(model, message, tmp_path):
    file = ModelFile(model, {}, CLASSES, Resize(), BestClass())
    with pytest.raises(DataError, match=message):
        write_folder(tmp_path / "folder", file)
    assert not [*tmp_path.iterdir()]


def test_what_is_there_stays(detr, tmp_path):
    (tmp_path / "note.txt").write_text("mine")
    with pytest.raises(DataError, match="is there already"):
        write_folder(tmp_path, detr)
    assert [path.name for path in tmp_path.iterdir()] == ["note.txt"]


def test_a_folder_that_cannot_be_finished_leaves_nothing(detr, tmp_path, monkeypatch):
    def full(path, tensors):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("vitjax.families.huggingface.folder.write_tensors", full)
    with pytest.raises(DataError, match=r"cannot be written: .*No space left"):
        write_folder(tmp_path / "folder", detr)
    assert not [*tmp_path.iterdir()]
