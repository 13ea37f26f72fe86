"""Region proposals of two-stage Deformable DETR's encoder. Source: Zhu et al. 2021, section 4.2 and appendix A.4."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Bool, Float

from vitjax.detection.deformable_encoder import Memory, token_places
from vitjax.detection.levels import keep
from vitjax.detection.transformer import layer_norm
from vitjax.layers.linear import Dense
from vitjax.ops.boxes import inverse_sigmoid
from vitjax.ops.initializers import torch_bias
from vitjax.ops.positions import sine_of_boxes
from vitjax.ops.sampling import Shapes
from vitjax.structs import PredictionSet

_XAVIER = nn.initializers.xavier_uniform()
QueriesValid = Bool[Array, "batch queries"] | None  # None is all


class Proposals(nn.Module):
    """Every token proposes a box around itself; the best of them become the decoder's queries.

    `tokens` that propose, the `anchors` that they change (logits, infinite where unsound) and the indices of the
    `chosen`, best first, are sown into `intermediates`.
    """

    count: int

    @nn.compact
    def __call__(
        self,
        memory: Memory,
        class_head: Callable[[Array], Array],
        box_head: Callable[[Array], Array],
        leave_out: Bool[Array, "batch tokens"] | None,
    ) -> tuple[PredictionSet, Float[Array, "batch queries 4"], Float[Array, "batch queries both"], QueriesValid]:
        """All proposals, the cxcywh references of the best, and their (position, content) embeddings side by side.

        Tokens in `leave_out` are not trained and not chosen; where there are fewer others than queries, the queries
        that are left over are not valid. As published, the rank of a proposal is the logit of class 0, which is the
        only one that its training gives a meaning.
        """
        channels = memory.tokens.shape[-1]
        tokens, unbounded = proposing(memory)
        logits = class_head(tokens)
        boxes = jax.nn.sigmoid(box_head(tokens) + unbounded)

        rank = logits[..., 0] if leave_out is None else jnp.where(leave_out, -jnp.inf, logits[..., 0])
        best = lax.top_k(rank, min(self.count, rank.shape[1]))[1]
        keep(self, tokens=tokens, anchors=unbounded, chosen=best)
        chosen = lax.stop_gradient(jnp.take_along_axis(boxes, best[..., None], axis=1))
        position = sine_of_boxes(chosen, channels // 2)
        bias = torch_bias(position.shape[-1])
        project = Dense(2 * channels, kernel_init=_XAVIER, bias_init=bias, name="query_projection")
        embedding = layer_norm("query_norm", None)(project(position))
        counts, queries_valid = None, None
        if leave_out is not None:
            counts, queries_valid = ~leave_out[None], ~jnp.take_along_axis(leave_out, best, axis=1)
        return PredictionSet(logits[None], boxes[None], counts, rule="one class"), chosen, embedding, queries_valid


def proposing(memory: Memory) -> tuple[Float[Array, "batch tokens channels"], Float[Array, "batch tokens 4"]]:
    """The tokens that propose, and the logits of their anchors; for a compact method.

    Its `projection` and `norm` are made here.
    """
    channels = memory.tokens.shape[-1]
    tokens, anchors = candidates(memory)
    project = Dense(channels, kernel_init=_XAVIER, bias_init=torch_bias(channels), name="projection")
    return layer_norm("norm", None)(project(tokens)), anchors


def candidates(memory: Memory) -> tuple[Float[Array, "batch tokens channels"], Float[Array, "batch tokens 4"]]:
    """The tokens in float32 and the logits of the anchors on them: zero and infinite on padding and on the rim."""
    anchors, sound = anchors_of(memory.ratios, memory.shapes)
    able = (memory.valid & sound)[..., None]
    tokens = jnp.where(able, memory.tokens.astype(jnp.float32), 0)
    return tokens, jnp.where(able, inverse_sigmoid(anchors), jnp.inf)


def anchors_of(
    ratios: Float[Array, "batch levels 2"], shapes: Shapes
) -> tuple[Float[Array, "batch tokens 4"], Bool[Array, "batch tokens"]]:
    """A square cxcywh box on every token, twice as large on each coarser level, and whether it lies off the rim."""
    places = token_places(ratios, shapes)
    per_level = [jnp.full((height * width, 1), 0.05 * 2**level) for level, (height, width) in enumerate(shapes)]
    sides = jnp.broadcast_to(jnp.concatenate(per_level), places.shape)
    anchors = jnp.concatenate([places, sides], axis=-1)
    # On the limit is off it, also after rounding, else padding decides: the first of 50 cells has its centre there.
    low, high = 0.01 + 1e-6, 0.99 - 1e-6
    return anchors, jnp.all((anchors > low) & (anchors < high), axis=-1)
