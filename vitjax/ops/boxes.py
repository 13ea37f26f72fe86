"""Box geometry: cxcywh and xyxy, intersection over union and its generalised form.

Source: Rezatofighi et al. 2019, "Generalized Intersection over Union"; conventions of DETR, section 3.1.
"""

import jax.numpy as jnp
from jax import Array
from jaxtyping import Float


def xyxy_from_cxcywh(boxes: Float[Array, "*batch 4"]) -> Float[Array, "*batch 4"]:
    """Corners (left, top, right, bottom) of boxes given by centre and size."""
    centre, size = boxes[..., :2], boxes[..., 2:]
    return jnp.concatenate([centre - 0.5 * size, centre + 0.5 * size], axis=-1)


def cxcywh_from_xyxy(boxes: Float[Array, "*batch 4"]) -> Float[Array, "*batch 4"]:
    """Centre and size of boxes given by their corners."""
    low, high = boxes[..., :2], boxes[..., 2:]
    return jnp.concatenate([(low + high) / 2, high - low], axis=-1)


def area(boxes: Float[Array, "*batch 4"]) -> Float[Array, "*batch"]:
    """Area of xyxy boxes."""
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def _ratio(numerator: Array, denominator: Array) -> Array:
    """Quotient that is 0, with gradient 0, where the denominator is not positive (boxes without area)."""
    positive = denominator > 0
    return jnp.where(positive, numerator / jnp.where(positive, denominator, 1), 0)


def iou(a: Float[Array, "*#batch 4"], b: Float[Array, "*#batch 4"], epsilon: float = 0.0) -> tuple[Array, Array]:
    """IoU and union area of xyxy boxes, broadcast against each other; `epsilon` is added to what is divided by."""
    low = jnp.maximum(a[..., :2], b[..., :2])
    high = jnp.minimum(a[..., 2:], b[..., 2:])
    overlap = jnp.prod(jnp.maximum(high - low, 0), axis=-1)
    union = area(a) + area(b) - overlap
    return _ratio(overlap, union + epsilon), union


def generalized_iou(
    a: Float[Array, "*#batch 4"], b: Float[Array, "*#batch 4"], epsilon: float = 0.0
) -> Float[Array, "*batch"]:
    """Generalised IoU of xyxy boxes in [-1, 1], broadcast; finite with finite gradients also for boxes without area.

    `epsilon` is added to both denominators, as DINO's code has it.
    """
    overlap, union = iou(a, b, epsilon)
    low = jnp.minimum(a[..., :2], b[..., :2])
    high = jnp.maximum(a[..., 2:], b[..., 2:])
    hull = jnp.prod(jnp.maximum(high - low, 0), axis=-1)
    return overlap - _ratio(hull - union, hull + epsilon)


def inverse_sigmoid(x: Float[Array, "*shape"], epsilon: float = 1e-5) -> Float[Array, "*shape"]:
    """The logit of a number in [0, 1], which is kept `epsilon` away from both ends. Source: Deformable DETR."""
    x = jnp.clip(x, 0, 1)
    return jnp.log(jnp.maximum(x, epsilon) / jnp.maximum(1 - x, epsilon))
