"""Published weights and ours: one table per family says which published tensor lives at which parameter path.

A table is a list of rules. A rule pairs a published name with one of our paths, `{layer}` and the like standing for any
whole number, and says how the axes move; a fused tensor is cut along its first axis into several paths. Whatever no
rule covers, on either side, is an error that lists all of it: nothing is dropped that `disposable` does not name.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import numpy as np
from flax import traverse_util

Variables = Mapping[str, Any]
Arrays = dict[str, np.ndarray]

AS_IS: tuple[int, ...] = ()
LINEAR = (1, 0)  # torch [out, in] -> flax [in, out]
CONVOLUTION = (2, 3, 1, 0)  # torch [out, in, h, w] -> flax [h, w, in, out]


class PublishedError(ValueError):
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
    """The rules of one family of published checkpoints, and regexes of names in them that carry nothing to keep."""

    name: str
    rules: tuple[Rule, ...]
    disposable: tuple[str, ...] = (r".*\.num_batches_tracked",)

    @cached_property
    def paths(self) -> tuple[tuple[str, Rule], ...]:
        """Every path template with its rule."""
        return tuple((path, rule) for rule in self.rules for path in rule.paths)

    def drops(self, name: str) -> bool:
        """Whether a published name may be left behind."""
        return any(re.fullmatch(pattern, name) for pattern in self.disposable)

    def of_published(self, name: str) -> tuple[Rule, dict[str, str]] | None:
        """The rule of a published name, and the numbers in the name."""
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


def _layer(published: str, ours: str, axes: tuple[int, ...] = LINEAR) -> tuple[Rule, ...]:
    """Weight and bias of a linear layer or a convolution."""
    return (
        Rule(f"{published}.weight", (f"params/{ours}/kernel",), axes),
        Rule(f"{published}.bias", (f"params/{ours}/bias",)),
    )


def _norm(published: str, ours: str) -> tuple[Rule, ...]:
    """Weight and bias of a norm that learns."""
    pairs = (("weight", "scale"), ("bias", "bias"))
    return tuple(Rule(f"{published}.{theirs}", (f"params/{ours}/{name}",)) for theirs, name in pairs)


def _frozen_norm(published: str, ours: str) -> tuple[Rule, ...]:
    """The four arrays of a frozen batch norm."""
    pairs = (("weight", "scale"), ("bias", "bias"), ("running_mean", "mean"), ("running_var", "var"))
    return tuple(Rule(f"{published}.{theirs}", (f"frozen/{ours}/{name}",)) for theirs, name in pairs)


def _attention(published: str, ours: str) -> tuple[Rule, ...]:
    """Multi-head attention; the published projection is fused, its rows are queries, keys and values."""
    paths = [f"params/{ours}/{part}" for part in ("query", "key", "value")]
    return (
        Rule(f"{published}.in_proj_weight", tuple(f"{path}/kernel" for path in paths), LINEAR),
        Rule(f"{published}.in_proj_bias", tuple(f"{path}/bias" for path in paths)),
        *_layer(f"{published}.out_proj", f"{ours}/out"),
    )


def _resnet(published: str, ours: str) -> tuple[Rule, ...]:
    """Torchvision's ResNet without its classifier; `published` and `ours` are prefixes that end in their separator."""
    block, our_block = f"{published}layer{{stage}}.{{block}}", f"{ours}stage_{{stage}}/block_{{block}}"
    return (
        Rule(f"{published}conv1.weight", (f"params/{ours}stem_conv/kernel",), CONVOLUTION),
        *_frozen_norm(f"{published}bn1", f"{ours}stem_norm"),
        Rule(f"{block}.conv{{n}}.weight", (f"params/{our_block}/conv_{{n}}/kernel",), CONVOLUTION),
        *_frozen_norm(f"{block}.bn{{n}}", f"{our_block}/norm_{{n}}"),
        Rule(f"{block}.downsample.0.weight", (f"params/{our_block}/shortcut_conv/kernel",), CONVOLUTION),
        *_frozen_norm(f"{block}.downsample.1", f"{our_block}/shortcut_norm"),
    )


def _feed_forward(published: str, ours: str) -> tuple[Rule, ...]:
    """The two linear layers of a transformer layer."""
    return _layer(f"{published}.linear1", f"{ours}/expand") + _layer(f"{published}.linear2", f"{ours}/contract")


_ENCODER, _OUR_ENCODER = "transformer.encoder.layers.{layer}", "encoder/layer_{layer}"
_DECODER, _OUR_DECODER = "transformer.decoder.layers.{layer}", "decoder/layer_{layer}"

RESNET = Table("resnet", _resnet("", ""), (r".*\.num_batches_tracked", r"fc\.(weight|bias)"))

