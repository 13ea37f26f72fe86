"""What a training step minimises: from variables, a batch and a random key to the terms of a loss."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
from jax import Array
from jaxtyping import Float

from vitjax.structs import Batch, Images, Terms

STATISTICS = "batch_stats"
"""The collection that a training step changes without a gradient."""


class Evaluated(NamedTuple):
    """The terms of the loss, and the collections of variables that the forward pass has changed."""

    terms: Terms
    changed: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Objective:
    """A loss in two halves, between which whoever has only a part of a batch can put the counts of the whole."""

    evaluate: Callable[[dict[str, Any], Batch, Array], Evaluated]
    """From variables, batch and random key to terms, as in training."""
    validate: Callable[[Any, Batch], Terms]
    """The terms of what the model answers in evaluation; rows without a record count for nothing."""
    total: Callable[[Terms], Float[Array, ""]]
    """What is minimised: linear in the means of the terms."""


def forward(
    model: nn.Module, variables: dict[str, Any], images: Images, rngs: dict[str, Array], **given: Any
) -> tuple[Any, dict[str, Any]]:
    """What the model answers in training, and the collections that it has changed."""
    answer: Any = model.apply(variables, images, train=True, rngs=rngs, mutable=[STATISTICS], **given)
    return answer
