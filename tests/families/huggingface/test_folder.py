import dataclasses
import json
import sys
import types

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
from vitjax.families.huggingface import config as settings
from vitjax.families.huggingface.config import classes_in
from vitjax.families.huggingface.folder import is_folder, read_folder, write_folder
from vitjax.families.huggingface.form import form_of
from vitjax.families.huggingface.hub import fetch
from vitjax.families.huggingface.processor import processor_of, resize_of
from vitjax.families.known import family_of
from vitjax.families.model_file import ModelFile
from vitjax.formats.pth import write_pth
from vitjax.formats.tables import PublishedError
from vitjax.structs import Images

CLASSES = Classes(("", "cat", "dog"), (0, 1, 2))
SIZES = {"num_classes": 3, "num_queries": 5, "channels": 32, "heads": 2, "feed_forward": 8}
SIZES |= {"encoder_layers": 1, "decoder_layers": 2, "backbone": ResNet(width=4, stage_blocks=(1, 1))}
LEVELS = {"levels": 3, "backbone_levels": 2}

# As facebook/detr-resnet-50 and SenseTime/deformable-detr have it, without what only training needs.
FACEBOOK = {"model_type": "detr", "backbone": "resnet50", "dilation": False, "activation_function": "relu"}
FACEBOOK |= {"d_model": 256, "decoder_attention_heads": 8, "decoder_ffn_dim": 2048, "decoder_layers": 6, "dropout": 0.1}
FACEBOOK |= {"encoder_attention_heads": 8, "encoder_ffn_dim": 2048, "encoder_layers": 6, "num_queries": 100}
FACEBOOK |= {"auxiliary_loss": False, "position_embedding_type": "sine", "classifier_dropout": 0.0}
FACEBOOK |= {"id2label": {str(n): "N/A" if n == 0 else f"thing {n}" for n in range(91)}}
RESNET = {
    "model_type": "resnet",
    "embedding_size": 64,
    "hidden_sizes": [256, 512, 1024, 2048],
    "layer_type": "bottleneck",
}
RESNET |= {"depths": [3, 4, 6, 3], "hidden_act": "relu", "downsample_in_first_stage": False}
RESNET |= {"out_features": ["stage1", "stage2", "stage3", "stage4"]}
NO_TIMM = {**FACEBOOK, "use_timm_backbone": False, "backbone": None, "dilation": None, "backbone_config": RESNET}
SENSETIME = {**FACEBOOK, "model_type": "deformable_detr", "num_queries": 300, "use_timm_backbone": True}
SENSETIME |= {"encoder_ffn_dim": 1024, "decoder_ffn_dim": 1024, "num_feature_levels": 4, "encoder_n_points": 4}
SENSETIME |= {"decoder_n_points": 4, "with_box_refine": False, "two_stage": False, "two_stage_num_proposals": 300}


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


def model_of(config):
    """The model that settings describe."""
    return settings.model_in(config)[0]


def config_of(model, classes):
    """The settings of a model, and whose ResNet it is."""
    return settings.config_of(model, form_of(family_of(model)), classes)


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


def test_a_dilated_model_takes_the_names_of_timm_and_those_that_cannot_are_refused():
    model = DETR(num_classes=3, backbone=ResNet(dilation=True))
    config, backbone = config_of(model, CLASSES)
    assert backbone == "timm" and (config["use_timm_backbone"], config["dilation"]) == (True, True)
    assert model_of(config) == model
    single = DeformableDETR(num_classes=3, backbone=ResNet(dilation=True), levels=1, backbone_levels=1)
    assert model_of(config_of(single, CLASSES)[0]) == single
    with pytest.raises(DataError, match="dilation=True only of the published"):
        config_of(single.clone(levels=3, backbone_levels=2), CLASSES)


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


