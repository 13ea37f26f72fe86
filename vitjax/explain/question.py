"""What is asked of a model on an image: what a decoder's query, or the token at a pixel, looks at in one layer."""

import dataclasses
from typing import Any, Literal, Self

import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float

from vitjax.errors import FieldError
from vitjax.explain.seen_image import Grid, SeenImage
from vitjax.explain.subject import OfQueries, Subject, softmax
from vitjax.ops.boxes import xyxy_from_cxcywh
from vitjax.prediction import name_of


@dataclasses.dataclass(frozen=True)
class Question:
    """The query or pixel (x, y), in words too, and the layer of a part of the model, or the block of a stage.

    `box` is what a decoder's query finds in the end, or the cell of a pixel's token: xyxy in pixels of the original
    image. `label` and `score` are what the query finds, or what a classifier takes the image for. `mask` is what the
    query of a model with masks covers of the original image.
    """

    query: str
    box: Float[np.ndarray, "4"]
    pixel: tuple[int, int] | None = None
    label: str = ""
    score: float | None = None
    part: str = ""
    unit: Literal["layer", "block"] = "layer"
    layer: int = 0
    layers: int = 1
    mask: Bool[np.ndarray, "height width"] | None = None

    @classmethod
    def at(cls, grid: Grid, x: int, y: int, **known: Any) -> Self:
        """The token that holds a pixel of the original image.

        Raises:
            FieldError: there is no such pixel, or the model does not see it.
        """
        return cls(query=f"pixel ({x}, {y})", box=grid.box(x, y), pixel=(x, y), **known)

    def within(self, part: str, layers: int, layer: int, *, unit: Literal["layer", "block"] = "layer") -> Self:
        """The same in one of so many layers or blocks, which count as in lists.

        Raises:
            FieldError: there is no such layer or block.
        """
        if not -layers <= layer < layers:
            room = "0, or -1" if layers == 1 else f"0 to {layers - 1}, or -{layers} to -1"
            room = f"{room} from the end," if layers else "what this model has none of"
            raise FieldError(f"{unit} is {room} in {'the ' if unit == 'layer' else ''}{part}; got {layer}.")
        return dataclasses.replace(self, part=part, unit=unit, layer=layer % layers, layers=layers)

    @property
    def place(self) -> str:
        """The layer or block in words."""
        if self.unit == "block":
            return f"{self.part}, block {self.layer} (of {self.layers})"
        last = "the last " if self.layer == self.layers - 1 else ""
        return f"{self.part} layer {self.layer} ({last}of {self.layers})"

    def row_of(self, head: int, heads: tuple[int, ...]) -> list[int]:
        """The row of a head among some.

        Raises:
            FieldError: there is no such head.
        """
        if head not in heads:
            raise FieldError(f"head is {heads[0]} to {heads[-1]} in the {self.part}; got {head}.")
        return [heads.index(head)]


@dataclasses.dataclass(frozen=True)
class Queries:
    """What each query of a detector finds on an image: its best class, a box, xyxy in pixels of the original, and of a
    model with masks what it covers."""

    scores: Float[np.ndarray, " queries"]
    names: tuple[str, ...]
    boxes: Float[np.ndarray, "queries 4"]
    masks: OfQueries | None = None

    @classmethod
    def of(
        cls,
        subject: Subject,
        image: SeenImage,
        logits: Float[np.ndarray, "queries classes"],
        boxes: Float[np.ndarray, "queries 4"],
        masks: OfQueries | None = None,
    ) -> Self:
        """What logits and boxes, cxcywh as shares of the image, say."""
        if getattr(subject.model, "scores", None) == "softmax":
            chances = softmax(logits)[:, :-1]  # the last class is 'no object'
        else:
            chances = 1 / (1 + np.exp(-logits))
        labels = logits[:, : chances.shape[1]].argmax(-1)
        scores = np.take_along_axis(chances, labels[:, None], 1)[:, 0]
        names = tuple(name_of(subject.classes, label) for label in labels.tolist())
        return cls(scores, names, corners(boxes, image), masks)

    def number(self, query: int | None) -> int:
        """The query, by default that with the best score.

        Raises:
            FieldError: there is no such query.
        """
        query = int(self.scores.argmax()) if query is None else query
        if not 0 <= query < len(self.scores):
            raise FieldError(f"query is 0 to {len(self.scores) - 1} in this decoder; got {query}.")
        return query

    def asked(self, query: int) -> Question:
        """A query, with what it finds."""
        mask = None if self.masks is None else self.masks.get(query)
        found: dict[str, Any] = {"label": self.names[query], "score": float(self.scores[query]), "mask": mask}
        return Question(f"query {query}", self.boxes[query], None, **found)

    def ranked(self, threshold: float) -> list[int]:
        """The queries whose score reaches the threshold, best first."""
        return [int(query) for query in (-self.scores).argsort(kind="stable") if self.scores[query] >= threshold]


def corners(boxes: Float[np.ndarray, "boxes 4"], image: SeenImage) -> Float[np.ndarray, "boxes 4"]:
    """Boxes as xyxy in pixels of the original image, from cxcywh as shares of it."""
    height, width = image.original
    return np.asarray(xyxy_from_cxcywh(jnp.asarray(boxes))) * np.array([width, height] * 2, np.float32)
