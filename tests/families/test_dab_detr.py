"""Published names and settings of DAB-DETR."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from quick import drawn

from vitjax.backbones.resnet import ResNet
from vitjax.data.errors import DataError
from vitjax.detection.dab_detr import DABDETR
from vitjax.families import dab_detr_huggingface
from vitjax.families.dab_detr import FAMILY, NAMES
from vitjax.families.huggingface.config import config_of, model_in
from vitjax.families.identify import identify
from vitjax.formats.tables import PublishedError, TensorFile, from_published
from vitjax.structs import Images

from .test_conditional_detr import both, names_outside_the_backbone

TINY = DABDETR(
    backbone=ResNet(depth=18, width=8, stage_blocks=(1,)),
    num_classes=4,
    num_queries=6,
    channels=16,
    encoder_layers=1,
    decoder_layers=2,
    feed_forward=24,
)
OTHER = TINY.clone(patterns=3, activation="relu", keep_query_position=True, encoder_norm=True)
# As IDEA-Research/dab-detr-resnet-50 has it, without what only training needs.
IDEA = {"model_type": "dab-detr", "backbone": "resnet50", "use_timm_backbone": True, "dilation": False}
IDEA |= {"backbone_kwargs": {"in_chans": 3, "out_indices": [1, 2, 3, 4]}, "backbone_config": None, "dropout": 0.1}
IDEA |= {"activation_function": "prelu", "hidden_size": 256, "encoder_layers": 6, "decoder_layers": 6, "query_dim": 4}
IDEA |= {"encoder_attention_heads": 8, "decoder_attention_heads": 8, "encoder_ffn_dim": 2048, "decoder_ffn_dim": 2048}
IDEA |= {"temperature_height": 20, "temperature_width": 20, "num_queries": 300, "num_patterns": 0}
IDEA |= {"keep_query_pos": False, "normalize_before": False, "random_refpoints_xy": False, "auxiliary_loss": False}
IDEA |= {"sine_position_embedding_scale": None, "id2label": {str(n): "x" for n in range(91)}}
PUBLISHED = DABDETR(num_classes=91, dropout=0.1)


def names_of(model):
    """Those of the official code outside of the backbone."""
    heads = [("encoder", "query_scale"), ("decoder", "ref_anchor_head")]
    names = names_outside_the_backbone() - {"query_embed.weight"} | {"refpoint_embed.weight"}
    names |= {*both(*(f"transformer.{part}.{head}.layers.{n}" for part, head in heads for n in (0, 1)))}
    names |= {*both(*(f"transformer.decoder.bbox_embed.layers.{n}" for n in range(3)))}
    if model is OTHER:
        own = ("transformer.encoder.norm", "transformer.decoder.layers.1.ca_qpos_proj")
        return names | {"transformer.patterns.weight", *both(*own)}
    layers = ("encoder.layers.0", "decoder.layers.0", "decoder.layers.1")
    return names | {f"transformer.{layer}.activation.weight" for layer in layers}


@functools.cache
def file_of(model):
    images = Images(jnp.zeros((1, 32, 32, 3)), jnp.ones((1, 32, 32), bool))
    variables = drawn(jax.eval_shape(lambda: model.init(jax.random.key(0), images, train=False)))
    return FAMILY.official.tensors_of(model, variables)


@pytest.mark.parametrize("model", [TINY, OTHER], ids=["published", "otherwise"])
def test_an_official_file_tells_its_model_and_goes_back_bitwise(model):
    tensors = file_of(model)
    assert {name for name in tensors if not name.startswith("backbone.")} == names_of(model)
    assert tensors["refpoint_embed.weight"].shape == (2 if model is OTHER else 6, 4)
    found = identify(TensorFile(tensors, {}, "dab"))
    assert found.model == model and found.postprocess.k == 300
    assert "note: the temperature of the sine embedding cannot be seen; it is taken to be 20" in found.notes
    again = FAMILY.official.tensors_of(found.model, found.variables)
    assert again.keys() == tensors.keys()
    assert all(again[name].tobytes() == tensors[name].tobytes() for name in tensors)


def test_what_no_tensor_shows_is_taken_from_the_settings_in_the_file():
    settings = {
        "pe_temperatureH": 10,
        "pe_temperatureW": 10,
        "random_refpoints_xy": True,
        "dilation": True,
        "nheads": 4,
    }
    found = identify(TensorFile(file_of(TINY), settings, "dab"))
    dilated = TINY.backbone.clone(dilation=True)
    assert found.model == TINY.clone(temperature=10, uniform_centres=True, heads=4, backbone=dilated)
    assert not found.notes


def test_the_box_head_of_the_decoder_must_be_the_same():
    tensors = dict(file_of(TINY))
    tensors["transformer.decoder.bbox_embed.layers.0.bias"] = tensors["bbox_embed.layers.0.bias"] + 1
    with pytest.raises(PublishedError, match=r"decoder\.bbox_embed\.layers\.0\.bias differs from another tensor"):
        from_published(tensors, table=NAMES)


@pytest.mark.parametrize(
    ("tensors", "settings", "message"),
    [
        ({"bbox_embed.0.layers.0.weight": np.zeros((16, 16))}, {}, "has a box head for every layer"),
        ({"refpoint_embed.weight": np.zeros((6, 2))}, {}, "has 2 numbers for each query; .* boxes, which have 4"),
        ({}, {"pe_temperatureH": 20, "pe_temperatureW": 10}, "pe_temperatureH=20 and pe_temperatureW=10; here both"),
        ({}, {"transformer_activation": "gelu"}, "transformer_activation='gelu'; here there are 'prelu' and 'relu'"),
    ],
)
def test_a_model_that_is_not_here_is_named(tensors, settings, message):
    with pytest.raises(PublishedError, match=message):
        identify(TensorFile(file_of(TINY) | tensors, settings, "dab"))


@pytest.mark.parametrize(
    ("change", "model"),
    [
        pytest.param({}, PUBLISHED, id="resnet-50"),
        pytest.param({"num_patterns": 3}, PUBLISHED.clone(patterns=3, num_queries=900), id="pat3"),
        pytest.param(
            {"dilation": True, "backbone_kwargs": None, "temperature_height": 10, "temperature_width": 10},
            PUBLISHED.clone(backbone=ResNet(dilation=True), temperature=10),
            id="dc5",
        ),
        pytest.param({"random_refpoints_xy": True}, PUBLISHED.clone(uniform_centres=True), id="fixxy"),
        pytest.param({"sine_position_embedding_scale": 2 * math.pi}, PUBLISHED, id="scale"),
        pytest.param({"activation_function": "relu"}, PUBLISHED.clone(activation="relu"), id="relu"),
    ],
)
def test_published_settings_are_the_published_models_and_come_back(change, model):
    assert model_in(IDEA | change)[0] == model
    config, _ = config_of(model, dab_detr_huggingface.FORM, FAMILY.classes(91))
    assert model_in(config)[0] == model and config["architectures"] == ["DabDetrForObjectDetection"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"temperature_width": 10}, "temperature_height=20 and temperature_width=10; here both are the same"),
        ({"activation_function": "selu"}, "activation_function='selu'; here there are 'prelu' and 'relu'"),
        ({"query_dim": 2}, "query_dim=2; here there is only 4"),
        ({"sine_position_embedding_scale": 1.0}, "sine_position_embedding_scale=1.0; here there is only 6.28"),
        ({"encoder_ffn_dim": 8}, "encoder_ffn_dim=8 and decoder_ffn_dim=2048"),
    ],
)
def test_an_option_that_is_not_there_is_named(change, message):
    with pytest.raises(DataError, match=message):
        model_in(IDEA | change)


def test_a_dilated_backbone_is_timms_under_a_name_of_its_own():
    table = dab_detr_huggingface.names("timm")
    rule, _ = table.of_path("params/backbone/stage_1/block_0/conv_1/kernel")
    assert rule.published.startswith("model.backbone.conv_encoder.model._backbone.layer{stage}")
    assert table.of_published("model.backbone.conv_encoder.model._backbone.bn1.running_var")


def test_the_box_head_has_either_of_its_names_in_files():
    table = dab_detr_huggingface.names("transformers")
    assert table.primary("model.decoder.bbox_embed.layers.2.bias") == "bbox_predictor.layers.2.bias"
