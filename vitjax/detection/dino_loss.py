"""DINO's set loss. Source: Zhang et al. 2022, section 3 and appendix D, and its code."""

import dataclasses
from typing import ClassVar

from jax import Array
from jaxtyping import Float

from vitjax.detection.focal_loss import FocalSetLoss
from vitjax.detection.matcher import FocalCost
from vitjax.ops.sums import sum_by_halves

EPSILON = 1e-6


@dataclasses.dataclass(frozen=True)
class DINOCost(FocalCost):
    """Deformable DETR's cost, with a little in the denominators of the generalised IoU."""

    epsilon: ClassVar[float] = EPSILON


@dataclasses.dataclass(frozen=True)
class DINOLoss(FocalSetLoss):
    """Deformable DETR's loss with another weight of the classes, and that little; it is for denoising queries, too."""

    epsilon: ClassVar[float] = EPSILON

    classification: float = 1.0
    """Weight of the focal loss."""
    cost: FocalCost = dataclasses.field(default_factory=DINOCost)
    """Weights of the matching."""

    sum = staticmethod(sum_by_halves)

    def sum_of_classes(self, focal: Float[Array, "batch queries classes"]) -> Float[Array, ""]:
        """The sum over classes, then over queries half on half."""
        return sum_by_halves(focal.sum(-1))
