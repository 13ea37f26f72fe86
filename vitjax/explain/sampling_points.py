"""Where a Deformable DETR samples an image: for one query or one pixel, on every level, with the attention weights."""

import dataclasses
import itertools
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, UInt8

from vitjax.data.memory import Picture
from vitjax.data.source import Classes
from vitjax.data.transforms import Resize
from vitjax.detection.deformable_detr import DeformableDETR
from vitjax.detection.deformable_encoder import token_places
from vitjax.errors import FieldError
from vitjax.explain.seen_image import look
from vitjax.ops.boxes import xyxy_from_cxcywh
from vitjax.prediction import name_of
from vitjax.structs import Batch, images_of


@dataclasses.dataclass(frozen=True)
class SamplingPoints:
    """What one query samples in one layer; all places are (x, y) or xyxy in pixels of the original image.

    `weights` are those of the attention: for each head they sum to 1 over levels and points. `box` is what a decoder
    query finds in the end, or the cell of an encoder's token; `reference_box` is what the points are scaled by, if so.
    """

    image: UInt8[np.ndarray, "height width 3"]
    query: str
    part: str
    layer: int
    layers: int
    heads: tuple[int, ...]
    strides: tuple[int, ...]
    tokens: tuple[tuple[int, int], ...]
    points: Float[np.ndarray, "heads levels points 2"]
    weights: Float[np.ndarray, "heads levels points"]
    reference: Float[np.ndarray, "2"]
    reference_box: Float[np.ndarray, "4"] | None
    box: Float[np.ndarray, "4"]
    label: str = ""
    score: float | None = None

    @property
    def outside(self) -> np.ndarray:
        """Which points lie outside the image, where the attention reads zeros: [heads, levels, points]."""
        height, width = self.image.shape[:2]
        return np.any((self.points < 0) | (self.points > (width, height)), axis=-1)

    @property
    def shares(self) -> Float[np.ndarray, " levels"]:
        """The part of the weight that lies on each level."""
        return self.weights.sum((0, 2)) / len(self.heads)

    def of_head(self, head: int) -> "SamplingPoints":
        """The points of one head alone.

        Raises:
            FieldError: there is no such head.
        """
        if head not in self.heads:
            raise FieldError(f"head is 0 to {len(self.heads) - 1} in the {self.part}; got {head}.")
        row = [self.heads.index(head)]
        return dataclasses.replace(self, heads=(head,), points=self.points[row], weights=self.weights[row])


@dataclasses.dataclass(frozen=True)
class SampledLayer:
    """All that one layer samples: `references` are (x, y) or xyxy; everything in pixels of the original image."""

    references: Float[np.ndarray, "queries _"]
    points: Float[np.ndarray, "queries heads levels points 2"]
    weights: Float[np.ndarray, "queries heads levels points"]


@dataclasses.dataclass(frozen=True)
class Sampling:
    """All that a Deformable DETR samples on one image, and what its decoder's queries find in the end.

    `maps` are the (height, width) of the levels, padding included, and `tokens` the part that lies on the image.
    """

    image: UInt8[np.ndarray, "height width 3"]
    maps: tuple[tuple[int, int], ...]
    tokens: tuple[tuple[int, int], ...]
    strides: tuple[int, ...]
    encoder: tuple[SampledLayer, ...]
    decoder: tuple[SampledLayer, ...]
    scores: Float[np.ndarray, " queries"]
    names: tuple[str, ...]
    boxes: Float[np.ndarray, "queries 4"]

    def of_query(self, query: int | None = None, *, layer: int = -1) -> SamplingPoints:
        """The points of a decoder query, by default of the one with the best score; layers count as in lists.

        Raises:
            FieldError: there is no such query or layer.
        """
        query = int(self.scores.argmax()) if query is None else query
        if not 0 <= query < len(self.scores):
            raise FieldError(f"query is 0 to {len(self.scores) - 1} in this decoder; got {query}.")
        points = self._points("decoder", self.decoder, layer, query, f"query {query}", self.boxes[query])
        return dataclasses.replace(points, label=self.names[query], score=float(self.scores[query]))

    def of_pixel(self, x: int, y: int, *, layer: int = -1, level: int = 0) -> SamplingPoints:
        """The points of the encoder's token that holds a pixel, on a level (the finest is 0); layers as in lists.

        Raises:
            FieldError: there is no such pixel, level or layer.
        """
        height, width = self.image.shape[:2]
        if not (0 <= x < width and 0 <= y < height):
            room = f"x from 0 to {width - 1} and y from 0 to {height - 1}"
            raise FieldError(f"a pixel of this image has {room}; got {x} {y}.")
        if not 0 <= level < len(self.maps):
            raise FieldError(f"level is 0, the finest, to {len(self.maps) - 1}; got {level}.")
        rows, columns = self.tokens[level]
        row, column = int((y + 0.5) / height * rows), int((x + 0.5) / width * columns)
        before = sum(map_height * map_width for map_height, map_width in self.maps[:level])
        token = before + row * self.maps[level][1] + column
        pixels = np.array([width / columns, height / rows] * 2)
        cell = np.array([column, row, column + 1, row + 1]) * pixels
        return self._points("encoder", self.encoder, layer, token, f"pixel ({x}, {y}) on level {level}", cell)

    def _points(
        self, part: str, layers: tuple[SampledLayer, ...], layer: int, row: int, query: str, box: np.ndarray
    ) -> SamplingPoints:
        count = len(layers)
        if not -count <= layer < count:
            raise FieldError(f"layer is 0 to {count - 1}, or -{count} to -1 from the end, in the {part}; got {layer}.")
        chosen, layer = layers[layer], layer % count
        reference = chosen.references[row]
        return SamplingPoints(
            image=self.image,
            query=query,
            part=part,
            layer=layer,
            layers=count,
            heads=tuple(range(chosen.points.shape[1])),
            strides=self.strides,
            tokens=self.tokens,
            points=chosen.points[row],
            weights=chosen.weights[row],
            reference=reference if len(reference) == 2 else (reference[:2] + reference[2:]) / 2,
            reference_box=reference if len(reference) == 4 else None,
            box=box,
        )


