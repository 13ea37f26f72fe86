"""Tables: which published tensor lives at which of our parameter paths, one table per family of checkpoints.

A table is a list of rules. A rule pairs a published name with one of our paths, `{layer}` and the like standing for any
whole number, and says how the axes move; a fused tensor is cut along its first axis into several paths.
"""

import re
from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np

from vitjax.errors import VitjaxError

AS_IS: tuple[int, ...] = ()
LINEAR = (1, 0)  # torch [out, in] -> flax [in, out]
CONVOLUTION = (2, 3, 1, 0)  # torch [out, in, h, w] -> flax [h, w, in, out]


class PublishedError(VitjaxError):
    """Published weights and a model do not fit each other; the message lists every tensor concerned."""


@cache
def _pattern(template: str) -> re.Pattern[str]:
    """Regex of a template, with a group of digits for each `{field}`."""
    return re.compile(re.sub(r"\\{(\w+)\\}", r"(?P<\1>\\d+)", re.escape(template)))


@dataclass(frozen=True)
class Rule:
    """A published tensor is cut into as many equal parts as there are paths, and the axes of each are permuted."""

    published: str
    paths: tuple[str, ...]
    axes: tuple[int, ...] = AS_IS

    def split(self, tensor: np.ndarray) -> list[np.ndarray]:
        """The parts of a published tensor in our layout."""
        if self.axes and tensor.ndim != len(self.axes):
            raise PublishedError(f"expected {len(self.axes)} axes, got shape {tensor.shape}")
        if len(self.paths) > 1 and (tensor.ndim == 0 or tensor.shape[0] % len(self.paths)):
            raise PublishedError(f"expected a first axis divisible by {len(self.paths)}, got shape {tensor.shape}")
        parts = np.split(tensor, len(self.paths)) if len(self.paths) > 1 else [tensor]
        return [np.ascontiguousarray(part.transpose(self.axes)) if self.axes else part for part in parts]

    def join(self, parts: list[np.ndarray]) -> np.ndarray:
        """The published tensor of our arrays."""
        if self.axes:
            parts = [part.transpose(np.argsort(self.axes)) for part in parts]
        return np.ascontiguousarray(np.concatenate(parts)) if len(parts) > 1 else np.ascontiguousarray(parts[0])


@dataclass(frozen=True)
class Table:
    """The rules of one family of published checkpoints.

    `disposable` are regexes of names that carry nothing to keep. `aliases` are regexes of how names begin that are the
    same tensor as the name that begins otherwise: files hold both or one of them, we write the latter. `optional` are
    regexes of paths that files fill and a model may do without.
    """

    name: str
    rules: tuple[Rule, ...]
    aliases: tuple[tuple[str, str], ...] = ()
    disposable: tuple[str, ...] = (r".*\.num_batches_tracked",)
    optional: tuple[str, ...] = ()

    @cached_property
    def paths(self) -> tuple[tuple[str, Rule], ...]:
        """Every path template with its rule."""
        return tuple((path, rule) for rule in self.rules for path in rule.paths)

    def drops(self, name: str) -> bool:
        """Whether a published name may be left behind."""
        return any(re.fullmatch(pattern, name) for pattern in self.disposable)

    def spares(self, path: str) -> bool:
        """Whether a model may do without one of our paths."""
        return any(re.fullmatch(pattern, path) for pattern in self.optional)

    def primary(self, name: str) -> str:
        """The name of the tensor that a published name stands for: nearly always itself."""
        for pattern, beginning in self.aliases:
            if match := re.match(pattern, name):
                return match.expand(beginning) + name[match.end() :]
        return name

    def of_published(self, name: str) -> tuple[Rule, dict[str, str]] | None:
        """The rule of a published name, and the numbers in the name."""
        name = self.primary(name)
        for rule in self.rules:
            if match := _pattern(rule.published).fullmatch(name):
                return rule, match.groupdict()
        return None

    def of_path(self, path: str) -> tuple[Rule, dict[str, str]] | None:
        """The rule of one of our paths, and the numbers in the path."""
        for template, rule in self.paths:
            if match := _pattern(template).fullmatch(path):
                return rule, match.groupdict()
        return None


def layer(published: str, ours: str, axes: tuple[int, ...] = LINEAR) -> tuple[Rule, ...]:
    """Weight and bias of a linear layer or a convolution."""
    return (
        Rule(f"{published}.weight", (f"params/{ours}/kernel",), axes),
        Rule(f"{published}.bias", (f"params/{ours}/bias",)),
    )


def norm(published: str, ours: str) -> tuple[Rule, ...]:
    """Weight and bias of a norm that learns."""
    pairs = (("weight", "scale"), ("bias", "bias"))
    return tuple(Rule(f"{published}.{theirs}", (f"params/{ours}/{name}",)) for theirs, name in pairs)


