"""Classifiers on an EfficientNet-Lite: files of its port to PyTorch, whose blocks are in a row, and those of timm."""

import dataclasses
import re

import numpy as np

from vitjax.backbones.efficientnet_lite import SIZES, Code, EfficientNetLite, scaled_stages
from vitjax.classification.classifier import Classifier
from vitjax.data.crops import CenterCrop
from vitjax.families.classifier import FAMILY as CLASSIFIER
from vitjax.families.family import Notes, Official, Tensors
from vitjax.families.parts import shape
from vitjax.formats.tables import CONVOLUTION, PublishedError, Rule, Table, TensorFile, frozen_norm, layer

SIDES = (224, 240, 260, 280, 300)
"""Pixels along a side of the images that each size was trained for."""

Numbers = dict[str, str]


def _part(convolution: str, norm: str, ours: str) -> tuple[Rule, ...]:
    """A convolution and its norm."""
    kernel = (f"params/backbone/{ours}_conv/kernel",)
    return (Rule(f"{convolution}.weight", kernel, CONVOLUTION), *frozen_norm(norm, f"backbone/{ours}_norm"))


def _blocks(depth: float) -> tuple[int, ...]:
    return tuple(stage.blocks for stage in scaled_stages(1.0, depth))


def _in_a_row(blocks: tuple[int, ...]) -> Table:
    """The names of the port for so many blocks by stage, which it counts through all stages."""
    places = [(str(i + 1), str(j)) for i, length in enumerate(blocks) for j in range(length)]
    rows = {place: str(n) for n, place in enumerate(places)}

    def numbers(found: Numbers) -> Numbers | None:
        if not found:
            return found
        if "n" in found and int(found["n"]) >= len(places):
            return None
        place = places[int(found["n"])] if "n" in found else (found["stage"], found["block"])
        return {"n": rows[place], "stage": place[0], "block": place[1]} if place in rows else None

    block, ours = "_blocks.{n}.", "stage_{stage}/block_{block}/"
    return Table(
        f"efficientnet_lite of {len(places)} blocks",
        (
            *_part("_conv_stem", "_bn0", "stem"),
            *_part(f"{block}_expand_conv", f"{block}_bn0", f"{ours}expand"),
            *_part(f"{block}_depthwise_conv", f"{block}_bn1", f"{ours}depthwise"),
            *_part(f"{block}_project_conv", f"{block}_bn2", f"{ours}project"),
            *_part("_conv_head", "_bn1", "head"),
            *layer("_fc", "head"),
        ),
        numbers=numbers,
    )


def _from_zero(found: Numbers) -> Numbers:
    """The stage that timm counts from 0, and here from 1."""
    if "timm" in found:
        return {**found, "stage": str(int(found["timm"]) + 1)}
    return {**found, "timm": str(int(found["stage"]) - 1)} if "stage" in found else found


_FIRST, _BLOCK, _OURS = "blocks.0.{block}.", "blocks.{timm}.{block}.", "stage_{stage}/block_{block}/"
TIMM = Table(
    "efficientnet_lite of timm",
    (
        *_part("conv_stem", "bn1", "stem"),
        *_part(f"{_FIRST}conv_dw", f"{_FIRST}bn1", "stage_1/block_{block}/depthwise"),  # nothing widens before it
        *_part(f"{_FIRST}conv_pw", f"{_FIRST}bn2", "stage_1/block_{block}/project"),
        *_part(f"{_BLOCK}conv_pw", f"{_BLOCK}bn1", f"{_OURS}expand"),
        *_part(f"{_BLOCK}conv_dw", f"{_BLOCK}bn2", f"{_OURS}depthwise"),
        *_part(f"{_BLOCK}conv_pwl", f"{_BLOCK}bn3", f"{_OURS}project"),
        *_part("conv_head", "bn2", "head"),
        *layer("classifier", "head"),
    ),
    numbers=_from_zero,
)
ROWS = {blocks: _in_a_row(blocks) for _, depth in SIZES.values() for blocks in [_blocks(depth)]}


def _identify(file: TensorFile, table: Table) -> tuple[Classifier, Notes]:
    timm, found = table is TIMM, _stages_in(file.tensors, table)
    sizes = [size for size in SIZES.values() if _stages_of(*size) == found]
    if not sizes:
        raise PublishedError(
            f"the names are those of an EfficientNet-Lite or a MobileNetV2, and stages of {found} (blocks x channels) "
            "are none of Lite0 to Lite4; build the model yourself and use --init-from."
        )
    width, depth = sizes[0]
    code, notes = _code(file.name) if timm else ("tensorflow", ())
    classes = shape(file.tensors, "classifier.weight" if timm else "_fc.weight")[0]
    backbone = EfficientNetLite(width=width, depth=depth, head=True, code=code)
    return Classifier(backbone, num_classes=classes, norm=False), notes


def _stages_in(tensors: Tensors, table: Table) -> str:
    """The blocks and channels of the stages that tensors have."""
    stages: dict[int, set[tuple[int, int]]] = {}
    for name, tensor in tensors.items():
        if found := table.of_published(name):
            path = found[0].paths[0].format(**found[1])
            if match := re.fullmatch(r".*/stage_(\d+)/block_(\d+)/project_conv/kernel", path):
                stages.setdefault(int(match[1]), set()).add((int(match[2]), np.shape(tensor)[0]))
    return ", ".join(f"{len(blocks)} x {max(blocks)[1]}" for _, blocks in sorted(stages.items()))


def _stages_of(width: float, depth: float) -> str:
    return ", ".join(f"{stage.blocks} x {stage.channels}" for stage in scaled_stages(width, depth))


def _code(name: str) -> tuple[Code, Notes]:
    """Whose code the tensors of a file of timm are for, which none of them shows."""
    if match := re.search(r"(tf_)?efficientnet_lite\d", name.lower()):
        return "tensorflow" if match[1] else "torch", ()
    return "tensorflow", (
        "note: whether the weights are TensorFlow's (tf_efficientnet_lite0) or timm's own (efficientnet_lite0) cannot "
        "be seen; by the file's name they are TensorFlow's",
    )


def _table_for(model: Classifier) -> Table:
    """That of the port; timm's for weights of timm's own training, and for numbers of blocks that the port has not."""
    own = model.backbone.code == "torch"
    return TIMM if own else ROWS.get(_blocks(model.backbone.depth), TIMM)


def _crop(model: Classifier) -> CenterCrop:
    """The whole shorter side, at the size that the network was trained for."""
    sides = {size: SIDES[number] for number, size in SIZES.items()}
    side = sides[model.backbone.width, model.backbone.depth]
    return CenterCrop(size=side, resize=side, nearest=True)


FAMILY = dataclasses.replace(
    CLASSIFIER,
    resize_of=_crop,
    official=Official(tables=(*ROWS.values(), TIMM), identify=_identify, table_for=_table_for, under=None),
)
