"""Parts that several families share: what their tensors are called, and what names and shapes tell of them."""

import re
from collections.abc import Callable
from typing import Any

import numpy as np

from vitjax.backbones.resnet import BLOCKS, ResNet
from vitjax.families.family import Notes, Tensors
from vitjax.formats.tables import CONVOLUTION, LINEAR, PublishedError, Rule, TensorFile, frozen_norm, layer, norm

BODY = "backbone.0.body."

Maker = Callable[[str, str], tuple[Rule, ...]]
"""Gives the rules of a part from its published name and from ours."""


def encoder(make: Maker, published: str, ours: str, *, top: str = "transformer") -> tuple[Rule, ...]:
    """The rules of a part of every encoder layer; `top` is how the published names begin."""
    return make(f"{top}.encoder.layers.{{layer}}.{published}", f"encoder/layer_{{layer}}/{ours}")


def decoder(make: Maker, published: str, ours: str, *, top: str = "transformer") -> tuple[Rule, ...]:
    """The rules of a part of every decoder layer."""
    return make(f"{top}.decoder.layers.{{layer}}.{published}", f"decoder/layer_{{layer}}/{ours}")


def attention(published: str, ours: str) -> tuple[Rule, ...]:
    """Multi-head attention; the published projection is fused, its rows are queries, keys and values."""
    paths = [f"params/{ours}/{part}" for part in ("query", "key", "value")]
    return (
        Rule(f"{published}.in_proj_weight", tuple(f"{path}/kernel" for path in paths), LINEAR),
        Rule(f"{published}.in_proj_bias", tuple(f"{path}/bias" for path in paths)),
        *layer(f"{published}.out_proj", f"{ours}/out"),
    )


def deformable_attention(published: str, ours: str) -> tuple[Rule, ...]:
    """Multi-scale deformable attention."""
    same, others = ("sampling_offsets", "attention_weights"), (("value_proj", "value"), ("output_proj", "out"))
    pairs = (*((name, name) for name in same), *others)
    return tuple(rule for theirs, name in pairs for rule in layer(f"{published}.{theirs}", f"{ours}/{name}"))


def resnet(published: str, ours: str) -> tuple[Rule, ...]:
    """Torchvision's ResNet without its head; `published` and `ours` are prefixes that end in their separator."""
    block, our_block = f"{published}layer{{stage}}.{{block}}", f"{ours}stage_{{stage}}/block_{{block}}"
    return (
        Rule(f"{published}conv1.weight", (f"params/{ours}stem_conv/kernel",), CONVOLUTION),
        *frozen_norm(f"{published}bn1", f"{ours}stem_norm"),
        Rule(f"{block}.conv{{n}}.weight", (f"params/{our_block}/conv_{{n}}/kernel",), CONVOLUTION),
        *frozen_norm(f"{block}.bn{{n}}", f"{our_block}/norm_{{n}}"),
        Rule(f"{block}.downsample.0.weight", (f"params/{our_block}/shortcut_conv/kernel",), CONVOLUTION),
        *frozen_norm(f"{block}.downsample.1", f"{our_block}/shortcut_norm"),
    )


# What DETR and Deformable DETR have in common.
TRANSFORMER = (
    *resnet(BODY, "backbone/"),
    *encoder(norm, "norm1", "self_attention_norm"),
    *encoder(layer, "linear1", "feed_forward/expand"),
    *encoder(layer, "linear2", "feed_forward/contract"),
    *encoder(norm, "norm2", "feed_forward_norm"),
    *decoder(attention, "self_attn", "self_attention"),
    *decoder(layer, "linear1", "feed_forward/expand"),
    *decoder(layer, "linear2", "feed_forward/contract"),
    *decoder(norm, "norm3", "feed_forward_norm"),
)


def transformer_in(file: TensorFile) -> tuple[dict[str, Any], Notes]:
    """The fields that DETR and Deformable DETR have in common, and a line where the dilation could not be seen."""
    dilation, notes = _dilation(file)
    return {
        "backbone": resnet_in(file.tensors, BODY, dilation=dilation),
        "heads": int(file.settings.get("nheads", 8)),
        "encoder_layers": count(file.tensors, r"transformer\.encoder\.layers\.(\d+)\."),
        "decoder_layers": count(file.tensors, r"transformer\.decoder\.layers\.(\d+)\."),
        "feed_forward": shape(file.tensors, "transformer.decoder.layers.0.linear1.weight")[0],
    }, notes


def resnet_in(tensors: Tensors, prefix: str = "", *, dilation: bool = False) -> ResNet:
    """The residual network below a prefix."""
    stages = count(tensors, rf"{re.escape(prefix)}layer(\d+)\.")  # they count from 1, so this is one too many
    blocks = tuple(count(tensors, rf"{re.escape(prefix)}layer{n}\.(\d+)\.") for n in range(1, stages))
    bottleneck = f"{prefix}layer1.0.conv3.weight" in tensors
    width = shape(tensors, f"{prefix}conv1.weight")[0]
    return resnet_of(blocks, bottleneck=bottleneck, width=width).clone(dilation=dilation)


def resnet_of(blocks: tuple[int, ...], *, bottleneck: bool, width: int) -> ResNet:
    """The residual network of so many blocks per stage: by its depth where it is one of the usual."""
    for depth, usual in BLOCKS.items():
        if usual == blocks and (depth >= 50) == bottleneck:
            return ResNet(depth=depth, width=width)
    return ResNet(depth=50 if bottleneck else 18, width=width, stage_blocks=blocks)


def _dilation(file: TensorFile) -> tuple[bool, Notes]:
    """Whether the last stage is dilated, which no tensor shows."""
    if "dilation" in file.settings:
        return bool(file.settings["dilation"]), ()
    named = "dc5" in file.name.lower()
    kind = "with" if named else "without"
    return named, (f"note: whether the backbone is dilated (DC5) cannot be seen; by the file's name it is {kind}",)


def count(tensors: Tensors, pattern: str) -> int:
    """One more than the highest number at this place of a name."""
    numbers = [int(match.group(1)) for name in tensors if (match := re.match(pattern, name))]
    return max(numbers, default=-1) + 1


def shape(tensors: Tensors, name: str) -> tuple[int, ...]:
    """The shape of a tensor.

    Raises:
        PublishedError: there is none of this name.
    """
    if name not in tensors:
        raise PublishedError(f"the checkpoint has no {name}; is it a part of a model only?")
    return np.shape(tensors[name])
