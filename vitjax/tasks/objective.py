"""What a training step minimises: from variables, a batch and a random key to a loss and its terms."""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
from jax import Array
from jaxtyping import Float

from vitjax.structs import Batch, Images, Terms

STATISTICS = "batch_stats"
"""The collection that a training step changes without a gradient."""


class Evaluated(NamedTuple):
    """Besides the loss: its terms, and the collections of variables that the forward pass has changed."""

    terms: Terms
    changed: dict[str, Any]


Objective = Callable[[dict[str, Any], Batch, Array], tuple[Float[Array, ""], Evaluated]]


def forward(
    model: nn.Module, variables: dict[str, Any], images: Images, rngs: dict[str, Array], **given: Any
) -> tuple[Any, dict[str, Any]]:
    """What the model answers in training, and the collections that it has changed."""
    answer: Any = model.apply(variables, images, train=True, rngs=rngs, mutable=[STATISTICS], **given)
    return answer