def frozen_norm(published: str, ours: str) -> tuple[Rule, ...]:
    """The four arrays of a frozen batch norm."""
    pairs = (("weight", "scale"), ("bias", "bias"), ("running_mean", "mean"), ("running_var", "var"))
    return tuple(Rule(f"{published}.{theirs}", (f"frozen/{ours}/{name}",)) for theirs, name in pairs)


def _attention(published: str, ours: str) -> tuple[Rule, ...]:
    """Multi-head attention; the published projection is fused, its rows are queries, keys and values."""
    paths = [f"params/{ours}/{part}" for part in ("query", "key", "value")]
    return (
        Rule(f"{published}.in_proj_weight", tuple(f"{path}/kernel" for path in paths), LINEAR),
        Rule(f"{published}.in_proj_bias", tuple(f"{path}/bias" for path in paths)),
        *layer(f"{published}.out_proj", f"{ours}/out"),
    )


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


def _feed_forward(published: str, ours: str) -> tuple[Rule, ...]:
    """The two linear layers of a transformer layer."""
    return layer(f"{published}.linear1", f"{ours}/expand") + layer(f"{published}.linear2", f"{ours}/contract")


def deformable_attention(published: str, ours: str) -> tuple[Rule, ...]:
    """Multi-scale deformable attention."""
    same, others = ("sampling_offsets", "attention_weights"), (("value_proj", "value"), ("output_proj", "out"))
    pairs = (*((name, name) for name in same), *others)
    return tuple(rule for theirs, name in pairs for rule in layer(f"{published}.{theirs}", f"{ours}/{name}"))


def _cross_scale_embedding(published: str, convolutions: str, ours: str) -> tuple[Rule, ...]:
    """The convolutions and the norm of a cross-scale embedding."""
    embedding = f"{ours}/embedding"
    return (
        *layer(f"{published}.{convolutions}.{{n}}", f"{embedding}/conv_{{n}}", CONVOLUTION),
        *norm(f"{published}.norm", f"{embedding}/norm"),
    )