@pytest.mark.parametrize(
    ("config", "model"),
    [
        pytest.param(FACEBOOK, DETR(num_classes=91), id="detr"),
        pytest.param(NO_TIMM, DETR(num_classes=91), id="no_timm"),
        pytest.param(FACEBOOK | {"backbone": "resnet101"}, DETR(num_classes=91, backbone=ResNet(101)), id="resnet101"),
        pytest.param(
            FACEBOOK | {"backbone": "resnet50.a1_in1k", "dilation": True},
            DETR(num_classes=91, backbone=ResNet(dilation=True)),
            id="dc5",
        ),
        pytest.param(
            FACEBOOK | {"backbone_kwargs": {"output_stride": 16, "out_indices": [1, 2, 3, 4], "in_chans": 3}},
            DETR(num_classes=91, backbone=ResNet(dilation=True)),
            id="dc5_by_the_options_of_timm",
        ),
        pytest.param(
            FACEBOOK | {"dilation": True, "backbone_kwargs": {"output_stride": 32}},
            DETR(num_classes=91),
            id="options_of_timm_count_more",
        ),
        pytest.param(
            SENSETIME | {"backbone_kwargs": {"output_stride": 16, "out_indices": [3, 4]}},
            DeformableDETR(num_classes=91, backbone=ResNet(dilation=True), backbone_levels=2),
            id="maps_by_the_options_of_timm",
        ),
        pytest.param({"model_type": "detr", "id2label": FACEBOOK["id2label"]}, DETR(num_classes=91), id="defaults"),
        pytest.param(SENSETIME, DeformableDETR(num_classes=91), id="deformable"),
        pytest.param(
            SENSETIME | {"num_feature_levels": 1},
            DeformableDETR(num_classes=91, levels=1, backbone_levels=1),
            id="single_scale",
        ),
        pytest.param(
            SENSETIME | {"with_box_refine": True, "two_stage": True, "two_stage_num_proposals": 77},
            DeformableDETR(num_classes=91, refine=True, two_stage=True, num_queries=77),
            id="two_stage",
        ),
        pytest.param(
            SENSETIME | {"backbone_config": {"model_type": "timm_backbone", "out_indices": [-2, -1]}},
            DeformableDETR(num_classes=91, backbone_levels=2),
            id="counted_from_the_end",
        ),
    ],
)
def test_published_settings_are_the_published_models(config, model):
    assert model_of(config) == model


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (FACEBOOK | {"model_type": "yolos"}, "model_type='yolos'"),
        (FACEBOOK | {"activation_function": "gelu"}, "activation_function='gelu'; here there is only 'relu'"),
        (FACEBOOK | {"auxiliary_loss": True}, "auxiliary_loss=True"),
        (FACEBOOK | {"position_embedding_type": "fourier"}, "position_embedding_type='fourier'"),
        (SENSETIME | {"position_embedding_type": "learned"}, "position_embedding_type='learned'; .* only 'sine'"),
        (FACEBOOK | {"decoder_ffn_dim": 1024}, "encoder_ffn_dim=2048 and decoder_ffn_dim=1024"),
        (FACEBOOK | {"encoder_attention_heads": 4}, "encoder_attention_heads=4 and decoder_attention_heads=8"),
        (FACEBOOK | {"backbone": "resnet50d"}, "backbone='resnet50d'"),
        (FACEBOOK | {"backbone_kwargs": {"output_stride": 8}}, "output_stride=8; here it is 32, or 16"),
        (FACEBOOK | {"backbone_kwargs": {"in_chans": 1}}, "backbone_kwargs has in_chans=1; here there is only 3"),
        (FACEBOOK | {"backbone_config": {"model_type": "swin"}}, "model_type='swin'; here there are ResNets only"),
        (NO_TIMM | {"backbone_config": RESNET | {"downsample_in_bottleneck": True}}, "downsample_in_bottleneck=True"),
        (NO_TIMM | {"backbone_config": RESNET | {"hidden_sizes": [9]}}, r"hidden_sizes=\[9\]"),
        (NO_TIMM | {"backbone_config": RESNET | {"out_features": ["stage3"]}}, r"out_indices=\[3\]"),
        (FACEBOOK | {"id2label": {"0": "cat", "5": "dog"}}, "2 labels, which are 0 to 1; got 5 too"),
        (SENSETIME | {"num_feature_levels": 2}, "num_feature_levels=2, but a backbone that gives 3 maps"),
    ],
)
def test_an_option_that_is_not_there_is_named(config, message):
    with pytest.raises(DataError, match=message):
        model_of(config)