DETR = Table(
    "detr",
    (
        *_resnet("backbone.0.body.", "backbone/"),
        Rule("backbone.1.row_embed.weight", ("params/position/row",)),
        Rule("backbone.1.col_embed.weight", ("params/position/column",)),
        *_layer("input_proj", "input_projection", CONVOLUTION),
        Rule("query_embed.weight", ("params/query_embedding",)),
        *_attention(f"{_ENCODER}.self_attn", f"{_OUR_ENCODER}/self_attention"),
        *_norm(f"{_ENCODER}.norm1", f"{_OUR_ENCODER}/self_attention_norm"),
        *_feed_forward(_ENCODER, f"{_OUR_ENCODER}/feed_forward"),
        *_norm(f"{_ENCODER}.norm2", f"{_OUR_ENCODER}/feed_forward_norm"),
        *_norm("transformer.encoder.norm", "encoder/norm"),
        *_attention(f"{_DECODER}.self_attn", f"{_OUR_DECODER}/self_attention"),
        *_norm(f"{_DECODER}.norm1", f"{_OUR_DECODER}/self_attention_norm"),
        *_attention(f"{_DECODER}.multihead_attn", f"{_OUR_DECODER}/cross_attention"),
        *_norm(f"{_DECODER}.norm2", f"{_OUR_DECODER}/cross_attention_norm"),
        *_feed_forward(_DECODER, f"{_OUR_DECODER}/feed_forward"),
        *_norm(f"{_DECODER}.norm3", f"{_OUR_DECODER}/feed_forward_norm"),
        *_norm("transformer.decoder.norm", "decoder/norm"),
        *_layer("class_embed", "class_head"),
        *_layer("bbox_embed.layers.{n}", "box_head/layer_{n}"),
    ),
)

TABLES = (DETR, RESNET)


def table_of(names: Iterable[str]) -> Table:
    """The table that knows the most of these published names.

    Raises:
        PublishedError: no table knows any of them.
    """
    names = list(names)
    known = [sum(table.of_published(name) is not None for name in names) for table in TABLES]
    if not any(known):
        families = ", ".join(table.name for table in TABLES)
        raise PublishedError(f"no known family ({families}) has any of the {len(names)} tensor names: {names[:5]}")
    return TABLES[int(np.argmax(known))]


def from_published(
    state: Mapping[str, np.ndarray], *, like: Variables | None = None, table: Table | None = None
) -> dict[str, Any]:
    """Variables `{"params": ..., "frozen": ...}` from published tensors; the family is told by the names if not given.

    With `like`, the variables of the model or their shapes (`jax.eval_shape` of its `init`), every parameter of the
    model must be filled and every shape must agree. Several published tensors that share one place must be equal.

    Raises:
        PublishedError: something is left over on either side, or does not fit; all of it is listed.
    """
    table = table or table_of(state)
    flat: Arrays = {}
    problems: dict[str, list[str]] = {"published tensors without a place here": [], "tensors that do not fit": []}
    leftover, misfits = problems.values()
    for name, tensor in state.items():
        found = table.of_published(name)
        if found is None:
            leftover.extend([] if table.drops(name) else [f"{name} {np.shape(tensor)}"])
            continue
        try:
            parts = found[0].split(np.asarray(tensor))
        except PublishedError as error:
            misfits.append(f"{name}: {error}")
            continue
        for template, part in zip(found[0].paths, parts, strict=True):
            path = template.format(**found[1])
            if path in flat and not np.array_equal(flat[path], part):
                misfits.append(f"{name} differs from another tensor that fills {path} too")
            flat[path] = part
    if like is not None:
        problems |= _against_model(flat, like)
    _raise_if_any(problems, table)
    return traverse_util.unflatten_dict(flat, sep="/")


def to_published(variables: Variables, *, table: Table = DETR) -> Arrays:
    """Published tensors from variables, which may be a part of the model's (the gradients of what trains, say).

    Raises:
        PublishedError: a path has no published name, or a part of a fused tensor is missing; all of them are listed.
    """
    flat = {path: np.asarray(value) for path, value in traverse_util.flatten_dict(variables, sep="/").items()}
    found = {path: table.of_path(path) for path in flat}
    leftover = [f"{path} {flat[path].shape}" for path in flat if found[path] is None]
    pieces = {
        rule.published.format(**fields): (rule, [path.format(**fields) for path in rule.paths])
        for rule, fields in filter(None, found.values())
    }
    missing = [f"{path} (part of {name})" for name, (_, paths) in pieces.items() for path in paths if path not in flat]
    _raise_if_any({"parameters without a published name": leftover, "missing parts": missing}, table)
    return {name: rule.join([flat[path] for path in paths]) for name, (rule, paths) in pieces.items()}


def _against_model(flat: Arrays, like: Variables) -> dict[str, list[str]]:
    """What keeps converted arrays from being the variables of a model."""
    model = traverse_util.flatten_dict(like, sep="/")
    unfilled = [f"{path} {value.shape}" for path, value in model.items() if path not in flat]
    unknown = [f"{path} {value.shape}" for path, value in flat.items() if path not in model]
    unequal = [
        f"{path} is {value.shape}, the model has {model[path].shape}"
        for path, value in flat.items()
        if path in model and value.shape != model[path].shape
    ]
    return {
        "parameters of the model that nothing fills": unfilled,
        "parameters that the model does not have": unknown,
        "shapes that differ": unequal,
    }


def _raise_if_any(problems: dict[str, list[str]], table: Table) -> None:
    """One error for all problems."""
    lines = [f"{title} ({len(items)}): {', '.join(items)}" for title, items in problems.items() if items]
    if lines:
        raise PublishedError(f"weights do not fit (table {table.name}):\n  " + "\n  ".join(lines))