def _crossformer_block(published: str, ours: str) -> tuple[Rule, ...]:
    """One block; the three layers of the position bias come after a norm each."""
    bias, our_bias = f"{published}.attn.pos", f"{ours}/attention/position_bias"
    steps = [
        (
            *norm(f"{bias}.pos{n + 1}.0", f"{our_bias}/norm_{n}"),
            *layer(f"{bias}.pos{n + 1}.2", f"{our_bias}/layer_{n}"),
        )
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


def _crossformer_stage(stage: int) -> tuple[Rule, ...]:
    """A stage's blocks, and the embedding at its end, which is the beginning of the next stage here."""
    name = f"layers.{stage}"
    return (
        *_crossformer_block(f"{name}.blocks.{{block}}", f"backbone/stage_{stage + 1}/block_{{block}}"),
        *_cross_scale_embedding(f"{name}.downsample", "reductions", f"backbone/stage_{stage + 2}"),
    )


_ENCODER, _OUR_ENCODER = "transformer.encoder.layers.{layer}", "encoder/layer_{layer}"
_DECODER, _OUR_DECODER = "transformer.decoder.layers.{layer}", "decoder/layer_{layer}"

# A bare backbone, whose files hold torchvision's classifier too, and a Classifier, which has the backbone below it.
RESNET = Table("resnet", (*resnet("", ""), *layer("fc", "head")), optional=(r"params/head/(kernel|bias)",))
RESNET_CLASSIFIER = Table("resnet_classifier", (*resnet("", "backbone/"), *layer("fc", "head")))

DETR = Table(
    "detr",
    (
        *resnet("backbone.0.body.", "backbone/"),
        Rule("backbone.1.row_embed.weight", ("params/position/row",)),
        Rule("backbone.1.col_embed.weight", ("params/position/column",)),
        *layer("input_proj", "input_projection", CONVOLUTION),
        Rule("query_embed.weight", ("params/query_embedding",)),
        *_attention(f"{_ENCODER}.self_attn", f"{_OUR_ENCODER}/self_attention"),
        *norm(f"{_ENCODER}.norm1", f"{_OUR_ENCODER}/self_attention_norm"),
        *_feed_forward(_ENCODER, f"{_OUR_ENCODER}/feed_forward"),
        *norm(f"{_ENCODER}.norm2", f"{_OUR_ENCODER}/feed_forward_norm"),
        *norm("transformer.encoder.norm", "encoder/norm"),
        *_attention(f"{_DECODER}.self_attn", f"{_OUR_DECODER}/self_attention"),
        *norm(f"{_DECODER}.norm1", f"{_OUR_DECODER}/self_attention_norm"),
        *_attention(f"{_DECODER}.multihead_attn", f"{_OUR_DECODER}/cross_attention"),
        *norm(f"{_DECODER}.norm2", f"{_OUR_DECODER}/cross_attention_norm"),
        *_feed_forward(_DECODER, f"{_OUR_DECODER}/feed_forward"),
        *norm(f"{_DECODER}.norm3", f"{_OUR_DECODER}/feed_forward_norm"),
        *norm("transformer.decoder.norm", "decoder/norm"),
        *layer("class_embed", "class_head"),
        *layer("bbox_embed.layers.{n}", "box_head/layer_{n}"),
    ),
)


def _within(part: str, rule: Rule) -> Rule:
    """The rule of a model for where it is a part of another, under a name of its own."""
    paths = tuple(path.replace("/", f"/{part}/", 1) for path in rule.paths)
    return Rule(f"{part}.{rule.published}", paths, rule.axes)


UNPUBLISHED = Table("unpublished", ())

# Instance and panoptic segmentation: a detector and what stands upon it.
MASK_DETR = Table(
    "mask_detr",
    (
        *(_within("detr", rule) for rule in DETR.rules),
        *layer("bbox_attention.q_linear", "mask_attention/query"),
        *layer("bbox_attention.k_linear", "mask_attention/key"),
        *layer("mask_head.lay{n}", "mask_head/conv_{n}", CONVOLUTION),
        *norm("mask_head.gn{n}", "mask_head/norm_{n}"),
        *layer("mask_head.adapter{n}", "mask_head/adapter_{n}", CONVOLUTION),
        *layer("mask_head.out_lay", "mask_head/out", CONVOLUTION),
    ),
)

_DEFORMABLE = (
    *resnet("backbone.0.body.", "backbone/"),
    *layer("input_proj.{level}.0", "input_projection_{level}", CONVOLUTION),
    *norm("input_proj.{level}.1", "input_norm_{level}"),
    Rule("transformer.level_embed", ("params/level_embedding",)),
    *deformable_attention(f"{_ENCODER}.self_attn", f"{_OUR_ENCODER}/self_attention"),
    *norm(f"{_ENCODER}.norm1", f"{_OUR_ENCODER}/self_attention_norm"),
    *_feed_forward(_ENCODER, f"{_OUR_ENCODER}/feed_forward"),
    *norm(f"{_ENCODER}.norm2", f"{_OUR_ENCODER}/feed_forward_norm"),
    *_attention(f"{_DECODER}.self_attn", f"{_OUR_DECODER}/self_attention"),
    *norm(f"{_DECODER}.norm2", f"{_OUR_DECODER}/self_attention_norm"),
    *deformable_attention(f"{_DECODER}.cross_attn", f"{_OUR_DECODER}/cross_attention"),
    *norm(f"{_DECODER}.norm1", f"{_OUR_DECODER}/cross_attention_norm"),
    *_feed_forward(_DECODER, f"{_OUR_DECODER}/feed_forward"),
    *norm(f"{_DECODER}.norm3", f"{_OUR_DECODER}/feed_forward_norm"),
    Rule("query_embed.weight", ("params/query_embedding",)),
    *layer("transformer.reference_points", "reference_points"),
)

# All layers share their heads, of which the published files hold a copy per layer.
DEFORMABLE_DETR = Table(
    "deformable_detr",
    (*_DEFORMABLE, *layer("class_embed.0", "class_head"), *layer("bbox_embed.0.layers.{n}", "box_head/layer_{n}")),
    aliases=((r"(class|bbox)_embed\.\d+\.", r"\1_embed.0."),),
)

# Every layer has its own heads, which the published decoder holds once more; also the two-stage variant.
DEFORMABLE_DETR_REFINE = Table(
    "deformable_detr_refine",
    (
        *_DEFORMABLE,
        *layer("class_embed.{layer}", "class_head_{layer}"),
        *layer("bbox_embed.{layer}.layers.{n}", "box_head_{layer}/layer_{n}"),
        *layer("transformer.enc_output", "proposals/projection"),
        *norm("transformer.enc_output_norm", "proposals/norm"),
        *layer("transformer.pos_trans", "proposals/query_projection"),
        *norm("transformer.pos_trans_norm", "proposals/query_norm"),
    ),
    aliases=((r"transformer\.decoder\.(class|bbox)_embed\.", r"\1_embed."),),
)

# Classifiers, and backbones of detectors and segmenters, which have neither a norm at the end nor a head.
CROSSFORMER = Table(
    "crossformer",
    (
        *_cross_scale_embedding("patch_embed", "projs", "backbone/stage_1"),
        *(rule for stage in range(4) for rule in _crossformer_stage(stage)),
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
