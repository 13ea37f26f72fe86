import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

import vitjax
from vitjax.backbones.resnet import ResNet
from vitjax.detection.deformable_detr import DeformableDETR
from vitjax.detection.detr import DETR
from vitjax.families import deformable_detr_huggingface, detr_huggingface
from vitjax.families.deformable_detr import copies
from vitjax.families.deformable_detr_huggingface import with_heads_of_all_layers
from vitjax.families.huggingface.names import backbone_of
from vitjax.formats.tables import Table, from_published, to_published
from vitjax.structs import Images

# Key lists of full models as the library has them, where a working copy lies beside them.
LISTS = sorted((Path(vitjax.__file__).parents[2] / "shared" / "golden" / "state_dict_keys").glob("hf_*.json"))
SIZES = {"num_classes": 3, "num_queries": 5, "channels": 12, "heads": 1, "feed_forward": 8}
SIZES |= {"encoder_layers": 1, "decoder_layers": 2, "backbone": ResNet(width=4, stage_blocks=(1, 2))}
LEVELS = {"levels": 2, "backbone_levels": 1}
MODELS = {
    "detr": DETR(**SIZES),
    "learned": DETR(**SIZES, position="learned"),
    "shared": DeformableDETR(**SIZES, **LEVELS),
    "refine": DeformableDETR(**SIZES, **LEVELS, refine=True),
    "two_stage": DeformableDETR(**SIZES, **LEVELS, refine=True, two_stage=True),
}
EVERY = [(model, backbone) for model in MODELS for backbone in ("transformers", "timm")]


def both(*names: str) -> Iterator[str]:
    yield from (f"{name}.{part}" for name in names for part in ("weight", "bias"))


def convolution(conv: str, norm: str) -> Iterator[str]:
    yield f"{conv}.weight"
    yield from (f"{norm}.{part}" for part in ("weight", "bias", "running_mean", "running_var"))


def resnet_names(backbone: str, prefix: str) -> Iterator[str]:
    """A residual network of two stages, of one and two blocks."""
    if backbone == "timm":
        yield from convolution(f"{prefix}conv1", f"{prefix}bn1")
    else:
        yield from convolution(*(f"{prefix}embedder.embedder.{part}" for part in ("convolution", "normalization")))
    for stage, block in ((0, 0), (1, 0), (1, 1)):
        if backbone == "timm":
            name, first = f"{prefix}layer{stage + 1}.{block}", ("downsample.0", "downsample.1")
            parts = [*((f"conv{n}", f"bn{n}") for n in (1, 2, 3)), first]
        else:
            name = f"{prefix}encoder.stages.{stage}.layers.{block}"
            convs = ("layer.0", "layer.1", "layer.2", "shortcut")
            parts = [(f"{conv}.convolution", f"{conv}.normalization") for conv in convs]
        for conv, norm in parts if block == 0 else parts[:3]:
            yield from convolution(f"{name}.{conv}", f"{name}.{norm}")


def transformer_names(deformable: bool, memory: bool) -> Iterator[str]:
    out, hidden = ("o_proj", "mlp.") if memory else ("out_proj", "")
    plain = ("q_proj", "k_proj", "v_proj", out)
    points = ("sampling_offsets", "attention_weights", "value_proj", "output_proj")
    for layer in ("encoder.layers.0", "decoder.layers.0", "decoder.layers.1"):
        decoder = layer.startswith("decoder")
        own = points if deformable and not decoder else plain
        yield from both(*(f"model.{layer}.self_attn.{part}" for part in own))
        across = (points if deformable else plain) if decoder else ()
        yield from both(*(f"model.{layer}.encoder_attn.{part}" for part in across))
        norms = ("self_attn_layer_norm", *(("encoder_attn_layer_norm",) if decoder else ()), "final_layer_norm")
        yield from both(*(f"model.{layer}.{part}" for part in (f"{hidden}fc1", f"{hidden}fc2", *norms)))


def head_names(model: str, memory: bool) -> Iterator[str]:
    """The heads: in memory under all their names, in files as `save_pretrained` leaves them."""
    count = 3 if model == "two_stage" else 2
    own = range(count) if memory else {"shared": [0], "refine": [0], "two_stage": []}[model]
    yield from both(*(f"class_embed.{n}" for n in own))
    own_boxes = own if memory or model == "shared" else []
    yield from both(*(f"bbox_embed.{n}.layers.{i}" for n in own_boxes for i in range(3)))
    if model != "shared":
        yield from both(*(f"model.decoder.bbox_embed.{n}.layers.{i}" for n in range(count) for i in range(3)))
    if model == "two_stage":
        yield from both(*(f"model.decoder.class_embed.{n}" for n in range(count)))


def names_of(model: str, backbone: str, *, memory: bool) -> list[str]:
    """The names of one of the small models as the library has them."""
    deformable = model not in ("detr", "learned")
    prefix = "model.backbone.model." if memory else "model.backbone.conv_encoder.model."
    names = [*resnet_names(backbone, prefix), *transformer_names(deformable, memory)]
    if not deformable:
        names += ["model.query_position_embeddings.weight"]
        names += both("model.input_projection", "model.decoder.layernorm", "class_labels_classifier")
        names += both(*(f"bbox_predictor.layers.{i}" for i in range(3)))
        learned = [f"model.position_embedding.{part}_embeddings.weight" for part in ("row", "column")]
        return names + learned * (model == "learned")
    names += [*both(*(f"model.input_proj.{level}.{part}" for level in (0, 1) for part in (0, 1))), "model.level_embed"]
    if model == "two_stage":
        names += both(*(f"model.{part}" for part in ("enc_output", "enc_output_norm", "pos_trans", "pos_trans_norm")))
    else:
        names += ["model.query_position_embeddings.weight", *both("model.reference_points")]
    return [*names, *head_names(model, memory)]


