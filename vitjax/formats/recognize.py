"""Which model a published checkpoint holds, from the names and shapes of its tensors.

What leaves no trace there is taken from the settings that some files hold beside the tensors: the dilation of DC5, the
number of attention heads. Groups and intervals of a CrossFormer are those of the published size that it is.
"""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from vitjax.backbones import crossformer
from vitjax.backbones.crossformer import CrossFormer
from vitjax.backbones.resnet import BLOCKS, ResNet
from vitjax.classification.classifier import Classifier
from vitjax.detection import deformable_detr, detr
from vitjax.formats.published import table_of
from vitjax.formats.tables import (
    CROSSFORMER,
    DEFORMABLE_DETR,
    DEFORMABLE_DETR_REFINE,
    DETR,
    MASK_DETR,
    RESNET_CLASSIFIER,
    UNPUBLISHED,
    PublishedError,
    Table,
)
from vitjax.ops.groups import Grouping
from vitjax.segmentation.detr_masks import MaskDETR
from vitjax.structs import Images

State = Mapping[str, np.ndarray]

_BODY = "backbone.0.body."
_MASK_HEAD = ("bbox_attention.", "mask_head.")
_CROSSFORMERS = tuple(
    getattr(crossformer, f"crossformer_{size}")()
    for size in ("tiny", "small", "base", "large", "pp_small", "pp_base", "pp_large", "pp_huge")
)


class Recognized(NamedTuple):
    """The model that has these tensors, the table of their names, and lines on what could not be seen."""

    model: nn.Module
    table: Table
    notes: tuple[str, ...]


def recognize(state: State, settings: Mapping[str, Any] | None = None, *, hint: str = "") -> Recognized:
    """The model of a published state dict; `hint`, the name of its file, tells of DC5 where `settings` do not.

    Raises:
        PublishedError: the names are of no known family, or the sizes of no known member of it.
    """
    known = settings or {}
    table = table_of(state)
    if table.name == DETR.name:
        model, notes = _detr(state, known, hint)
        return Recognized(model, DETR, notes)
    if table.name == MASK_DETR.name:
        model, notes = _detr(without_mask_head(state)[0], known, hint)
        return Recognized(MaskDETR(model), MASK_DETR, notes)
    if table.name in (DEFORMABLE_DETR.name, DEFORMABLE_DETR_REFINE.name):
        return _deformable(state, table, known, hint)
    return _crossformer(state) if table.name == CROSSFORMER.name else _resnet_classifier(state)


def shapes_of(model: nn.Module) -> dict[str, Any]:
    """The shapes of a model's variables, without computing any."""
    images = Images(jnp.zeros((1, 64, 64, 3)), jnp.ones((1, 64, 64), bool))
    return jax.eval_shape(lambda: model.init(jax.random.key(0), images, train=False))


def without_mask_head(state: State) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """The detector inside a panoptic model, whose names stand under "detr.", and a line that says what is left."""
    heads = [name for name in state if name.startswith(_MASK_HEAD)]
    if not heads:
        return dict(state), ()
    note = f"note: {len(heads)} tensors of the mask head are left behind; what is taken is the detector"
    return {name.removeprefix("detr."): state[name] for name in state if name not in heads}, (note,)


def table_for(model: nn.Module) -> Table:
    """The official names of a model's tensors; a table without rules where nobody has published such a model."""
    if isinstance(model, detr.DETR):
        return DETR
    if isinstance(model, MaskDETR):
        return MASK_DETR
    if isinstance(model, deformable_detr.DeformableDETR):
        return DEFORMABLE_DETR_REFINE if model.refine else DEFORMABLE_DETR
    if isinstance(model, Classifier):
        return CROSSFORMER if isinstance(model.backbone, CrossFormer) else RESNET_CLASSIFIER
    return UNPUBLISHED


def _detr(state: State, settings: Mapping[str, Any], hint: str) -> tuple[detr.DETR, tuple[str, ...]]:
    queries, channels = _shape(state, "query_embed.weight")
    dilation, notes = _dilation(settings, hint)
    model = detr.DETR(
        backbone=_resnet(state, _BODY, dilation),
        num_classes=_shape(state, "class_embed.weight")[0] - 1,
        num_queries=queries,
        channels=channels,
        heads=int(settings.get("nheads", 8)),
        encoder_layers=_count(state, r"transformer\.encoder\.layers\.(\d+)\."),
        decoder_layers=_count(state, r"transformer\.decoder\.layers\.(\d+)\."),
        feed_forward=_shape(state, "transformer.decoder.layers.0.linear1.weight")[0],
        pre_norm="transformer.encoder.norm.weight" in state,
        position="learned" if "backbone.1.row_embed.weight" in state else "sine",
    )
    return model, notes


