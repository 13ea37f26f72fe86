"""The function that is exported, and how far what it says is from what the model says."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float, Int, UInt8

from vitjax.ops.boxes import xyxy_from_cxcywh
from vitjax.ops.images import framed_images
from vitjax.structs import Images, MaskPredictions

Outputs = dict[str, Any]


class Input(NamedTuple):
    """One argument of the exported function."""

    name: str
    shape: tuple[Any, ...]
    dtype: str
    meaning: str


class Example(NamedTuple):
    """Random images, each in the top left `sizes` (height, width) of its frame, and the sizes they are said to have."""

    pixels: UInt8[np.ndarray, "batch height width 3"]
    sizes: Int[np.ndarray, "batch 2"]
    original_sizes: Int[np.ndarray, "batch 2"]


@dataclasses.dataclass(frozen=True, eq=False)
class Program:
    """A model with its variables at one size of image; without `postprocess` it gives logits and cxcywh boxes.

    The post-processing takes logits, of a detector with boxes and the sizes of the images; its `scores` tell what they
    are logits of: "softmax" with 'no object' last, "sigmoid", or "classes".
    """

    model: nn.Module
    variables: dict[str, Any]
    height: int
    width: int
    preprocess: bool
    postprocess: Any | None

    def inputs(self, batch: Any) -> tuple[Input, ...]:
        """The arguments for so many images; `batch` may be a symbol."""
        frame = (batch, self.height, self.width)
        if self.preprocess:
            sizes = "height and width of each image, which lies top left in its frame"
            found = [Input("images", (*frame, 3), "uint8", "RGB pixels, zero beside the image")]
            found += [Input("sizes", (batch, 2), "int32", sizes)]
        else:
            found = [Input("pixels", (*frame, 3), "float32", "RGB, (value / 255 - mean) / deviation, zero beside")]
            found += [Input("valid", frame, "bool", "true on the pixels of the image, which lies top left")]
        if self._pixel_boxes:
            found += [Input("original_sizes", (batch, 2), "int32", "height and width that the boxes are to be told in")]
        return tuple(found)

    def __call__(self, *inputs: Array) -> Outputs:
        """What the model says of the images."""
        if self.preprocess:
            images = framed_images(*inputs[:2])
        else:
            images = Images(*inputs[:2])
        raw = self.raw(self.variables, images)
        if self.postprocess is None:
            return raw
        boxes = (raw["boxes"], inputs[2]) if self._pixel_boxes else ()
        found = dict(vars(self.postprocess(raw["logits"], *boxes)))
        if "masks" in raw:
            queries = self.postprocess.queries_of(raw["logits"], raw["boxes"])
            found["masks"] = jnp.take_along_axis(raw["masks"], queries[..., None, None], axis=1)
        return found

    def raw(self, variables: dict[str, Any], images: Images) -> Outputs:
        """The logits of a classifier; logits and boxes of the last decoder layer of a detector, and its mask logits."""
        answer: Any = self.model.apply(variables, images, train=False)
        if isinstance(answer, jax.Array):
            return {"logits": answer.astype(jnp.float32)}
        masks, queries = {}, None
        if isinstance(answer, MaskPredictions):
            masks, queries = {"masks": answer.masks.astype(jnp.float32)}, answer.queries
            answer = answer.predictions
        found = {name: getattr(answer, name)[-1].astype(jnp.float32) for name in ("logits", "boxes")}
        if queries is not None:  # of these there are masks
            found = {name: jnp.take_along_axis(x, queries[..., None], axis=1) for name, x in found.items()}
        return found | masks

    def arguments(self, example: Example) -> tuple[Any, ...]:
        """The example as the function takes it."""
        images = self.images(example)
        found = example[:2] if self.preprocess else (np.asarray(images.pixels), np.asarray(images.valid))
        return (*found, example.original_sizes) if self._pixel_boxes else found

    def images(self, example: Example) -> Images:
        """The example as the model takes it."""
        return framed_images(jnp.asarray(example.pixels), jnp.asarray(example.sizes))

    @property
    def _pixel_boxes(self) -> bool:
        return self.postprocess is not None and self.postprocess.scores != "classes"


def differences(program: Program, exported: Callable[..., Outputs], batch: int) -> dict[str, float]:
    """How far each output is from the model's own, as a share of the largest value, on whole and on padded images.

    Of equal scores any may come first, so detections are not compared in order. Sorted scores are compared with the
    model's sorted scores. Each label, box and mask is compared with those of the query that the model gives them to.
    """
    reference = jax.jit(program.raw)
    worst: dict[str, float] = {}
    for example in _examples(program, batch):
        found = _precise(exported(*program.arguments(example)))
        raw = _precise(reference(program.variables, program.images(example)))
        for name, value in _compared(program, found, raw, example).items():
            worst[name] = float(np.maximum(worst.get(name, 0.0), value))  # NaN stays
    return worst


def _examples(program: Program, batch: int) -> Iterator[Example]:
    rng = np.random.default_rng(0)
    frame = np.array([program.height, program.width])
    for smallest in (1.0, 0.5):
        sizes = np.maximum(rng.uniform(smallest, 1.0, (batch, 2)) * frame, 1).astype(np.int32)
        pixels = rng.integers(0, 256, (batch, *frame, 3), dtype=np.uint8)
        for image, (height, width) in zip(pixels, sizes, strict=True):
            image[height:] = image[:, width:] = 0
        yield Example(pixels, sizes, rng.integers(100, 1000, (batch, 2), dtype=np.int32))


def _precise(outputs: Outputs) -> dict[str, np.ndarray]:
    """Integers as they are, the rest in float64."""
    arrays = {name: np.asarray(value) for name, value in outputs.items()}
    return {name: array if array.dtype.kind in "iu" else array.astype(np.float64) for name, array in arrays.items()}


def _compared(
    program: Program, found: dict[str, np.ndarray], raw: dict[str, np.ndarray], example: Example
) -> dict[str, float]:
    if program.postprocess is None:
        return {name: _distance(found[name], raw[name]) for name in raw}
    scores = _scores(program.postprocess.scores, raw["logits"])
    best = scores.max(-1) if program.postprocess.scores == "softmax" else scores.reshape(len(scores), -1)
    if getattr(program.postprocess, "nms", None) is not None:
        arrays = (jnp.asarray(raw[name], jnp.float32) for name in ("logits", "boxes"))
        best = np.asarray(program.postprocess(*arrays, jnp.asarray(example.original_sizes)).scores, np.float64)
    count = found["scores"].shape[1]
    result = {"scores": _distance(-np.sort(-found["scores"]), -np.sort(-best)[:, :count])}
    if "boxes" not in raw:
        own = np.take_along_axis(scores, found["labels"], 1)
        return result | {"labels": _distance(found["scores"], own)}
    scale = example.original_sizes[:, None, [1, 0, 1, 0]]
    boxes = np.asarray(xyxy_from_cxcywh(jnp.asarray(raw["boxes"]))) * scale
    explained, queries = _explained(found, scores, boxes)
    if "masks" in raw:
        own = np.take_along_axis(raw["masks"], queries[..., None, None], 1)
        explained["masks"] = _distance(found["masks"], own)
    return result | explained


def _scores(kind: str, logits: np.ndarray) -> np.ndarray:
    """The scores that a post-processing of a kind takes logits for."""
    if kind == "sigmoid":
        return 1 / (1 + np.exp(-logits))
    exponentials = np.exp(logits - logits.max(-1, keepdims=True))
    probabilities = exponentials / exponentials.sum(-1, keepdims=True)
    return probabilities[..., :-1] if kind == "softmax" else probabilities


def _explained(
    found: dict[str, np.ndarray],
    scores: Float[np.ndarray, "batch queries classes"],
    boxes: Float[np.ndarray, "batch queries 4"],
) -> tuple[dict[str, float], Int[np.ndarray, "batch detections"]]:
    """The distance of each detection to the model's nearest query, in score of the detection's label and in box, and
    these queries."""
    own = np.take_along_axis(scores, found["labels"][:, None, :], 2)  # batch queries detections
    told = np.where(found["scores"] > 0, 1.0, 0.0)[:, None]  # a double has lost its score
    by_score = told * np.abs(own - found["scores"][:, None, :]) / np.abs(scores).max()
    by_box = np.abs(boxes[:, :, None] - found["boxes"][:, None]).max(-1) / np.abs(boxes).max()
    nearest = np.maximum(by_score, by_box).argmin(1, keepdims=True)
    taken = {"labels": by_score, "boxes": by_box}
    distances = {name: float(np.take_along_axis(part, nearest, 1).max()) for name, part in taken.items()}
    return distances, nearest[:, 0]


def _distance(found: np.ndarray, wanted: np.ndarray) -> float:
    return float(np.abs(found - wanted).max() / np.maximum(np.abs(wanted).max(), np.finfo(np.float32).tiny))
