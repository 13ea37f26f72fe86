"""Names of parameters: their path in the tree, 'backbone/stage_3/block_0/conv_2/kernel', and patterns over it."""

import difflib
import re
from collections.abc import Collection, Iterable
from typing import Any

from flax import traverse_util

from vitjax.errors import FieldError
from vitjax.structs import PyTree


def flatten(params: PyTree) -> dict[str, Any]:
    """The leaves of a nested dict by path."""
    return traverse_util.flatten_dict(params, sep="/")


def unflatten(leaves: dict[str, Any]) -> PyTree:
    """The nested dict of the leaves that `flatten` gave, or of some of them."""
    return traverse_util.unflatten_dict(leaves, sep="/")


def matches(pattern: str, path: str) -> bool:
    """Whether the regular expression is found anywhere in the path."""
    return re.search(pattern, path) is not None


def require_matches(field: str, patterns: Iterable[str], paths: Collection[str]) -> None:
    """Passes when every pattern is found in some path.

    Raises:
        FieldError: one is not, for a mistyped one would do nothing; field, pattern and nearest names are told.
    """
    for pattern in patterns:
        if not any(matches(pattern, path) for path in paths):
            raise FieldError(
                f"{field}: the pattern {pattern!r} matches no parameter; "
                f"the nearest names are {', '.join(nearest(pattern, paths))}"
            )


def nearest(pattern: str, paths: Collection[str], count: int = 5) -> list[str]:
    """The parts of paths, from the root, that look most like the pattern; the topmost names where none does."""
    words = re.sub(r"\\.|[\^$*+?()\[\]{}|.]", "", pattern).strip("/")
    names = {"/".join(parts[:end]) for parts in (p.split("/") for p in paths) for end in range(1, len(parts) + 1)}
    found = difflib.get_close_matches(words, sorted(names), n=count, cutoff=0.5)
    return found or sorted({path.split("/")[0] for path in paths})
