"""Tables: which published tensor lives at which of our parameter paths. The families have theirs.

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
    same tensor as the name that begins otherwise: files hold both or one of them, we write the latter.
    """

    name: str
    rules: tuple[Rule, ...]
    aliases: tuple[tuple[str, str], ...] = ()
    disposable: tuple[str, ...] = (r".*\.num_batches_tracked",)

    @cached_property
    def paths(self) -> tuple[tuple[str, Rule], ...]:
        """Every path template with its rule."""
        return tuple((path, rule) for rule in self.rules for path in rule.paths)

    def drops(self, name: str) -> bool:
        """Whether a published name may be left behind."""
        return any(re.fullmatch(pattern, name) for pattern in self.disposable)

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
