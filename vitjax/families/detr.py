"""DETR: its losses, its official files, and where its form in the transformers library is."""

from vitjax.data.label_names import coco_classes
from vitjax.detection.detr import DETR
from vitjax.detection.loss import SetLoss
from vitjax.detection.postprocess import BestClass
from vitjax.families.family import Family, Notes, Official
from vitjax.families.parts import TRANSFORMER, attention, decoder, encoder, shape, transformer_in
from vitjax.formats.tables import CONVOLUTION, Rule, Table, TensorFile, layer, norm

NAMES = Table(
    "detr",
    (
        Rule("query_embed.weight", ("params/query_embedding",)),
        *TRANSFORMER,
        Rule("backbone.1.row_embed.weight", ("params/position/row",)),
        Rule("backbone.1.col_embed.weight", ("params/position/column",)),
        *layer("input_proj", "input_projection", CONVOLUTION),
        *encoder(attention, "self_attn", "self_attention"),
        *norm("transformer.encoder.norm", "encoder/norm"),
        *decoder(norm, "norm1", "self_attention_norm"),
        *decoder(attention, "multihead_attn", "cross_attention"),
        *decoder(norm, "norm2", "cross_attention_norm"),
        *norm("transformer.decoder.norm", "decoder/norm"),
        *layer("class_embed", "class_head"),
        *layer("bbox_embed.layers.{n}", "box_head/layer_{n}"),
    ),
)


def detr_in(file: TensorFile) -> tuple[DETR, Notes]:
    """The DETR that has the tensors of a file, and a line where its dilation could not be seen."""
    queries, channels = shape(file.tensors, "query_embed.weight")
    fields, notes = transformer_in(file)
    model = DETR(
        num_classes=shape(file.tensors, "class_embed.weight")[0] - 1,
        num_queries=queries,
        channels=channels,
        pre_norm="transformer.encoder.norm.weight" in file.tensors,
        position="learned" if "backbone.1.row_embed.weight" in file.tensors else "sine",
        **fields,
    )
    return model, notes


FAMILY = Family(
    model=DETR,
    loss=SetLoss,
    postprocess=BestClass,
    classes=coco_classes,
    official=Official(tables=(NAMES,), identify=lambda file, _: detr_in(file)),
    huggingface="detr_huggingface",
    explanation="attention",
)