def test_names_of_labels_that_are_none_are_gaps():
    assert classes_in(FACEBOOK).names[:2] == ("", "thing 1") and len(classes_in(FACEBOOK)) == 91
    assert classes_in({"num_labels": 3}) == Classes(("", "", ""), (0, 1, 2))
    assert classes_in({"id2label": {"0": "LABEL_0", "1": "cat"}}).names == ("", "cat")


@pytest.mark.parametrize("classes", [Classes(("", "", ""), (0, 1, 2)), Classes(("a", "", "b"), (3, 7, 9))])
def test_labels_without_a_name_and_ids_of_categories_come_back(classes):
    config, _ = config_of(DETR(**SIZES), classes)
    assert classes_in(json.loads(json.dumps(config))) == classes


@pytest.mark.parametrize("resize", [Resize(), Resize(480, 640), Resize(600, None), Resize(None)])
def test_a_resize_comes_back(resize):
    assert resize_of(json.loads(json.dumps(processor_of(resize, "Detr")))) == (resize, ())


def test_old_and_other_sizes_are_understood():
    assert resize_of({"size": 480, "max_size": 600}) == (Resize(480, 600), ())
    assert resize_of({"size": 480}) == (Resize(480, 1333), ())
    assert resize_of({}) == (Resize(), ())
    resize, notes = resize_of({"size": {"height": 640, "width": 480}})
    assert resize == Resize(480, 640) and "here images keep their shape" in notes[0]


@pytest.mark.parametrize(
    ("processor", "message"),
    [
        ({"image_mean": [0.5, 0.5, 0.5]}, r"image_mean=\[0.5, 0.5, 0.5\]"),
        ({"do_normalize": False}, "do_normalize=False"),
        ({"size": {"side": 3}}, "shortest_edge and longest_edge"),
    ],
)
def test_other_preparation_is_refused(processor, message):
    with pytest.raises(DataError, match=message):
        resize_of(processor)


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
    for weight_map in ({"a": "../secret.safetensors"}, {}):
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


def hub(monkeypatch, download) -> types.SimpleNamespace:
    """The hub's library with nothing but what is needed; gives its errors."""
    not_found = type("RepositoryNotFoundError", (Exception,), {})
    kinds = {"RepositoryNotFoundError": not_found, "GatedRepoError": type("GatedRepoError", (not_found,), {})}
    kinds |= {name: type(name, (Exception,), {}) for name in ("HfHubHTTPError", "HFValidationError")}
    errors = types.SimpleNamespace(**kinds, LocalEntryNotFoundError=type("LocalEntryNotFoundError", (OSError,), {}))
    module = types.SimpleNamespace(errors=errors, snapshot_download=download)
    monkeypatch.setitem(sys.modules, "huggingface_hub", module)
    return errors


def test_fetching_takes_settings_and_safetensors_only(folder, monkeypatch):
    asked = []

    def download(repo_id, allow_patterns):
        asked.append((repo_id, allow_patterns))
        return str(folder)

    hub(monkeypatch, download)
    assert fetch("somebody/detr") == folder
    patterns = ["config.json", "preprocessor_config.json", "model*.safetensors", "model.safetensors.index.json"]
    assert asked == [("somebody/detr", patterns)]
    (folder / "model.safetensors").unlink()
    with pytest.raises(DataError, match=r"has no config\.json with model\.safetensors"):
        fetch("somebody/detr")


def test_fetching_without_the_library_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(DataError, match="pip install huggingface_hub"):
        fetch("somebody/detr")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("GatedRepoError", "is gated: accept its terms"),
        ("RepositoryNotFoundError", "there is no somebody/detr on the Hugging Face hub"),
        ("LocalEntryNotFoundError", "where there is no network, give a folder of it"),
    ],
)
def test_what_keeps_a_repository_away_is_told(name, message, monkeypatch):
    def download(repo_id, allow_patterns):
        raise getattr(errors, name)("")

    errors = hub(monkeypatch, download)
    with pytest.raises(DataError, match=message):
        fetch("somebody/detr")
