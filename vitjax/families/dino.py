"""DINO: its loss and its official files."""

from vitjax.data.label_names import coco_classes
from vitjax.detection.dino import DINO
from vitjax.detection.dino_loss import DINOLoss
from vitjax.detection.postprocess import TopDetections
from vitjax.families.family import Family, Notes, Official, Tensors
from vitjax.families.parts import TRANSFORMER, decoder, deformable_attention, encoder, shape, transformer_in
from vitjax.formats.tables import CONVOLUTION, Arrays, PublishedError, Rule, Table, TensorFile, layer, norm

# The published code scores this many pairs of query and class.
DETECTIONS = 300

NAMES = Table(
    "dino",
    (
        Rule("transformer.tgt_embed.weight", ("params/query_embedding",)),
        *TRANSFORMER,
        Rule("transformer.level_embed", ("params/level_embedding",)),
        Rule("label_enc.weight", ("params/label_embedding",)),
        *layer("input_proj.{level}.0", "input_projection_{level}", CONVOLUTION),
        *norm("input_proj.{level}.1", "input_norm_{level}"),
        *encoder(deformable_attention, "self_attn", "self_attention"),
        *decoder(norm, "norm2", "self_attention_norm"),
        *decoder(deformable_attention, "cross_attn", "cross_attention"),
        *decoder(norm, "norm1", "cross_attention_norm"),
        *norm("transformer.decoder.norm", "decoder/norm"),
        *layer("transformer.decoder.ref_point_head.layers.{n}", "query_position/layer_{n}"),
        *layer("transformer.enc_output", "proposals/projection"),
        *norm("transformer.enc_output_norm", "proposals/norm"),
        *layer("transformer.enc_out_class_embed", "proposals/class_head"),
        *layer("transformer.enc_out_bbox_embed.layers.{n}", "proposals/box_head/layer_{n}"),
        *layer("class_embed.0", "class_head"),
        *layer("bbox_embed.0.layers.{n}", "box_head/layer_{n}"),
    ),
    # All decoder layers share one pair of heads, which is there for each of them and once more in the decoder.
    aliases=((r"(?:transformer\.decoder\.)?(class|bbox)_embed\.\d+\.", r"\1_embed.0."),),
)


def _copies(model: DINO, tensors: Tensors) -> Arrays:
    """The heads under all their names, as files have them."""
    heads = {name: x for name, x in tensors.items() if name.startswith(("class_embed.", "bbox_embed."))}
    tops, layers = ("", "transformer.decoder."), range(model.decoder_layers)
    return {top + name.replace(".0.", f".{i}.", 1): x for name, x in heads.items() for i in layers for top in tops}


def _identify(file: TensorFile, table: Table) -> tuple[DINO, Notes]:
    state = file.tensors
    if "backbone.0.patch_embed.proj.weight" in state:
        raise PublishedError("this DINO has a Swin backbone, which vitjax does not have; DINOs with a ResNet are read.")
    levels, channels = shape(state, "transformer.level_embed")
    classes, labels = shape(state, "class_embed.0.weight")[0], shape(state, "label_enc.weight")[0] - 1
    fields, notes = transformer_in(file)
    mixed = "transformer.tgt_embed.weight" in state

    def points(attention: str) -> int:
        return shape(state, f"transformer.{attention}.attention_weights.weight")[0] // (fields["heads"] * levels)

    model = DINO(
        num_classes=classes,
        num_queries=shape(state, "transformer.tgt_embed.weight")[0] if mixed else file.settings.get("num_queries", 900),
        channels=channels,
        levels=levels,
        backbone_levels=sum(shape(state, f"input_proj.{level}.0.weight")[2] == 1 for level in range(levels)),
        encoder_points=points("encoder.layers.0.self_attn"),
        decoder_points=points("decoder.layers.0.cross_attn"),
        mixed_selection=mixed,
        labels=None if labels == classes else labels,
        **fields,
    )
    return model, notes


FAMILY = Family(
    model=DINO,
    loss=DINOLoss,
    postprocess=lambda: TopDetections(k=DETECTIONS),
    classes=coco_classes,
    official=Official(tables=(NAMES,), identify=_identify, copies=_copies),
    explanation="sampling",
)
