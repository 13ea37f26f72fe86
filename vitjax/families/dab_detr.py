"""DAB-DETR: its losses, its official files, and where its form in the transformers library is."""

from typing import Any

from vitjax.data.label_names import coco_classes
from vitjax.detection.dab_detr import DABDETR
from vitjax.detection.focal_loss import FocalSetLoss
from vitjax.detection.postprocess import TopDetections
from vitjax.families.conditional_detr import CONDITIONAL
from vitjax.families.family import Family, Notes, Official, Tensors
from vitjax.families.parts import decoder, encoder, shape, transformer_in
from vitjax.formats.tables import Arrays, PublishedError, Rule, Table, TensorFile, layer, norm

# The published code scores this many pairs of query and class.
DETECTIONS = 300


def slope(published: str, ours: str) -> tuple[Rule, ...]:
    """The slope below zero of an activation."""
    return (Rule(f"{published}.weight", (f"params/{ours}/slope",)),)


NAMES = Table(
    "dab_detr",
    (
        Rule("refpoint_embed.weight", ("params/anchors",)),
        Rule("transformer.patterns.weight", ("params/patterns",)),
        *CONDITIONAL,
        *encoder(slope, "activation", "feed_forward"),
        *decoder(slope, "activation", "feed_forward"),
        *layer("transformer.encoder.query_scale.layers.{n}", "encoder/position_scale/layer_{n}"),
        *norm("transformer.encoder.norm", "encoder/norm"),
        *layer("transformer.decoder.ref_point_head.layers.{n}", "decoder/query_position/layer_{n}"),
        *layer("transformer.decoder.ref_anchor_head.layers.{n}", "decoder/reference_size/layer_{n}"),
    ),
    # The box head is a part of the decoder, too.
    aliases=((r"transformer\.decoder\.bbox_embed\.", "bbox_embed."),),
)


def _copies(_: Any, tensors: Tensors) -> Arrays:
    """The box head under its other name."""
    return {f"transformer.decoder.{name}": x for name, x in tensors.items() if name.startswith("bbox_embed.")}


def _identify(file: TensorFile, _: Table) -> tuple[DABDETR, Notes]:
    state, settings = file.tensors, file.settings
    if "bbox_embed.0.layers.0.weight" in state:
        raise PublishedError(
            "this DAB-DETR has a box head for every layer, which vitjax does not have; here it is one."
        )
    (anchors, numbers), patterns = shape(state, "refpoint_embed.weight"), 0
    if numbers != 4:
        raise PublishedError(
            f"refpoint_embed.weight has {numbers} numbers for each query; here they are boxes, which have 4."
        )
    if "transformer.patterns.weight" in state:
        patterns = shape(state, "transformer.patterns.weight")[0]
    temperature, notes = _temperature(settings)
    fields, more = transformer_in(file)
    prelu = "transformer.encoder.layers.0.activation.weight" in state
    if (activation := settings.get("transformer_activation", "prelu" if prelu else "relu")) not in ("prelu", "relu"):
        raise PublishedError(
            f"this DAB-DETR has transformer_activation={activation!r}; here there are 'prelu' and 'relu'."
        )
    model = DABDETR(
        num_classes=shape(state, "class_embed.weight")[0],
        num_queries=anchors * max(patterns, 1),
        channels=shape(state, "class_embed.weight")[1],
        patterns=patterns,
        temperature=temperature,
        activation=activation,
        keep_query_position="transformer.decoder.layers.1.ca_qpos_proj.weight" in state,
        encoder_norm="transformer.encoder.norm.weight" in state,
        uniform_centres=bool(settings.get("random_refpoints_xy", False)),
        **fields,
    )
    return model, (*notes, *more)


def _temperature(settings: dict[str, Any]) -> tuple[int, Notes]:
    """That of the sine embedding of the map, which no tensor shows."""
    rows, columns = (settings.get(f"pe_temperature{side}") for side in "HW")
    if rows != columns:
        raise PublishedError(
            f"this DAB-DETR has pe_temperatureH={rows} and pe_temperatureW={columns}; here both are the same."
        )
    if rows is None:
        return 20, ("note: the temperature of the sine embedding cannot be seen; it is taken to be 20",)
    return int(rows), ()


FAMILY = Family(
    model=DABDETR,
    loss=lambda: FocalSetLoss(classification=1.0),
    postprocess=lambda: TopDetections(k=DETECTIONS),
    classes=coco_classes,
    official=Official(tables=(NAMES,), identify=_identify, copies=_copies),
    huggingface="dab_detr_huggingface",
    explanation="attention",
)