def _deformable(state: State, table: Table, settings: Mapping[str, Any], hint: str) -> Recognized:
    levels, channels = _shape(state, "transformer.level_embed")
    heads = int(settings.get("nheads", 8))
    points = [_shape(state, f"transformer.{part}.attention_weights.weight")[0] // (heads * levels)
              for part in ("encoder.layers.0.self_attn", "decoder.layers.0.cross_attn")]  # fmt: skip
    dilation, notes = _dilation(settings, hint)
    two_stage = "transformer.enc_output.weight" in state
    layers = _count(state, r"transformer\.decoder\.layers\.(\d+)\.")
    model = deformable_detr.DeformableDETR(
        backbone=_resnet(state, _BODY, dilation),
        num_classes=_shape(state, "class_embed.0.weight")[0],
        num_queries=int(settings.get("num_queries", 300)) if two_stage else _shape(state, "query_embed.weight")[0],
        channels=channels,
        heads=heads,
        encoder_layers=_count(state, r"transformer\.encoder\.layers\.(\d+)\."),
        decoder_layers=layers,
        feed_forward=_shape(state, "transformer.decoder.layers.0.linear1.weight")[0],
        levels=levels,
        backbone_levels=sum(_shape(state, f"input_proj.{level}.0.weight")[2] == 1 for level in range(levels)),
        encoder_points=points[0],
        decoder_points=points[1],
        refine=table.name == DEFORMABLE_DETR_REFINE.name,
        two_stage=two_stage,
    )
    return Recognized(model, table, notes)


def _crossformer(state: State) -> Recognized:
    depths = tuple(
        _count(state, rf"layers\.{stage}\.blocks\.(\d+)\.") for stage in range(_count(state, r"layers\.(\d+)\."))
    )
    heads = tuple(_shape(state, f"layers.{stage}.blocks.0.attn.pos.pos3.2.weight")[0] for stage in range(len(depths)))
    cooling = any(".ex_conv." in name for name in state)
    channels = _shape(state, "norm.weight")[0] // 2 ** (len(depths) - 1)
    found = [one for one in _CROSSFORMERS if (one.channels, one.depths, one.heads, one.cooling)
             == (channels, depths, heads, cooling)]  # fmt: skip
    if not found:
        raise PublishedError(
            f"this CrossFormer has {channels} channels, {depths} blocks and {heads} heads, which is none of the "
            "published sizes, so its groups and intervals are not known; build the model yourself and use --init-from."
        )
    # Files of the code of 2021 hold its constants, and that code stretched the interval with the size of the image.
    of_2021 = any(name.endswith("attn.relative_position_index") for name in state)
    backbone = found[0].clone(grouping=Grouping("stretched")) if of_2021 else found[0]
    model = Classifier(backbone, num_classes=_shape(state, "head.weight")[0])
    return Recognized(model, CROSSFORMER, ())


def _resnet_classifier(state: State) -> Recognized:
    model = Classifier(_resnet(state, "", dilation=False), num_classes=_shape(state, "fc.weight")[0], norm=False)
    return Recognized(model, RESNET_CLASSIFIER, ())


def _resnet(state: State, prefix: str, dilation: bool) -> ResNet:
    """The residual network below a prefix."""
    stages = _count(state, rf"{re.escape(prefix)}layer(\d+)\.")  # they count from 1, so this is one too many
    blocks = tuple(_count(state, rf"{re.escape(prefix)}layer{n}\.(\d+)\.") for n in range(1, stages))
    bottleneck = f"{prefix}layer1.0.conv3.weight" in state
    width = _shape(state, f"{prefix}conv1.weight")[0]
    depths = [depth for depth, usual in BLOCKS.items() if usual == blocks and (depth >= 50) == bottleneck]
    if depths:
        return ResNet(depth=depths[0], width=width, dilation=dilation)
    return ResNet(depth=50 if bottleneck else 18, width=width, dilation=dilation, stage_blocks=blocks)


def _dilation(settings: Mapping[str, Any], hint: str) -> tuple[bool, tuple[str, ...]]:
    """Whether the last stage is dilated, which no tensor shows."""
    if "dilation" in settings:
        return bool(settings["dilation"]), ()
    named = "dc5" in hint.lower()
    kind = "with" if named else "without"
    return named, (f"note: whether the backbone is dilated (DC5) cannot be seen; by the file's name it is {kind}",)


def _count(state: State, pattern: str) -> int:
    """One more than the highest number at this place of a name."""
    numbers = [int(match.group(1)) for name in state if (match := re.match(pattern, name))]
    return max(numbers, default=-1) + 1


def _shape(state: State, name: str) -> tuple[int, ...]:
    if name not in state:
        raise PublishedError(f"the checkpoint has no {name}; is it a part of a model only?")
    return np.shape(state[name])
