"""The losses of masks. Sources: Carion et al. 2020, section 4.4; Milletari et al. 2016 (dice), section 3."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Float, Int

from vitjax.detection.focal_loss import sigmoid_focal
from vitjax.detection.loss import paired, per_object, weighted_sum
from vitjax.ops.resize import resize_bilinear
from vitjax.structs import Targets, Terms


@dataclasses.dataclass(frozen=True)
class MaskLoss:
    """Focal and dice loss of the masks of matched queries, each per object.

    The loss of a mask is the mean over pixels of the focal loss, and 1 - (2 sum p t + 1) / (sum p + sum t + 1), where p
    is the probability and t the truth of a pixel. As in the published code, pixels of the padding count, where there is
    nothing.
    """

    task: ClassVar[str] = "masks"

    mask: float = 1.0
    """Weight of the focal loss."""
    dice: float = 1.0
    """Weight of the dice loss."""
    alpha: float = 0.25
    """Weight of pixels of the object inside the focal loss; the others have one minus that."""
    gamma: float = 2.0
    """How much less the focal loss cares about what is nearly right already."""

    @jax.named_scope("loss")
    def __call__(
        self,
        masks: Float[Array, "batch queries h w"],
        targets: Targets,
        target_masks: Bool[Array, "batch objects height width"],
        queries: Int[Array, "batch objects"],
    ) -> Terms:
        """The terms `mask` and `dice` of the last layer, whose objects have these queries; logits are resized."""
        matched = jnp.take_along_axis(masks, jnp.maximum(queries, 0)[..., None, None], axis=1)
        pairs = paired(targets, queries)
        return {
            name: per_object(jnp.where(pairs, losses, 0).sum()[None], targets)
            for name, losses in self.of_each(matched, target_masks).items()
        }

    def of_each(
        self, masks: Float[Array, "batch objects h w"], truth: Bool[Array, "batch objects height width"]
    ) -> dict[str, Float[Array, "batch objects"]]:
        """Both losses of every mask; logits are resized to the truth."""
        size = (truth.shape[2], truth.shape[3])
        resized = resize_bilinear(jnp.moveaxis(masks, 1, -1), size, align_corners=False)
        logits = jnp.moveaxis(resized, -1, 1).reshape(*truth.shape[:2], size[0] * size[1])
        wanted = truth.reshape(logits.shape).astype(logits.dtype)
        focal = sigmoid_focal(logits, wanted, self.alpha, self.gamma).mean(-1)
        probability = jax.nn.sigmoid(logits)
        shared, both = (probability * wanted).sum(-1), probability.sum(-1) + wanted.sum(-1)
        return {"mask": focal, "dice": 1 - (2 * shared + 1) / (both + 1)}

    def total(self, terms: Terms) -> Float[Array, ""]:
        """The weighted sum that is minimised, besides the loss of classes and boxes."""
        return weighted_sum(terms, {"mask": self.mask, "dice": self.dice})
