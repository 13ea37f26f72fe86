"""From logits to classes for people."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Float

from vitjax.errors import FieldError
from vitjax.structs import Ranking


@dataclasses.dataclass(frozen=True)
class TopClasses:
    """The most probable classes of every image, best first, with their probabilities."""

    task: ClassVar[str] = "classification"
    scores: ClassVar[str] = "classes"

    k: int = 5
    """Classes per image; fewer where there are fewer classes."""

    def __post_init__(self) -> None:
        """Raises a FieldError where nothing would come out."""
        if self.k < 1:
            raise FieldError(f"k is a number of classes, at least 1; got {self.k}.")

    def __call__(self, logits: Float[Array, "batch classes"]) -> Ranking:
        """Softmax over all classes in float32, cut to the best; of equal ones the first comes first."""
        probabilities = jax.nn.softmax(logits.astype(jnp.float32), axis=-1)
        return Ranking(*lax.top_k(probabilities, min(self.k, logits.shape[-1])))
