"""What a DETR attends to: for one query or one pixel the weight of every cell of the feature map, head by head."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, Self

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from vitjax.data.memory import Picture
from vitjax.data.source import Classes
from vitjax.data.transforms import Resize
from vitjax.detection.detr import DETR
from vitjax.errors import FieldError
from vitjax.explain.seen_image import SeenImage, look
from vitjax.ops.boxes import xyxy_from_cxcywh
from vitjax.prediction import name_of
from vitjax.structs import Batch, images_of


@dataclasses.dataclass(frozen=True, kw_only=True)
class AttentionMap:
    """The weights that one token or query gives to the cells of the image in one layer, padding left out.

    For each head they sum to 1, less what lies on padding. `box` is what a decoder query finds in the end, or the cell
    of a pixel's token: xyxy in pixels of the original image.
    """

    image: SeenImage
    stride: int
    query: str
    part: str
    layer: int
    layers: int
    heads: tuple[int, ...]
    weights: Float[np.ndarray, "heads rows columns"]
    box: Float[np.ndarray, "4"]
    pixel: tuple[int, int] | None = None
    label: str = ""
    score: float | None = None

    @property
    def mean(self) -> Float[np.ndarray, "rows columns"]:
        """The weights, averaged over the heads."""
        return self.weights.mean(0)

    @property
    def cells(self) -> Float[np.ndarray, "rows columns 4"]:
        """Where the cells lie, xyxy in pixels of the original image; the last ones may reach beyond it."""
        return self.image.cells((self.weights.shape[1], self.weights.shape[2]), self.stride)

    @property
    def on_padding(self) -> float:
        """The part of the weight that lies beyond the image; 0 where the model does without."""
        return max(0.0, 1 - float(self.mean.sum()))

    @property
    def in_box(self) -> float:
        """The part of the weight that lies in the box, where a cell counts by the part of it that does."""
        left, top, right, bottom = np.moveaxis(self.cells, -1, 0)
        across = np.minimum(right, self.box[2]) - np.maximum(left, self.box[0])
        down = np.minimum(bottom, self.box[3]) - np.maximum(top, self.box[1])
        covered = np.clip(across, 0, None) * np.clip(down, 0, None) / ((right - left) * (bottom - top))
        return float((self.mean * covered).sum())

    @property
    def place(self) -> str:
        """The layer in words."""
        last = "the last " if self.layer == self.layers - 1 else ""
        return f"{self.part} layer {self.layer} ({last}of {self.layers})"

    def of_head(self, head: int) -> Self:
        """The weights of one head alone.

        Raises:
            FieldError: there is no such head.
        """
        if head not in self.heads:
            raise FieldError(f"head is {self.heads[0]} to {self.heads[-1]} in the {self.part}; got {head}.")
        return dataclasses.replace(self, heads=(head,), weights=self.weights[[self.heads.index(head)]])


@dataclasses.dataclass(frozen=True)
class Attention:
    """All that a DETR attends to on one image, and what its queries find: boxes are xyxy in pixels of the original.

    `map` is the (rows, columns) of the feature map, padding included; its cells are the tokens, row by row.
    """

    image: SeenImage
    map: tuple[int, int]
    stride: int
    encoder: tuple[Float[np.ndarray, "heads tokens tokens"], ...]
    decoder: tuple[Float[np.ndarray, "heads queries tokens"], ...]
    scores: Float[np.ndarray, " queries"]
    names: tuple[str, ...]
    boxes: Float[np.ndarray, "queries 4"]

    def of_query(self, query: int | None = None, *, layer: int = -1) -> AttentionMap:
        """What a decoder query attends to, by default the one with the best score; layers count as in lists.

        Raises:
            FieldError: there is no such query or layer.
        """
        query = int(self.scores.argmax()) if query is None else query
        if not 0 <= query < len(self.scores):
            raise FieldError(f"query is 0 to {len(self.scores) - 1} in this decoder; got {query}.")
        found = {"box": self.boxes[query], "label": self.names[query], "score": float(self.scores[query])}
        return self._map("decoder", self.decoder, layer, query, query=f"query {query}", **found)

    def of_pixel(self, x: int, y: int, *, layer: int = -1) -> AttentionMap:
        """What the encoder's token that holds a pixel of the original image attends to; layers count as in lists.

        Raises:
            FieldError: there is no such pixel or layer.
        """
        row, column = self.image.token(x, y, self.map, self.stride)
        box = self.image.cells((row + 1, column + 1), self.stride)[row, column]
        token = row * self.map[1] + column
        return self._map("encoder", self.encoder, layer, token, query=f"pixel ({x}, {y})", box=box, pixel=(x, y))

    def _map(self, part: str, layers: tuple[np.ndarray, ...], layer: int, row: int, **fields: Any) -> AttentionMap:
        count = len(layers)
        if not -count <= layer < count:
            raise FieldError(f"layer is {indices(count)} in the {part}; got {layer}.")
        rows, columns = self.image.tokens(self.map, self.stride)
        weights = layers[layer][:, row].reshape(-1, *self.map)[:, :rows, :columns]
        known: dict[str, Any] = {"image": self.image, "stride": self.stride, "part": part, "layers": count}
        return AttentionMap(heads=tuple(range(len(weights))), weights=weights, layer=layer % count, **known, **fields)


def indices(count: int) -> str:
    """The numbers that so many things are asked for by, as in lists, in words."""
    if count <= 1:
        return "0, or -1 from the end," if count else "what this model has none of"
    return f"0 to {count - 1}, or -{count} to -1 from the end,"


def attend(
    model: nn.Module,
    variables: Mapping[str, Any],
    picture: Picture,
    *,
    resize: Resize,
    classes: Classes,
    multiple: int = 32,
) -> Attention:
    """Runs the model on one image, resized and padded to sides that are a multiple of `multiple`.

    Raises:
        FieldError: the model is no DETR.
        DataError: the image is missing or cannot be read.
    """
    if not isinstance(model, DETR):
        raise FieldError(
            "attention maps are those of a DETR, whose queries attend to the whole image; "
            f"this model is a {type(model).__name__} with a {type(getattr(model, 'backbone', None)).__name__}."
        )
    image, batch = look(picture, classes, resize, multiple=multiple)
    run = jax.jit(lambda variables, batch: _run(model, variables, batch))
    seen = jax.device_get(run(variables, batch))
    rows, columns = seen["map"].shape
    best = np.exp(seen["logits"] - seen["logits"].max(-1, keepdims=True))
    best = (best / best.sum(-1, keepdims=True))[:, :-1]  # the last class is 'no object'
    height, width = image.original
    return Attention(
        image=image,
        map=(rows, columns),
        stride=2 ** round(math.log2(batch.pixels.shape[1] / rows)),
        encoder=tuple(seen["encoder"]),
        decoder=tuple(seen["decoder"]),
        scores=best.max(-1),
        names=tuple(name_of(classes, label) for label in best.argmax(-1)),
        boxes=np.asarray(xyxy_from_cxcywh(jnp.asarray(seen["boxes"]))) * np.array([width, height] * 2, np.float32),
    )


def _run(model: DETR, variables: Mapping[str, Any], batch: Batch) -> dict[str, Any]:
    """What is needed of the model's inner tensors, for the first image of the batch."""
    predictions: Any
    predictions, kept = model.apply(variables, images_of(batch), train=False, mutable=["intermediates"])
    sown = kept["intermediates"]

    def weights(part: str, attention: str, layers: int) -> list[Any]:
        return [sown[part][f"layer_{i}"][attention]["weights"][0][0] for i in range(layers)]

    return {
        "map": sown["positions"][0][0, :, :, 0],
        "encoder": weights("encoder", "self_attention", model.encoder_layers),
        "decoder": weights("decoder", "cross_attention", model.decoder_layers),
        "logits": predictions.logits[-1, 0],
        "boxes": predictions.boxes[-1, 0],
    }
