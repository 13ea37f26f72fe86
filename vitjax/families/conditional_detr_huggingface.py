"""Conditional DETR in the transformers library."""

from typing import Any

from vitjax.data.errors import DataError
from vitjax.detection.conditional_detr import ConditionalDETR
from vitjax.families.conditional_detr import projections
from vitjax.families.huggingface.form import Backbone, Form, Settings, require
from vitjax.families.huggingface.names import attention, decoder, encoder, table
from vitjax.formats.tables import CONVOLUTION, Rule, Table, layer, norm

_RULES = (
    *layer("model.input_projection", "input_projection", CONVOLUTION),
    Rule("model.position_embedding.row_embeddings.weight", ("params/position/row",)),
    Rule("model.position_embedding.column_embeddings.weight", ("params/position/column",)),
    *encoder(attention, "self_attn", "self_attention"),
    *projections("model"),
    *decoder(layer, "self_attn.out_proj", "self_attention/out"),
    *decoder(layer, "encoder_attn.out_proj", "cross_attention/out"),
    *norm("model.decoder.layernorm", "decoder/norm"),
    *layer("model.decoder.query_scale.layers.{n}", "decoder/position_scale/layer_{n}"),
    *layer("model.decoder.ref_point_head.layers.{n}", "decoder/reference_points/layer_{n}"),
    *layer("class_labels_classifier", "class_head"),
    *layer("bbox_predictor.layers.{n}", "box_head/layer_{n}"),
)

# In memory, newer versions have the projections in the attention.
_ALIASES = (
    (r"(model\.decoder\.layers\.\d+)\.self_attn\.([qk])_(content|pos)_proj\.", r"\1.sa_\2\3_proj."),
    (r"(model\.decoder\.layers\.\d+)\.self_attn\.v_proj\.", r"\1.sa_v_proj."),
    (r"(model\.decoder\.layers\.\d+)\.encoder_attn\.([qk])_(content|pos|pos_sine)_proj\.", r"\1.ca_\2\3_proj."),
    (r"(model\.decoder\.layers\.\d+)\.encoder_attn\.v_proj\.", r"\1.ca_v_proj."),
)


def names(backbone: Backbone) -> Table:
    """The names of its tensors."""
    return table("conditional_detr", backbone, _RULES, _ALIASES)


def _model_of(config: Settings, fields: dict[str, Any], _: int) -> ConditionalDETR:
    # With it the library normalises between the layers of the decoder, and what they are trained to do is another.
    require(config, auxiliary_loss=False)
    if (position := fields["position"]) not in ("sine", "learned"):
        raise DataError(f"config.json has position_embedding_type={position!r}; here there are 'sine' and 'learned'.")
    return ConditionalDETR(**fields)


FORM = Form(
    model_type="conditional_detr",
    kind="ConditionalDetr",
    feed_forward=2048,
    fields={"num_queries": ("num_queries", 300), "position_embedding_type": ("position", "sine")},
    model_of=_model_of,
    settings_of=lambda _: {},
    maps=lambda _: (4, 4),
    table_for=lambda _, backbone: names(backbone),
)
