"""DAB-DETR in the transformers library."""

import math
from typing import Any

from vitjax.data.errors import DataError
from vitjax.detection.dab_detr import DABDETR
from vitjax.families.dab_detr import slope
from vitjax.families.huggingface.form import Backbone, Form, Settings, require
from vitjax.families.huggingface.names import attention, decoder, encoder, table
from vitjax.families.parts import resnet
from vitjax.formats.tables import CONVOLUTION, Rule, Table, layer, norm

_PARTS = {"query_content": "query_content", "query_pos": "query_position", "key_content": "key_content"}
_PARTS |= {"key_pos": "key_position", "value": "value", "query_pos_sine": "query_spatial"}


def _attention(published: str, ours: str) -> tuple[Rule, ...]:
    """Conditional attention with the norm after it; in the published names all repeat whose parts they are."""
    kind = published.rpartition(".")[2]
    projections = (layer(f"{published}.{kind}_{theirs}_proj", f"{ours}/{name}") for theirs, name in _PARTS.items())
    return (
        *(rule for both in projections for rule in both),
        *layer(f"{published}.{kind}.output_proj", f"{ours}/out"),
        *norm(f"{published}.{kind}_layer_norm", f"{ours}_norm"),
    )


_RULES = (
    Rule("model.query_refpoint_embeddings.weight", ("params/anchors",)),
    Rule("model.patterns.weight", ("params/patterns",)),
    *layer("model.input_projection", "input_projection", CONVOLUTION),
    *layer("model.encoder.query_scale.layers.{n}", "encoder/position_scale/layer_{n}"),
    *norm("model.encoder.norm", "encoder/norm"),
    *encoder(attention, "self_attn", "self_attention"),
    *encoder(slope, "activation_fn", "feed_forward"),
    *decoder(_attention, "self_attn", "self_attention"),
    *decoder(_attention, "cross_attn", "cross_attention"),
    *decoder(layer, "mlp.fc1", "feed_forward/expand"),
    *decoder(layer, "mlp.fc2", "feed_forward/contract"),
    *decoder(slope, "mlp.activation_fn", "feed_forward"),
    *decoder(norm, "mlp.final_layer_norm", "feed_forward_norm"),
    *norm("model.decoder.layernorm", "decoder/norm"),
    *layer("model.decoder.query_scale.layers.{n}", "decoder/position_scale/layer_{n}"),
    *layer("model.decoder.ref_point_head.layers.{n}", "decoder/query_position/layer_{n}"),
    *layer("model.decoder.ref_anchor_head.layers.{n}", "decoder/reference_size/layer_{n}"),
    *layer("class_embed", "class_head"),
    *layer("bbox_predictor.layers.{n}", "box_head/layer_{n}"),
)
_TIMM = resnet("model.backbone.conv_encoder.model._backbone.", "backbone/")

# The box head is a part of the decoder, too; files have either name or both.
_ALIASES = ((r"model\.decoder\.bbox_embed\.", "bbox_predictor."),)


def names(backbone: Backbone) -> Table:
    """The names of its tensors."""
    return table("dab_detr", backbone, (*_RULES, *(_TIMM if backbone == "timm" else ())), _ALIASES)


def _model_of(config: Settings, fields: dict[str, Any], _: int) -> DABDETR:
    require(config, query_dim=4, sine_position_embedding_scale=2 * math.pi)
    rows, columns = (config.get(f"temperature_{side}") or 20 for side in ("height", "width"))
    if rows != columns:
        raise DataError(
            f"config.json has temperature_height={rows} and temperature_width={columns}; here both are the same."
        )
    if (activation := fields["activation"]) not in ("prelu", "relu"):
        raise DataError(f"config.json has activation_function={activation!r}; here there are 'prelu' and 'relu'.")
    # The library counts the anchors.
    return DABDETR(**fields | {"num_queries": fields["num_queries"] * max(fields["patterns"], 1)})


def _settings_of(model: DABDETR) -> dict[str, Any]:
    return {
        "architectures": ["DabDetrForObjectDetection"],
        "activation_function": model.activation,
        "num_queries": model.num_queries // max(model.patterns, 1),
        "temperature_width": model.temperature,
    }


FORM = Form(
    model_type="dab-detr",
    kind="ConditionalDetr",  # as which the library prepares images for it
    feed_forward=2048,
    fields={
        "hidden_size": ("channels", 256),
        "activation_function": ("activation", "prelu"),
        "num_queries": ("num_queries", 300),
        "num_patterns": ("patterns", 0),
        "temperature_height": ("temperature", 20),
        "keep_query_pos": ("keep_query_position", False),
        "normalize_before": ("encoder_norm", False),
        "random_refpoints_xy": ("uniform_centres", False),
    },
    model_of=_model_of,
    settings_of=_settings_of,
    maps=lambda _: (4, 4),
    table_for=lambda _, backbone: names(backbone),
)
