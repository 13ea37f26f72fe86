"""What a DETR attends to: for one query or one pixel the weight of every cell of the feature map, head by head."""

import dataclasses
import math
from typing import Any, Self

import numpy as np
from jaxtyping import Float

from vitjax.data.memory import Picture
from vitjax.errors import FieldError
from vitjax.explain.question import Queries, Question
from vitjax.explain.seen_image import Grid
from vitjax.explain.subject import Sown, Subject, numbered


@dataclasses.dataclass(frozen=True)
class AttentionMap:
    """The weights that what is asked gives to the cells of the image, padding left out.

    For each head they sum to 1, less what lies on padding.
    """

    question: Question
    grid: Grid
    heads: tuple[int, ...]
    weights: Float[np.ndarray, "heads rows columns"]

    @property
    def mean(self) -> Float[np.ndarray, "rows columns"]:
        """The weights, averaged over the heads."""
        return self.weights.mean(0)

    @property
    def on_padding(self) -> float:
        """The part of the weight that lies beyond the image; 0 where the model does without."""
        return max(0.0, 1 - float(self.mean.sum()))

    @property
    def in_box(self) -> float:
        """The part of the weight that lies in the box that is asked for; a cell counts by the part of it that does."""
        low, high = np.split(self.grid.cells, 2, axis=-1)
        shared = np.minimum(high, self.question.box[2:]) - np.maximum(low, self.question.box[:2])
        covered = np.clip(shared, 0, None).prod(-1) / (high - low).prod(-1)
        return float((self.mean * covered).sum())

    def of_head(self, head: int) -> Self:
        """The weights of one head alone.

        Raises:
            FieldError: there is no such head.
        """
        return dataclasses.replace(self, heads=(head,), weights=self.weights[self.question.row_of(head, self.heads)])


@dataclasses.dataclass(frozen=True)
class Attention:
    """All that a DETR attends to on one image, whose tokens are the cells of `grid`, and what its queries find."""

    grid: Grid
    encoder: tuple[Float[np.ndarray, "heads tokens tokens"], ...]
    decoder: tuple[Float[np.ndarray, "heads queries tokens"], ...]
    queries: Queries

    def of_query(self, query: int | None = None, *, layer: int = -1) -> AttentionMap:
        """What a decoder query attends to, by default the one with the best score; layers count as in lists.

        Raises:
            FieldError: there is no such query or layer.
        """
        query = self.queries.number(query)
        question = self.queries.asked(query).within("decoder", len(self.decoder), layer)
        return self._map(question, self.decoder[layer][:, query])

    def of_pixel(self, x: int, y: int, *, layer: int = -1) -> AttentionMap:
        """What the encoder's token that holds a pixel of the original image attends to; layers count as in lists.

        Raises:
            FieldError: there is no such pixel or layer.
        """
        question = Question.at(self.grid, x, y).within("encoder", len(self.encoder), layer)
        return self._map(question, self.encoder[layer][:, self.grid.token(x, y)])

    def _map(self, question: Question, weights: Float[np.ndarray, "heads tokens"]) -> AttentionMap:
        return AttentionMap(question, self.grid, tuple(range(len(weights))), self.grid.on_image(weights))


def attention_of(subject: Subject, picture: Picture) -> Attention:
    """What a DETR attends to on one image.

    Raises:
        FieldError: the model is no DETR.
        DataError: the image is missing or cannot be read.
    """
    if not subject.has("attention"):
        raise FieldError(
            "attention maps are those of a DETR, whose queries attend to the whole image; "
            f"this model is {subject.called}."
        )
    run = subject.run(picture, _kept, masks=True)
    image, seen = run.image, run.kept
    rows, columns = seen["map"].shape
    return Attention(
        image.grid((rows, columns), 2 ** round(math.log2(run.padded[0] / rows))),
        tuple(seen["encoder"]),
        tuple(seen["decoder"]),
        Queries.of(subject, image, seen["logits"], seen["boxes"], run.masks),
    )


def _kept(predictions: Any, sown: Sown) -> dict[str, Any]:
    """What is needed for the first image of the batch."""
    return {
        "map": sown["positions"][0][0, :, :, 0],
        "encoder": [one["self_attention"]["weights"][0][0] for one in numbered(sown.get("encoder", {}), "layer")],
        "decoder": [one["cross_attention"]["weights"][0][0] for one in numbered(sown["decoder"], "layer")],
        "logits": predictions.logits[-1, 0],
        "boxes": predictions.boxes[-1, 0],
    }
