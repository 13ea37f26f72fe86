"""Architectures told by names and shapes alone, and official layouts written and read again to the last bit."""

import dataclasses
import json

import numpy as np
import pytest
from published import DEFORMABLE, MODELS, SIZES, THIN, file_of, tensors_of

from vitjax.backbones.crossformer import CrossFormer
from vitjax.backbones.resnet import ResNet
from vitjax.checkpoints.paths import flatten
from vitjax.classification.classifier import Classifier
from vitjax.commands.main import main
from vitjax.data.errors import DataError
from vitjax.data.label_names import COCO, coco_classes, imagenet, is_thing, numbered
from vitjax.detection.deformable_detr import DeformableDETR
from vitjax.detection.detr import DETR
from vitjax.export.convert import convert, write_run_folder
from vitjax.families.identify import detector_tensors, identify
from vitjax.families.parts import resnet_of
from vitjax.formats.pth import read_pth
from vitjax.formats.tables import PublishedError, TensorFile
from vitjax.formats.tensor_files import read_tensors
from vitjax.runs.initial import read_weights
from vitjax.runs.read_model import read_model, write_official


def assert_same(found, wanted):
    assert flatten(found).keys() == flatten(wanted).keys()
    for path, array in flatten(wanted).items():
        np.testing.assert_array_equal(flatten(found)[path], array, err_msg=path)


@pytest.mark.parametrize("name", MODELS)
def test_a_model_is_told_by_its_tensors_and_comes_back_to_the_last_bit(name, tmp_path):
    file = file_of(MODELS[name])
    path = tmp_path / ("model.safetensors" if "deformable" in name else "model.pth")
    write_official(file, path)
    again = read_model(path)
    assert again.model == file.model
    assert_same(again.variables, file.variables)
    second = tmp_path / f"second{path.suffix}"
    write_official(again, second)
    assert second.read_bytes() == path.read_bytes()


def test_heads_stand_in_official_files_under_all_their_names():
    def names(name):
        return {
            tensor for tensor in tensors_of(file_of(MODELS[name])) if "embed." in tensor and tensor.endswith("bias")
        }

    assert {"class_embed.0.bias", "class_embed.1.bias"} <= names("deformable")
    assert not any("decoder" in tensor for tensor in names("deformable"))
    refining = names("deformable, refining")
    assert "transformer.decoder.bbox_embed.1.layers.2.bias" in refining
    assert "transformer.decoder.class_embed.1.bias" not in refining
    assert "transformer.decoder.class_embed.2.bias" in names("deformable, two-stage")


def test_what_tensors_do_not_show_comes_from_settings_or_the_name_of_the_file():
    state = tensors_of(file_of(MODELS["detr"]))
    by_name = identify(TensorFile(state, {}, "detr-r50-dc5-f0fb7ef5.pth"))
    assert by_name.model.backbone.dilation and "by the file's name it is with" in by_name.notes[0]
    told = identify(TensorFile(state, {"dilation": False, "nheads": 4}, "dc5.pth"))
    assert not told.model.backbone.dilation and told.model.heads == 4 and not told.notes


def test_a_model_with_masks_starts_a_detector_from_the_one_inside_and_becomes_one(tmp_path):
    file = file_of(MODELS["detr with masks"])
    detector = file.variables["params"]["detr"]
    write_official(file, tmp_path / "masks.pth")
    write_run_folder(file, tmp_path / "run")
    for source in ("masks.pth", "run"):
        assert_same(read_weights(tmp_path / source).variables["params"], detector)
    inside = file.without_masks()
    assert inside.model == file.model.detr and len(inside.notes) == 1
    assert_same(inside.variables["params"], detector)
    assert inside.without_masks() is inside


def test_published_panoptic_heads_know_things_and_stuff():
    names = coco_classes(250).names
    assert (names[1], names[187], names[91], sum(map(bool, names))) == ("person", "sky-other-merged", "", 133)
    assert is_thing(90) and not is_thing(92)


def test_of_a_panoptic_model_the_detector_is_taken():
    state = tensors_of(file_of(MODELS["detr"]))
    panoptic = {f"detr.{name}": tensor for name, tensor in state.items()} | {"mask_head.lay1.weight": np.zeros(1)}
    found, notes = detector_tensors(panoptic)
    assert found.keys() == state.keys() and notes == (
        "note: 1 tensors of the mask head are left behind; what is taken is the detector",
    )


def test_crossformer_of_2021_is_told_by_its_constants():
    state = tensors_of(file_of(MODELS["crossformer"]))
    state["layers.0.blocks.0.attn.relative_position_index"] = np.zeros((16, 16), np.int64)
    assert identify(TensorFile(state, {})).model.backbone.grouping.long_distance == "stretched"


def test_a_crossformer_of_no_published_size_is_refused():
    own = CrossFormer(channels=16, depths=(1,), heads=(1,), group_sizes=(2,), intervals=(1,), patch_kernels=(4,))
    state = tensors_of(file_of(Classifier(own, num_classes=3)))
    with pytest.raises(PublishedError, match="none of the published sizes"):
        identify(TensorFile(state, {}))


def test_published_heads_have_published_names(tmp_path):
    write_official(file_of(MODELS["detr"]), tmp_path / "detr.pth")
    write_official(file_of(MODELS["resnet"]), tmp_path / "resnet.pth")
    assert read_model(tmp_path / "detr.pth").classes == COCO and COCO.names[18] == "dog"
    found = read_model(tmp_path / "resnet.pth").classes
    assert found == imagenet() and found.names[1] == "goldfish" and len(found) == 1000


