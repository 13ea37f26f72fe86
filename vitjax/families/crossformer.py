"""Classifiers on a CrossFormer, whose files also hold the backbones of published detectors and segmenters."""

import dataclasses

from vitjax.backbones import crossformer
from vitjax.classification.classifier import Classifier
from vitjax.families.classifier import FAMILY as CLASSIFIER
from vitjax.families.family import Notes, Official
from vitjax.families.parts import count, shape
from vitjax.formats.tables import CONVOLUTION, PublishedError, Rule, Table, TensorFile, layer, norm
from vitjax.ops.groups import Grouping

# Groups and intervals leave no trace in tensors; they are those of the published size that a file is of.
_PUBLISHED = tuple(
    getattr(crossformer, f"crossformer_{size}")()
    for size in ("tiny", "small", "base", "large", "pp_small", "pp_base", "pp_large", "pp_huge")
)


def _embedding(published: str, convolutions: str, ours: str) -> tuple[Rule, ...]:
    """The convolutions and the norm of a cross-scale embedding."""
    embedding = f"{ours}/embedding"
    return (
        *layer(f"{published}.{convolutions}.{{n}}", f"{embedding}/conv_{{n}}", CONVOLUTION),
        *norm(f"{published}.norm", f"{embedding}/norm"),
    )


def _block(published: str, ours: str) -> tuple[Rule, ...]:
    """One block; the three layers of the position bias come after a norm each."""
    bias, our_bias = f"{published}.attn.pos", f"{ours}/attention/position_bias"
    steps = [
        (*norm(f"{bias}.pos{n + 1}.0", f"{our_bias}/norm_{n}"), *layer(f"{bias}.pos{n + 1}.2", f"{our_bias}/layer_{n}"))
        for n in range(3)
    ]
    return (
        *norm(f"{published}.norm1", f"{ours}/attention_norm"),
        *layer(f"{bias}.pos_proj", f"{our_bias}/project"),
        *(rule for step in steps for rule in step),
        *layer(f"{published}.attn.qkv", f"{ours}/attention/qkv"),
        *layer(f"{published}.attn.proj", f"{ours}/attention/out"),
        *norm(f"{published}.norm2", f"{ours}/feed_forward_norm"),
        *layer(f"{published}.mlp.fc1", f"{ours}/feed_forward/expand"),
        *layer(f"{published}.mlp.fc2", f"{ours}/feed_forward/contract"),
        *layer(f"{published}.ex_conv", f"{ours}/cooling_conv", CONVOLUTION),
        *norm(f"{published}.ex_ln", f"{ours}/cooling_norm"),
    )


def _stage(stage: int) -> tuple[Rule, ...]:
    """A stage's blocks, and the embedding at its end, which is the beginning of the next stage here."""
    name = f"layers.{stage}"
    return (
        *_block(f"{name}.blocks.{{block}}", f"backbone/stage_{stage + 1}/block_{{block}}"),
        *_embedding(f"{name}.downsample", "reductions", f"backbone/stage_{stage + 2}"),
    )


# Classifiers, and backbones of detectors and segmenters, which have neither a norm at the end nor a head.
NAMES = Table(
    "crossformer",
    (
        *_embedding("patch_embed", "projs", "backbone/stage_1"),
        *(rule for stage in range(4) for rule in _stage(stage)),
        *norm("norm", "norm"),
        *layer("head", "head"),
    ),
    # mmdetection and mmsegmentation put the backbone under a prefix.
    aliases=((r"backbone\.(?=patch_embed\.|layers\.)", ""),),
    # The code of 2021 keeps constants in its files; what stands upon the backbone elsewhere is nothing of ours.
    disposable=(
        r".*\.attn\.(biases|relative_position_index)",
        r".*\.attn_mask",
        r"(neck|bbox_head|rpn_head|roi_head|decode_head|auxiliary_head)\..*",
    ),
)


def _identify(file: TensorFile, _: Table) -> tuple[Classifier, Notes]:
    state = file.tensors
    stages = range(count(state, r"layers\.(\d+)\."))
    depths = tuple(count(state, rf"layers\.{stage}\.blocks\.(\d+)\.") for stage in stages)
    heads = tuple(shape(state, f"layers.{stage}.blocks.0.attn.pos.pos3.2.weight")[0] for stage in stages)
    cooling = any(".ex_conv." in name for name in state)
    channels = shape(state, "norm.weight")[0] // 2 ** (len(depths) - 1)
    sizes = (channels, depths, heads, cooling)
    found = [one for one in _PUBLISHED if (one.channels, one.depths, one.heads, one.cooling) == sizes]
    if not found:
        raise PublishedError(
            f"this CrossFormer has {channels} channels, {depths} blocks and {heads} heads, which is none of the "
            "published sizes, so its groups and intervals are not known; build the model yourself and use --init-from."
        )
    # Files of the code of 2021 hold its constants, and that code stretched the interval with the size of the image.
    of_2021 = any(name.endswith("attn.relative_position_index") for name in state)
    backbone = found[0].clone(grouping=Grouping("stretched")) if of_2021 else found[0]
    return Classifier(backbone, num_classes=shape(state, "head.weight")[0]), ()


FAMILY = dataclasses.replace(CLASSIFIER, official=Official(tables=(NAMES,), identify=_identify))
