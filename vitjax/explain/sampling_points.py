"""Where a deformable detector samples an image: for a query or a pixel, on every level, with the attention weights."""

import dataclasses
import itertools
import math
from typing import Any, Self

import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float

from vitjax.data.memory import Picture
from vitjax.detection.deformable_encoder import token_places
from vitjax.errors import FieldError
from vitjax.explain.question import Queries, Question, corners
from vitjax.explain.seen_image import Grid, SeenImage, Size
from vitjax.explain.subject import Sown, Subject, numbered


@dataclasses.dataclass(frozen=True)
class Origin:
    """The token whose proposal became a query: its level, and its cell, xyxy in pixels of the original image."""

    level: int
    cell: Float[np.ndarray, "4"]

    @property
    def words(self) -> str:
        """Where the query comes from."""
        x, y = ((self.cell[:2] + self.cell[2:]) / 2).astype(int)
        return f"proposed at pixel ({x}, {y}) on level {self.level}"


@dataclasses.dataclass(frozen=True)
class SamplingPoints:
    """What is sampled for what is asked; all places are (x, y) or xyxy in pixels of the original image.

    `weights` are those of the attention: for each head they sum to 1 over levels and points. `reference_box` is what
    the points are scaled by, if so; `origin` is where the query comes from, if that is a proposal.
    """

    question: Question
    grids: tuple[Grid, ...]
    heads: tuple[int, ...]
    points: Float[np.ndarray, "heads levels points 2"]
    weights: Float[np.ndarray, "heads levels points"]
    reference: Float[np.ndarray, "2"]
    reference_box: Float[np.ndarray, "4"] | None
    origin: Origin | None = None

    @property
    def image(self) -> SeenImage:
        """The image that is sampled."""
        return self.grids[0].image

    @property
    def outside(self) -> Bool[np.ndarray, "heads levels points"]:
        """Which points lie outside the image, where the attention reads zeros."""
        return np.any((self.points < 0) | (self.points > self.image.original[::-1]), axis=-1)

    @property
    def shares(self) -> Float[np.ndarray, " levels"]:
        """The part of the weight that lies on each level."""
        return self.weights.sum((0, 2)) / len(self.heads)

    def of_head(self, head: int) -> Self:
        """The points of one head alone.

        Raises:
            FieldError: there is no such head.
        """
        row = self.question.row_of(head, self.heads)
        return dataclasses.replace(self, heads=(head,), points=self.points[row], weights=self.weights[row])


@dataclasses.dataclass(frozen=True)
class SampledLayer:
    """All that one layer samples: `references` are (x, y) or xyxy; everything in pixels of the original image."""

    references: Float[np.ndarray, "queries _"]
    points: Float[np.ndarray, "queries heads levels points 2"]
    weights: Float[np.ndarray, "queries heads levels points"]


@dataclasses.dataclass(frozen=True)
class Sampling:
    """All that a deformable detector samples on one image, level by level of `grids`, and what its queries find.

    The model takes the tokens of each level that lie on the image for all of it: their cells are stretched to cover it.
    The queries of a two-stage model have `origins`.
    """

    grids: tuple[Grid, ...]
    encoder: tuple[SampledLayer, ...]
    decoder: tuple[SampledLayer, ...]
    queries: Queries
    origins: tuple[Origin, ...] | None = None

    def of_query(self, query: int | None = None, *, layer: int = -1) -> SamplingPoints:
        """The points of a decoder query, by default of the one with the best score; layers count as in lists.

        Raises:
            FieldError: there is no such query or layer.
        """
        query = self.queries.number(query)
        question = self.queries.asked(query).within("decoder", len(self.decoder), layer)
        points = self._points(question, self.decoder[layer], query)
        return points if self.origins is None else dataclasses.replace(points, origin=self.origins[query])

    def of_pixel(self, x: int, y: int, *, layer: int = -1, level: int = 0) -> SamplingPoints:
        """The points of the encoder's token that holds a pixel, on a level (the finest is 0); layers as in lists.

        Raises:
            FieldError: there is no such pixel, level or layer.
        """
        if not 0 <= level < len(self.grids):
            raise FieldError(f"level is 0, the finest, to {len(self.grids) - 1}; got {level}.")
        question = Question.at(self.grids[level], x, y).within("encoder", len(self.encoder), layer)
        before = sum(math.prod(grid.map) for grid in self.grids[:level])
        question = dataclasses.replace(question, query=f"{question.query} on level {level}")
        return self._points(question, self.encoder[layer], before + self.grids[level].token(x, y))

    def _points(self, question: Question, layer: SampledLayer, row: int) -> SamplingPoints:
        points, reference = layer.points[row], layer.references[row]
        boxed = len(reference) == 4
        return SamplingPoints(
            question,
            self.grids,
            heads=tuple(range(len(points))),
            points=points,
            weights=layer.weights[row],
            reference=(reference[:2] + reference[2:]) / 2 if boxed else reference,
            reference_box=reference if boxed else None,
        )