def test_official_files_have_their_tensors_where_the_official_code_looks_for_them(tmp_path):
    for name in ("detr", "resnet"):
        write_official(file_of(MODELS[name]), tmp_path / f"{name}.pth")
    assert [*read_pth(tmp_path / "detr.pth")] == ["model"] and "fc.bias" in read_pth(tmp_path / "resnet.pth")


@pytest.mark.parametrize(
    "detector", [DETR(THIN, num_classes=91, **SIZES), DeformableDETR(**DEFORMABLE | {"num_classes": 91})]
)
def test_weights_to_start_from_know_what_a_published_head_tells_apart(detector, tmp_path):
    write_official(file_of(detector), tmp_path / "model.pth")
    assert read_weights(tmp_path / "model.pth").classes == COCO


def test_the_depth_of_a_residual_network_follows_from_its_blocks_and_their_kind():
    assert resnet_of((3, 4, 6, 3), bottleneck=True, width=64) == ResNet(50)
    assert resnet_of((3, 4, 6, 3), bottleneck=False, width=64) == ResNet(34)
    assert resnet_of((1, 2), bottleneck=True, width=8) == ResNet(50, width=8, stage_blocks=(1, 2))


@pytest.mark.parametrize("name", ["detr", "detr with masks", "deformable, two-stage", "resnet"])
def test_a_run_folder_of_a_file_gives_the_file_again(name, tmp_path):
    file = file_of(MODELS[name])
    write_official(file, tmp_path / "first.pth")
    convert(str(tmp_path / "first.pth"), tmp_path / "run")
    convert(str(tmp_path / "run"), tmp_path / "second.pth")
    assert (tmp_path / "first.pth").read_bytes() == (tmp_path / "second.pth").read_bytes()
    again = read_model(tmp_path / "run")
    told = {"variables": {}, "origin": "", "shown_from": ""}
    assert dataclasses.replace(again, **told) == dataclasses.replace(file, classes=again.classes, **told)


def test_a_run_becomes_a_folder_of_hugging_face_and_a_run_again(tmp_path):
    file = dataclasses.replace(file_of(DETR(ResNet(depth=18), num_classes=4, **SIZES)), classes=numbered(4))
    write_official(file, tmp_path / "first.pth")
    convert(str(tmp_path / "first.pth"), tmp_path / "folder", to="huggingface")
    assert json.loads((tmp_path / "folder" / "config.json").read_text())["model_type"] == "detr"
    convert(str(tmp_path / "folder"), tmp_path / "run")
    assert_same(read_model(tmp_path / "run").variables, file.variables)


def test_the_command_tells_what_it_has_written_and_what_is_wrong(tmp_path, capsys):
    write_official(file_of(MODELS["detr"]), tmp_path / "detr.pth")
    assert main(["convert", str(tmp_path / "detr.pth"), str(tmp_path / "run")]) == 0
    said = capsys.readouterr().out
    assert "DETR with 91 class labels, 80 of them named: wrote" in said and "DC5" in said
    assert main(["convert", str(tmp_path / "run"), str(tmp_path / "out.onnx"), "--to", "official"]) == 1
    assert "an official file ends in .pth or .safetensors" in capsys.readouterr().err


def test_nothing_that_is_there_is_overwritten_by_a_run_folder(tmp_path):
    write_official(file_of(MODELS["detr"]), tmp_path / "detr.pth")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "mine.txt").write_text("mine")
    with pytest.raises(DataError, match="is there already"):
        convert(str(tmp_path / "detr.pth"), tmp_path / "run")


def test_values_that_are_not_finite_are_said(tmp_path):
    file = file_of(MODELS["detr"])
    assert not any("NaN" in note for note in file.notes)
    for path in ("encoder", "decoder"):
        file.variables["params"][path]["layer_0"]["feed_forward"]["expand"]["bias"][0] = np.nan
    write_official(file, tmp_path / "detr.pth")
    write_run_folder(file, tmp_path / "run")
    for source in ("detr.pth", "run"):
        said = [note for note in read_model(tmp_path / source).notes if "NaN" in note]
        assert len(said) == 1 and "in 2 of its" in said[0] and "encoder/layer_0/feed_forward/expand/bias" in said[0]


@pytest.mark.parametrize("name", ["nowhere.pth", "text.pth", "folder", "cut.pth"])
def test_what_is_no_model_is_named_and_what_was_there_stays(name, tmp_path):
    write_official(file_of(MODELS["detr"]), tmp_path / "out.pth")
    before = (tmp_path / "out.pth").read_bytes()
    (tmp_path / "folder").mkdir()
    (tmp_path / "text.pth").write_text("not a checkpoint")
    (tmp_path / "cut.pth").write_bytes(before[: len(before) // 2])
    with pytest.raises(DataError, match=name):
        convert(str(tmp_path / name), tmp_path / "out.pth")
    assert (tmp_path / "out.pth").read_bytes() == before


def test_tensors_of_another_model_are_all_listed(tmp_path):
    file = file_of(MODELS["detr"])
    write_official(file, tmp_path / "detr.safetensors")
    tensors = dict(read_tensors(tmp_path / "detr.safetensors").tensors)
    tensors["class_embed.extra"] = np.zeros(2, np.float32)
    del tensors["class_embed.bias"]
    np.savez(tmp_path / "spoiled.npz", **tensors)
    with pytest.raises(PublishedError, match=r"(?s)class_embed\.extra.*class_head/bias"):
        read_model(tmp_path / "spoiled.npz")