def table_of(model: DETR | DeformableDETR, backbone: str) -> Table:
    form = (detr_huggingface if isinstance(model, DETR) else deformable_detr_huggingface).FORM
    return form.table_for(model, backbone)


@cache
def paths_of(model: DETR | DeformableDETR) -> dict[str, tuple[int, ...]]:
    images = Images(jnp.zeros((1, 64, 64, 3)), jnp.ones((1, 64, 64), bool))
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), images, train=False))
    return {path: leaf.shape for path, leaf in traverse_util.flatten_dict(shapes, sep="/").items()}


def numbered(model: str) -> dict:
    """Variables of a small model, every array with a number of its own."""
    paths = paths_of(MODELS[model])
    arrays = {path: np.full(shape, n, np.float32) for n, (path, shape) in enumerate(paths.items())}
    return traverse_util.unflatten_dict(arrays, sep="/")


def places(names: list[str], table: Table) -> dict[str, list[str]]:
    found = {name: table.of_published(name) for name in names}
    assert [name for name in names if found[name] is None] == []
    return {name: [path.format(**numbers) for path in rule.paths] for name, (rule, numbers) in found.items()}


@pytest.mark.parametrize("memory", [False, True], ids=["on_disk", "in_memory"])
@pytest.mark.parametrize(("model", "backbone"), EVERY)
def test_every_name_has_a_place_and_every_parameter_a_name(model, backbone, memory):
    names, table = names_of(model, backbone, memory=memory), table_of(MODELS[model], backbone)
    assert backbone_of(dict.fromkeys(names)) == backbone
    if model == "refine":
        names = [*with_heads_of_all_layers({name: np.zeros(1) for name in names}, 2, table)]
    filled = {path for paths in places(names, table).values() for path in paths}
    assert filled == paths_of(MODELS[model]).keys()


@pytest.mark.parametrize("path", LISTS, ids=lambda path: path.stem)
def test_every_name_of_a_full_model_has_a_place(path):
    names = [name for name, *_ in json.loads(path.read_text())["state_dict"]]
    model = DETR(num_classes=91) if "hf_detr" in path.stem else DeformableDETR(num_classes=91)
    found = places(names, table_of(model, backbone_of(dict.fromkeys(names))))
    assert {path for paths in found.values() for path in paths} == paths_of(model).keys()


@pytest.mark.parametrize(("model", "backbone"), EVERY)
def test_names_in_memory_are_those_in_files_by_another_spelling(model, backbone):
    table = table_of(MODELS[model], backbone)
    found = [
        {table.primary(name): paths for name, paths in places(names, table).items()}
        for names in (names_of(model, backbone, memory=memory) for memory in (False, True))
    ]
    assert found[0].items() <= found[1].items()
    assert model == "refine" or found[0] == found[1]


@pytest.mark.parametrize(("model", "backbone"), EVERY)
def test_there_and_back_again_is_the_same(model, backbone):
    table, variables = table_of(MODELS[model], backbone), numbered(model)
    tensors = to_published(variables, table=table)
    back = from_published(tensors, like=variables, table=table)
    assert jax.tree.all(jax.tree.map(np.array_equal, back, variables))
    assert tensors.keys() == {table.primary(name) for name in names_of(model, backbone, memory=True)}


def test_stages_and_convolutions_count_from_1_here():
    variables = numbered("detr")
    tensors = to_published(variables, table=detr_huggingface.names("transformers"))
    kernel = variables["params"]["backbone"]["stage_2"]["block_1"]["conv_3"]["kernel"]
    name = "model.backbone.conv_encoder.model.encoder.stages.1.layers.1.layer.2.convolution.weight"
    np.testing.assert_array_equal(tensors[name], kernel.transpose(3, 2, 0, 1))


def test_no_name_has_two_places():
    every = [table_of(MODELS[model], backbone) for model, backbone in EVERY]
    for table in every:
        names, paths = [rule.published for rule in table.rules], [path for path, _ in table.paths]
        assert len(set(names)) == len(names) and len(set(paths)) == len(paths)


def test_heads_that_are_not_there_are_the_first_layers():
    table = deformable_detr_huggingface.names("timm", refine=True)
    tensors = {"class_embed.0.bias": np.zeros(2), "class_embed.2.bias": np.ones(2)}
    tensors |= {f"model.decoder.bbox_embed.{n}.layers.0.bias": np.full(2, n) for n in range(3)}
    filled = with_heads_of_all_layers(tensors, 3, table)
    values = {name: value[0] for name, value in filled.items()}
    assert [values[f"class_embed.{n}.bias"] for n in range(3)] == [0, 0, 1]
    assert [values[f"model.decoder.bbox_embed.{n}.layers.0.bias"] for n in range(3)] == [0, 1, 2]
    assert [values.get(f"bbox_embed.{n}.layers.0.bias", n) for n in range(3)] == [0, 1, 2]


def test_heads_that_refine_are_parts_of_the_decoder_too():
    tensors = {name: np.zeros(1) for name in ("class_embed.0.bias", "bbox_embed.0.layers.0.bias", "model.level_embed")}
    again = {"model.decoder.bbox_embed.0.layers.0.bias"}
    assert copies("model", MODELS["refine"], tensors).keys() == again
    again |= {"model.decoder.class_embed.0.bias"}
    assert copies("model", MODELS["two_stage"], tensors).keys() == again
