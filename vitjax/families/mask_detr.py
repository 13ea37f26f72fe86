"""DETR with masks: a detector and what stands upon it; and what is said of other detectors with masks."""

import dataclasses
from typing import Any

from vitjax.data.label_names import coco_classes
from vitjax.detection.loss import SetLoss
from vitjax.detection.postprocess import BestClass
from vitjax.families import detr
from vitjax.families.family import Family, Notes, Official, Tensors
from vitjax.formats.tables import CONVOLUTION, Arrays, PublishedError, Rule, Table, TensorFile, Variables, layer, norm
from vitjax.segmentation.detr_masks import MaskDETR
from vitjax.segmentation.mask_postprocess import TopMasks

_HEAD = ("bbox_attention.", "mask_head.")


def within(part: str, rule: Rule) -> Rule:
    """The rule of a model for where it is a part of another, under a name of its own."""
    paths = tuple(path.replace("/", f"/{part}/", 1) for path in rule.paths)
    return Rule(f"{part}.{rule.published}", paths, rule.axes)


HEAD = (
    *layer("bbox_attention.q_linear", "mask_attention/query"),
    *layer("bbox_attention.k_linear", "mask_attention/key"),
    *layer("mask_head.lay{n}", "mask_head/conv_{n}", CONVOLUTION),
    *norm("mask_head.gn{n}", "mask_head/norm_{n}"),
    *layer("mask_head.adapter{n}", "mask_head/adapter_{n}", CONVOLUTION),
    *layer("mask_head.out_lay", "mask_head/out", CONVOLUTION),
)
"""The names of what stands upon the detector."""

NAMES = Table("mask_detr", (*(within("detr", rule) for rule in detr.NAMES.rules), *HEAD))


def without_mask_head(tensors: Tensors) -> tuple[Arrays, Notes]:
    """The detector inside, whose names stand under "detr.", and a line that says what is left; others as they are."""
    heads = [name for name in tensors if name.startswith(_HEAD)]
    if not heads:
        return dict(tensors), ()
    note = f"note: {len(heads)} tensors of the mask head are left behind; what is taken is the detector"
    return {name.removeprefix("detr."): tensors[name] for name in tensors if name not in heads}, (note,)


def _of_detector(variables: Variables) -> dict[str, Any]:
    return {collection: tree["detr"] for collection, tree in variables.items() if "detr" in tree}


def _identify(file: TensorFile, _: Table) -> tuple[MaskDETR, Notes]:
    model, notes = detr.detr_in(dataclasses.replace(file, tensors=without_mask_head(file.tensors)[0]))
    return MaskDETR(model), notes


def _as_published(model: MaskDETR, _: Tensors) -> Arrays:
    """Nothing more, of a head that the published code has.

    Raises:
        PublishedError: it has others.
    """
    if model.finer != 3 or model.relative_attention:
        raise PublishedError("the published code has masks with finer=3 and relative_attention=False alone")
    return {}


def with_masks(detector: Family) -> Family:
    """The family of such a detector with masks; it has no files but our own."""
    return Family(
        model=MaskDETR,
        loss=detector.loss,
        postprocess=TopMasks,
        classes=detector.classes,
        detector=lambda model, variables: (model.detr, _of_detector(variables)),
        explanation=detector.explanation,
    )


FAMILY = Family(
    model=MaskDETR,
    loss=SetLoss,
    postprocess=BestClass,
    classes=coco_classes,
    official=Official(tables=(NAMES,), identify=_identify, detector=without_mask_head, copies=_as_published),
    huggingface="mask_detr_huggingface",
    detector=lambda model, variables: (model.detr, _of_detector(variables)),
    explanation="attention",
)
