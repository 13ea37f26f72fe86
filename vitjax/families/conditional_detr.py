"""Conditional DETR: its losses, its official files, and where its form in the transformers library is."""

from vitjax.data.label_names import coco_classes
from vitjax.detection.conditional_detr import ConditionalDETR
from vitjax.detection.focal_loss import FocalSetLoss
from vitjax.detection.postprocess import TopDetections
from vitjax.families.family import Family, Notes, Official
from vitjax.families.parts import TRANSFORMER, attention, decoder, encoder, shape, transformer_in
from vitjax.formats.tables import CONVOLUTION, Rule, Table, TensorFile, layer, norm

_PROJECTIONS = {
    "sa_qcontent_proj": "self_attention/query_content",
    "sa_qpos_proj": "self_attention/query_position",
    "sa_kcontent_proj": "self_attention/key_content",
    "sa_kpos_proj": "self_attention/key_position",
    "sa_v_proj": "self_attention/value",
    "ca_qcontent_proj": "cross_attention/query_content",
    "ca_qpos_proj": "cross_attention/query_position",
    "ca_kcontent_proj": "cross_attention/key_content",
    "ca_kpos_proj": "cross_attention/key_position",
    "ca_v_proj": "cross_attention/value",
    "ca_qpos_sine_proj": "cross_attention/query_spatial",
}


def projections(top: str) -> tuple[Rule, ...]:
    """The linear layers of conditional attention where they stand beside it; the published names begin with `top`."""
    pairs = _PROJECTIONS.items()
    return tuple(rule for theirs, ours in pairs for rule in decoder(layer, theirs, ours, top=top))


_OTHER_LAYOUT = "transformer.decoder.layers.{layer}.self_attn"  # of the attention in DETR's decoder

# What DAB-DETR has in common with it.
CONDITIONAL = (
    *(rule for rule in TRANSFORMER if not rule.published.startswith(_OTHER_LAYOUT)),
    *layer("input_proj", "input_projection", CONVOLUTION),
    *encoder(attention, "self_attn", "self_attention"),
    *projections("transformer"),
    *decoder(layer, "self_attn.out_proj", "self_attention/out"),
    *decoder(norm, "norm1", "self_attention_norm"),
    *decoder(layer, "cross_attn.out_proj", "cross_attention/out"),
    *decoder(norm, "norm2", "cross_attention_norm"),
    *norm("transformer.decoder.norm", "decoder/norm"),
    *layer("transformer.decoder.query_scale.layers.{n}", "decoder/position_scale/layer_{n}"),
    *layer("class_embed", "class_head"),
    *layer("bbox_embed.layers.{n}", "box_head/layer_{n}"),
)

NAMES = Table(
    "conditional_detr",
    (
        Rule("query_embed.weight", ("params/query_embedding",)),
        *CONDITIONAL,
        Rule("backbone.1.row_embed.weight", ("params/position/row",)),
        Rule("backbone.1.col_embed.weight", ("params/position/column",)),
        *layer("transformer.decoder.ref_point_head.layers.{n}", "decoder/reference_points/layer_{n}"),
    ),
)


def _identify(file: TensorFile, _: Table) -> tuple[ConditionalDETR, Notes]:
    queries, channels = shape(file.tensors, "query_embed.weight")
    fields, notes = transformer_in(file)
    model = ConditionalDETR(
        num_classes=shape(file.tensors, "class_embed.weight")[0],
        num_queries=queries,
        channels=channels,
        position="learned" if "backbone.1.row_embed.weight" in file.tensors else "sine",
        **fields,
    )
    return model, notes


FAMILY = Family(
    model=ConditionalDETR,
    loss=FocalSetLoss,
    postprocess=TopDetections,
    classes=coco_classes,
    official=Official(tables=(NAMES,), identify=_identify),
    huggingface="conditional_detr_huggingface",
    explanation="attention",
)
