"""A detector with masks: instance and panoptic segmentation. Source: Carion et al. 2020, section 4.4."""

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Bool, Float, Int

from vitjax.detection.detr import DETR
from vitjax.errors import FieldError
from vitjax.ops.row_parts import in_parts
from vitjax.segmentation.mask_head import MaskAttention, MaskHead
from vitjax.structs import ANSWER, Assignment, Feature, Images, Inner, MaskPredictions, Predictions

TOGETHER = 8
"""Matched queries of an image whose masks are made at once in training."""


class MaskDETR(nn.Module):
    """A detector, and upon it masks of its queries at the resolution of a fine map of its backbone.

    The masks are those of the last decoder layer. Each query looks at the coarsest map of the backbone as the encoder
    leaves it, which of a detector on several levels is one of them; finer maps join as the backbone gives them.
    Published is the one upon a DETR.
    """

    task: ClassVar[str] = "masks"
    makes_masks: ClassVar[bool] = True
    inside: ClassVar[str] = "detr"
    """The field with the detector, and the name under which its parameters stand."""

    detr: nn.Module = dataclasses.field(default_factory=DETR)
    """The detector inside: a DETR, Conditional DETR, DAB-DETR, Deformable DETR or DINO."""
    finer: int = 3
    """Feature maps of the backbone, besides the coarsest, that join on the way up; masks are as fine as the last. The
    detector's channels are a multiple of 16 times 2 to the power of this."""
    relative_attention: bool = False
    """What queries look at is given to the head in multiples of an even look, which it sees from the first step on; as
    shares of all, as published, it is a hundred times smaller than the map beside it, and learned late."""
    max_masks: int = 100
    """Most masks of an image outside of training: those of the queries with the best scores."""

    @property
    def family(self) -> str:
        """The file that says what there is to say of it."""
        return f"mask_{getattr(self.detr, 'family', 'detector')}"

    @property
    def scores(self) -> str | None:
        """What the logits are taken for."""
        return getattr(self.detr, "scores", None)

    @property
    def takes_targets(self) -> bool:
        """Whether the detector is given targets in training."""
        return getattr(self.detr, "takes_targets", False)

    @property
    def backbone(self) -> nn.Module:
        """That of the detector."""
        backbone: nn.Module = self._detector.backbone
        return backbone

    @property
    def num_classes(self) -> int | None:
        """Number of class labels, without 'no object'."""
        classes: int | None = self._detector.num_classes
        return classes

    @property
    def num_queries(self) -> int | None:
        """Most objects that can be found in one image."""
        queries: int | None = self._detector.num_queries
        return queries

    @nn.compact
    def __call__(
        self,
        images: Images,
        *,
        train: bool,
        matching: Callable[[Predictions], Assignment] | None = None,
        **given: Any,
    ) -> MaskPredictions:
        """Logits, boxes and masks.

        With `matching`, as in training, the masks are those of the queries of the objects, -1 where one has none, and
        nothing is computed for others; without, those of the `max_masks` best queries. What else is `given` is for the
        detector.

        Raises:
            FieldError: the backbone has too few feature maps, or `num_classes` is still None.
        """
        inner: Inner = self._detector.inner(images, train=train, **given)
        finer = self._finer(inner.features)
        assignment = None if matching is None else matching(inner.predictions)
        queries = self._best(inner.predictions) if assignment is None else assignment.queries[ANSWER][-1]
        asking = inner.queries[-1]
        if queries is not None:
            asking = jnp.take_along_axis(asking, jnp.maximum(queries, 0)[..., None], axis=1)
        masks = self._masks(inner, finer, asking, None if assignment is None or queries is None else queries >= 0)
        return MaskPredictions(inner.predictions, masks, finer[-1].valid, queries, assignment)

    def _masks(
        self,
        inner: Inner,
        finer: list[Feature],
        queries: Float[jax.Array, "batch chosen channels"],
        there: Bool[jax.Array, "batch chosen"] | None,
    ) -> Any:
        """The mask logits of queries, at once or, where it is said which are there, in parts."""
        heads, dtype, valid = self._detector.heads, self._detector.dtype, inner.features[-1].valid
        attend = MaskAttention(heads, dtype, self.relative_attention, name="mask_attention")
        attention = attend(queries, inner.memory, valid)
        head = MaskHead(dtype=dtype, name="mask_head")
        maps = (self._seen(valid), tuple(dataclasses.replace(x, valid=self._seen(x.valid)) for x in finer))
        if there is None:
            return head(inner.projected, attention, *maps)
        alone, variables = head.clone(parent=None), dict(head.variables)

        def of(attention: jax.Array) -> Any:
            return alone.apply(variables, inner.projected, attention, *maps)

        return in_parts(of, (attention,), there, each=TOGETHER)

    @property
    def _detector(self) -> Any:
        return self.detr

    def _finer(self, features: tuple[Feature, ...]) -> list[Feature]:
        """The maps that join, coarsest first."""
        if not 1 <= self.finer < len(features):
            raise FieldError(
                f"masks need a backbone of {self.finer + 1} feature maps or more; got {len(features)} from a "
                f"{type(self.backbone).__name__}."
            )
        return list(features[-2 : -self.finer - 2 : -1])

    def _best(self, predictions: Predictions) -> Int[jax.Array, "batch chosen"] | None:
        """The queries with the best scores in their order; None is all of them."""
        logits = predictions.logits[-1]
        if logits.shape[1] <= self.max_masks:
            return None
        scores = jax.nn.softmax(logits)[..., :-1] if self.scores == "softmax" else logits
        return jnp.sort(lax.top_k(scores.max(-1), self.max_masks)[1], axis=-1)

    def _seen(self, valid: Any) -> Any:
        """The pixels that convolutions and norms see; in the published code those of the padding too."""
        return valid if self._detector.padding == "exact" else jnp.ones_like(valid)
