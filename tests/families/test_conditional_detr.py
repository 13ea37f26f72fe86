"""Published names and settings of Conditional DETR."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from quick import drawn

from vitjax.backbones.resnet import ResNet
from vitjax.data.errors import DataError
from vitjax.detection.conditional_detr import ConditionalDETR
from vitjax.families import conditional_detr_huggingface
from vitjax.families.conditional_detr import FAMILY
from vitjax.families.huggingface.config import config_of, model_in
from vitjax.families.identify import identify
from vitjax.formats.tables import TensorFile
from vitjax.structs import Images

TINY = ConditionalDETR(
    backbone=ResNet(depth=18, width=8, stage_blocks=(1,)),
    num_classes=4,
    num_queries=6,
    channels=16,
    encoder_layers=1,
    decoder_layers=2,
    feed_forward=24,
)
# As microsoft/conditional-detr-resnet-50 has it, without what only training needs.
MICROSOFT = {"model_type": "conditional_detr", "backbone": "resnet50", "use_timm_backbone": True, "dilation": False}
MICROSOFT |= {"activation_function": "relu", "auxiliary_loss": False, "position_embedding_type": "sine"}
MICROSOFT |= {"d_model": 256, "encoder_layers": 6, "decoder_layers": 6, "num_queries": 300, "dropout": 0.1}
MICROSOFT |= {"encoder_attention_heads": 8, "decoder_attention_heads": 8, "id2label": {str(n): "x" for n in range(91)}}
MICROSOFT |= {"encoder_ffn_dim": 2048, "decoder_ffn_dim": 2048}


def both(*names):
    return [f"{name}.{part}" for name in names for part in ("weight", "bias")]


def names_of_decoder_layer(layer):
    top = f"transformer.decoder.layers.{layer}"
    kinds = (
        "sa_qcontent",
        "sa_qpos",
        "sa_kcontent",
        "sa_kpos",
        "sa_v",
        "ca_qcontent",
        "ca_kcontent",
        "ca_kpos",
        "ca_v",
    )
    names = [f"{kind}_proj" for kind in (*kinds, "ca_qpos_sine", *(("ca_qpos",) if layer == 0 else ()))]
    names += ["self_attn.out_proj", "cross_attn.out_proj", "linear1", "linear2", "norm1", "norm2", "norm3"]
    return both(*(f"{top}.{name}" for name in names))


def names_outside_the_backbone():
    """Those of the official code, of one encoder layer and two decoder layers."""
    top = "transformer.encoder.layers.0"
    return {
        "query_embed.weight",
        *both("input_proj", "class_embed", *(f"bbox_embed.layers.{n}" for n in range(3))),
        *(f"{top}.self_attn.in_proj_{part}" for part in ("weight", "bias")),
        *both(*(f"{top}.{name}" for name in ("self_attn.out_proj", "linear1", "linear2", "norm1", "norm2"))),
        *names_of_decoder_layer(0),
        *names_of_decoder_layer(1),
        *both("transformer.decoder.norm"),
        *both(
            *(f"transformer.decoder.{head}.layers.{n}" for head in ("query_scale", "ref_point_head") for n in (0, 1))
        ),
    }


def variables_of(model):
    images = Images(jnp.zeros((1, 32, 32, 3)), jnp.ones((1, 32, 32), bool))
    return drawn(jax.eval_shape(lambda: model.init(jax.random.key(0), images, train=False)))


@pytest.mark.parametrize("model", [TINY, TINY.clone(position="learned")], ids=["sine", "learned"])
def test_an_official_file_tells_its_model_and_goes_back_bitwise(model):
    tensors = FAMILY.official.tensors_of(model, variables_of(model))
    learned = {f"backbone.1.{axis}_embed.weight" for axis in ("row", "col")}
    wanted = names_outside_the_backbone() | (learned if model.position == "learned" else set())
    assert {name for name in tensors if not name.startswith("backbone.0.")} == wanted
    assert tensors["query_embed.weight"].shape == (6, 16)
    found = identify(TensorFile(tensors, {}, "conditional"))
    assert found.model == model and found.postprocess.k == 100
    again = FAMILY.official.tensors_of(found.model, found.variables)
    assert again.keys() == tensors.keys()
    assert all(again[name].tobytes() == tensors[name].tobytes() for name in tensors)


def test_the_published_settings_are_the_published_model():
    assert model_in(MICROSOFT)[0] == ConditionalDETR(num_classes=91)
    assert model_in(MICROSOFT | {"dilation": True})[0].backbone == ResNet(dilation=True)
    assert model_in(MICROSOFT | {"position_embedding_type": "learned"})[0].position == "learned"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"auxiliary_loss": True}, "auxiliary_loss=True; here there is only False"),
        ({"activation_function": "gelu"}, "activation_function='gelu'; here there is only 'relu'"),
        ({"position_embedding_type": "fourier"}, "position_embedding_type='fourier'"),
    ],
)
def test_an_option_that_is_not_there_is_named(change, message):
    with pytest.raises(DataError, match=message):
        model_in(MICROSOFT | change)


def test_settings_come_back():
    model = TINY.clone(position="learned", dropout=0.2, num_classes=91)
    config, whose = config_of(model, conditional_detr_huggingface.FORM, FAMILY.classes(91))
    assert (config["architectures"], whose) == (["ConditionalDetrForObjectDetection"], "transformers")
    assert model_in(config)[0] == model


@pytest.mark.parametrize(
    ("memory", "file"),
    [
        ("self_attn.q_content_proj", "sa_qcontent_proj"),
        ("self_attn.k_pos_proj", "sa_kpos_proj"),
        ("self_attn.v_proj", "sa_v_proj"),
        ("self_attn.o_proj", "self_attn.out_proj"),
        ("encoder_attn.q_pos_sine_proj", "ca_qpos_sine_proj"),
        ("encoder_attn.k_content_proj", "ca_kcontent_proj"),
        ("encoder_attn.v_proj", "ca_v_proj"),
        ("encoder_attn.o_proj", "encoder_attn.out_proj"),
        ("mlp.fc1", "fc1"),
    ],
)
def test_names_in_memory_are_those_in_files_by_another_spelling(memory, file):
    table = conditional_detr_huggingface.names("timm")
    name = f"model.decoder.layers.1.{memory}.weight"
    assert table.primary(name) == f"model.decoder.layers.1.{file}.weight"
    rule, numbers = table.of_published(name)
    assert numbers == {"layer": "1"} and rule.published.format(**numbers) == table.primary(name)
    assert np.all([path.startswith("params/decoder/layer_{layer}/") for path in rule.paths])