def sampling_of(subject: Subject, picture: Picture) -> Sampling:
    """Where a deformable detector samples one image.

    Raises:
        FieldError: the model is no DeformableDETR and no DINO.
        DataError: the image is missing or cannot be read.
    """
    if not subject.has("sampling"):
        raise FieldError(
            "sampling points are those of a DeformableDETR or DINO, whose queries look at a few places; "
            f"this model is a {type(subject.model).__name__}, which attends to the whole image."
        )
    run = subject.run(picture, _kept, masks=True)
    image, seen = run.image, run.kept
    maps = tuple((int(height), int(width)) for height, width in seen["shapes"])
    ratios = seen["ratios"][0]
    pixels = np.array(image.original[::-1], np.float32)
    places = np.asarray(token_places(jnp.asarray(seen["ratios"]), maps))[0] * pixels
    references = [one * pixels if one.shape[-1] == 2 else corners(one, image) for one in seen["references"]]

    def layer(sampled: dict[str, np.ndarray], references: np.ndarray) -> SampledLayer:
        return SampledLayer(references, sampled["locations"] / ratios[:, None] * pixels, sampled["weights"])

    grids = tuple(_grid(image, *level) for level in zip(maps, ratios, _strides(maps, run.padded[0]), strict=True))
    return Sampling(
        grids,
        tuple(layer(sampled, places) for sampled in seen["encoder"]),
        # The last reference is that after the last layer.
        tuple(layer(*pair) for pair in zip(seen["decoder"], references, strict=False)),
        Queries.of(subject, image, seen["logits"], seen["boxes"], run.masks),
        None if seen["chosen"] is None else tuple(_origin(grids, int(token)) for token in seen["chosen"]),
    )


def _kept(predictions: Any, sown: Sown) -> dict[str, Any]:
    """What is needed for the first image of the batch."""

    def sampled(part: str, attention: str) -> list[Sown]:
        inner = [one[attention] for one in numbered(sown.get(part, {}), "layer")]
        return [{name: one[name][0][0] for name in ("locations", "weights")} for one in inner]

    return {
        "shapes": sown["level_shapes"][0],
        "ratios": sown["valid_ratios"][0],
        "encoder": sampled("encoder", "self_attention"),
        "decoder": sampled("decoder", "cross_attention"),
        "references": [one[0] for one in (*sown["initial_reference"], *sown["decoder"]["references"])],
        "chosen": sown["proposals"]["chosen"][0][0] if "proposals" in sown else None,
        "logits": predictions.logits[-1, 0],
        "boxes": predictions.boxes[-1, 0],
    }


def _grid(image: SeenImage, map: Size, ratio: Float[np.ndarray, "2"], stride: int) -> Grid:
    """A level, of whose width and height that `ratio` lies on the image."""
    tokens = round(map[0] * ratio[1]), round(map[1] * ratio[0])
    return Grid(image, map, tokens, stride, np.array(image.original[::-1]) / tokens[::-1])


def _origin(grids: tuple[Grid, ...], token: int) -> Origin:
    """Where a token lies, of all levels in a row."""
    level = 0
    while token >= math.prod(grids[level].map):
        token -= math.prod(grids[level].map)
        level += 1
    row, column = divmod(token, grids[level].map[1])
    return Origin(level, np.array([column, row, column + 1, row + 1]) * np.tile(grids[level].cell, 2))


def _strides(maps: tuple[Size, ...], height: int) -> tuple[int, ...]:
    """Pixels of the padded image between the tokens of each level; maps are halved, rounded up, or keep their size."""
    strides = [height // maps[0][0]]
    for before, after in itertools.pairwise(maps):
        same = before == after and before != (1, 1)
        strides.append(strides[-1] * (1 if same else 2))
    return tuple(strides)
