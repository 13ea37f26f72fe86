"""DETR in the transformers library."""

from typing import Any

from vitjax.data.errors import DataError
from vitjax.detection.detr import DETR
from vitjax.families.huggingface.form import Backbone, Form, Settings, require
from vitjax.families.huggingface.names import attention, decoder, encoder, table
from vitjax.formats.tables import CONVOLUTION, Rule, Table, layer, norm

_RULES = (
    *layer("model.input_projection", "input_projection", CONVOLUTION),
    Rule("model.position_embedding.row_embeddings.weight", ("params/position/row",)),
    Rule("model.position_embedding.column_embeddings.weight", ("params/position/column",)),
    *encoder(attention, "self_attn", "self_attention"),
    *decoder(attention, "encoder_attn", "cross_attention"),
    *norm("model.decoder.layernorm", "decoder/norm"),
    *layer("class_labels_classifier", "class_head"),
    *layer("bbox_predictor.layers.{n}", "box_head/layer_{n}"),
)


def names(backbone: Backbone) -> Table:
    """The names of its tensors."""
    return table("detr", backbone, _RULES)


def _model_of(config: Settings, fields: dict[str, Any], _: int) -> DETR:
    # With it the library normalises between the layers of the decoder, and what they are trained to do is another.
    require(config, auxiliary_loss=False)
    if (position := fields["position"]) not in ("sine", "learned"):
        raise DataError(f"config.json has position_embedding_type={position!r}; here there are 'sine' and 'learned'.")
    return DETR(**fields)


def _settings_of(model: DETR) -> dict[str, Any]:
    if model.pre_norm:
        raise DataError("transformers has no DETR with pre_norm=True, so it cannot be written for it.")
    return {}


FORM = Form(
    model_type="detr",
    kind="Detr",
    feed_forward=2048,
    fields={"num_queries": ("num_queries", 100), "position_embedding_type": ("position", "sine")},
    model_of=_model_of,
    settings_of=_settings_of,
    maps=lambda _: (4, 4),
    table_for=lambda _, backbone: names(backbone),
)