def sample(
    model: nn.Module,
    variables: Mapping[str, Any],
    picture: Picture,
    *,
    resize: Resize,
    classes: Classes,
    multiple: int = 32,
) -> Sampling:
    """Runs the model on one image, resized and padded to sides that are a multiple of `multiple`.

    Raises:
        FieldError: the model is no DeformableDETR.
        DataError: the image is missing or cannot be read.
    """
    if not isinstance(model, DeformableDETR):
        raise FieldError(
            "sampling points are those of a DeformableDETR, whose queries look at a few places; "
            f"this model is a {type(model).__name__}, which attends to the whole image."
        )
    image, batch = look(picture, classes, resize, multiple=multiple)
    run = jax.jit(lambda variables, batch: _run(model.clone(remat=False), variables, batch))
    return _in_pixels(image.pixels, jax.device_get(run(variables, batch)), classes, padded_height=batch.pixels.shape[1])


def _run(model: DeformableDETR, variables: Mapping[str, Any], batch: Batch) -> dict[str, Any]:
    """What is needed of the model's inner tensors, for the first image of the batch."""
    predictions: Any
    predictions, kept = model.apply(variables, images_of(batch), train=False, mutable=["intermediates"])
    sown = kept["intermediates"]

    def sampled(part: str, attention: str, layers: int) -> list[Any]:
        inner = [sown[part][f"layer_{i}"][attention] for i in range(layers)]
        return [(one["locations"][0][0], one["weights"][0][0]) for one in inner]

    return {
        "shapes": sown["level_shapes"][0],
        "ratios": sown["valid_ratios"][0],
        "encoder": sampled("encoder", "self_attention", model.encoder_layers),
        "decoder": sampled("decoder", "cross_attention", model.decoder_layers),
        "references": [one[0] for one in (*sown["initial_reference"], *sown["decoder"]["references"])],
        "logits": predictions.logits[-1, 0],
        "boxes": predictions.boxes[-1, 0],
    }


def _in_pixels(image: np.ndarray, seen: dict[str, Any], classes: Classes, padded_height: int) -> Sampling:
    """What `_run` gives, with everything in pixels of the original image."""
    maps = tuple((int(height), int(width)) for height, width in seen["shapes"])
    height, width = image.shape[:2]
    places = np.asarray(token_places(jnp.asarray(seen["ratios"]), maps))[0]

    def scaled(places: np.ndarray) -> np.ndarray:
        return places * np.array([width, height], np.float32)

    def layer(sampled: tuple[np.ndarray, np.ndarray], references: np.ndarray) -> SampledLayer:
        locations, weights = sampled
        return SampledLayer(references, scaled(locations / seen["ratios"][0, :, None]), weights)

    def corners(boxes: np.ndarray) -> np.ndarray:
        return scaled(np.asarray(xyxy_from_cxcywh(jnp.asarray(boxes))).reshape(-1, 2, 2)).reshape(-1, 4)

    references = [scaled(one) if one.shape[-1] == 2 else corners(one) for one in seen["references"]]
    return Sampling(
        image=image,
        maps=maps,
        tokens=tuple((round(h * y), round(w * x)) for (h, w), (x, y) in zip(maps, seen["ratios"][0], strict=True)),
        strides=_strides(maps, padded_height),
        encoder=tuple(layer(sampled, scaled(places)) for sampled in seen["encoder"]),
        # The last reference is that after the last layer.
        decoder=tuple(layer(*pair) for pair in zip(seen["decoder"], references, strict=False)),
        scores=1 / (1 + np.exp(-seen["logits"].max(-1))),
        names=tuple(name_of(classes, label) for label in seen["logits"].argmax(-1)),
        boxes=corners(seen["boxes"]),
    )


def _strides(maps: tuple[tuple[int, int], ...], height: int) -> tuple[int, ...]:
    """Pixels of the padded image between the tokens of each level; maps are halved, rounded up, or keep their size."""
    strides = [height // maps[0][0]]
    for before, after in itertools.pairwise(maps):
        same = before == after and before != (1, 1)
        strides.append(strides[-1] * (1 if same else 2))
    return tuple(strides)
