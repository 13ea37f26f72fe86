"""Deformable DETR: its losses, its official files, and where its form in the transformers library is."""

import functools

from vitjax.data.label_names import coco_classes
from vitjax.detection.deformable_detr import DeformableDETR
from vitjax.detection.focal_loss import FocalSetLoss
from vitjax.detection.postprocess import TopDetections
from vitjax.families.family import Family, Notes, Official, Tensors
from vitjax.families.parts import TRANSFORMER, decoder, deformable_attention, encoder, shape, transformer_in
from vitjax.formats.tables import CONVOLUTION, Arrays, Rule, Table, TensorFile, layer, norm


def own_rules(top: str, *, refine: bool) -> tuple[Rule, ...]:
    """What is called alike in the official files and those of the transformers library but for the top of the names.

    All layers share one pair of heads; with `refine` each has its own, and so have the proposals.
    """
    rules = (
        Rule(f"{top}.level_embed", ("params/level_embedding",)),
        *encoder(deformable_attention, "self_attn", "self_attention", top=top),
        *layer(f"{top}.reference_points", "reference_points"),
    )
    if not refine:
        heads = (*layer("class_embed.0", "class_head"), *layer("bbox_embed.0.layers.{n}", "box_head/layer_{n}"))
        return (*rules, *heads)
    return (
        *rules,
        *layer("class_embed.{layer}", "class_head_{layer}"),
        *layer("bbox_embed.{layer}.layers.{n}", "box_head_{layer}/layer_{n}"),
        *layer(f"{top}.enc_output", "proposals/projection"),
        *norm(f"{top}.enc_output_norm", "proposals/norm"),
        *layer(f"{top}.pos_trans", "proposals/query_projection"),
        *norm(f"{top}.pos_trans_norm", "proposals/query_norm"),
    )


def aliases(top: str, *, refine: bool) -> tuple[tuple[str, str], ...]:
    """Other names of heads: shared ones of every layer, those of each layer as parts of the decoder."""
    if refine:
        return ((rf"{top}\.decoder\.(class|bbox)_embed\.", r"\1_embed."),)
    return ((r"(class|bbox)_embed\.\d+\.", r"\1_embed.0."),)


def copies(top: str, model: DeformableDETR, tensors: Tensors) -> Arrays:
    """The heads under their other names, as files have them."""
    heads = {name: tensor for name, tensor in tensors.items() if name.startswith(("class_embed.", "bbox_embed."))}
    if model.refine:
        again = ("bbox_embed.", "class_embed.") if model.two_stage else ("bbox_embed.",)
        return {f"{top}.decoder.{name}": tensor for name, tensor in heads.items() if name.startswith(again)}
    layers = range(model.decoder_layers)
    return {name.replace(".0.", f".{layer}.", 1): x for name, x in heads.items() for layer in layers}


def _names(name: str, *, refine: bool) -> Table:
    rules = (
        Rule("query_embed.weight", ("params/query_embedding",)),
        *TRANSFORMER,
        *layer("input_proj.{level}.0", "input_projection_{level}", CONVOLUTION),
        *norm("input_proj.{level}.1", "input_norm_{level}"),
        *decoder(norm, "norm2", "self_attention_norm"),
        *decoder(deformable_attention, "cross_attn", "cross_attention"),
        *decoder(norm, "norm1", "cross_attention_norm"),
        *own_rules("transformer", refine=refine),
    )
    return Table(name, rules, aliases=aliases("transformer", refine=refine))


NAMES, NAMES_REFINE = _names("deformable_detr", refine=False), _names("deformable_detr_refine", refine=True)


def _identify(file: TensorFile, table: Table) -> tuple[DeformableDETR, Notes]:
    state, two_stage = file.tensors, "transformer.enc_output.weight" in file.tensors
    levels, channels = shape(state, "transformer.level_embed")
    fields, notes = transformer_in(file)

    def points(attention: str) -> int:
        return shape(state, f"transformer.{attention}.attention_weights.weight")[0] // (fields["heads"] * levels)

    model = DeformableDETR(
        num_classes=shape(state, "class_embed.0.weight")[0],
        num_queries=int(file.settings.get("num_queries", 300)) if two_stage else shape(state, "query_embed.weight")[0],
        channels=channels,
        levels=levels,
        backbone_levels=sum(shape(state, f"input_proj.{level}.0.weight")[2] == 1 for level in range(levels)),
        encoder_points=points("encoder.layers.0.self_attn"),
        decoder_points=points("decoder.layers.0.cross_attn"),
        refine=table is NAMES_REFINE,
        two_stage=two_stage,
        **fields,
    )
    return model, notes


FAMILY = Family(
    model=DeformableDETR,
    loss=FocalSetLoss,
    postprocess=TopDetections,
    classes=coco_classes,
    official=Official(
        tables=(NAMES, NAMES_REFINE),
        table_for=lambda model: NAMES_REFINE if model.refine else NAMES,
        identify=_identify,
        copies=functools.partial(copies, "transformer"),
    ),
    huggingface="deformable_detr_huggingface",
    explanation="sampling",
)
