"""The pytrees that are handed from room to room; `valid` is always True on what is real.

Axes: batch, height, width, channels, queries, objects, layers, classes. Images are NHWC and RGB. Boxes inside the
model are cxcywh relative to the unpadded image, in [0, 1]; boxes for people are xyxy in pixels of the original image.
"""

from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from flax import struct
from jax import Array
from jaxtyping import Bool, Float, Int, UInt8

from vitjax.batch import Batch, Targets

# "exact": a padded image gives what it gives alone; "reference": padding leaks as it does in the published code.
Padding = Literal["exact", "reference"]

jax.tree_util.register_dataclass(Targets)
jax.tree_util.register_dataclass(Batch)


@struct.dataclass
class Images:
    """A batch of images, normalised, zero where `valid` is False (bottom and right padding)."""

    pixels: Float[Array, "batch height width 3"]
    valid: Bool[Array, "batch height width"]


@struct.dataclass
class Feature:
    """One feature map of a backbone, with the pixels that lie on the image."""

    values: Float[Array, "batch height width channels"]
    valid: Bool[Array, "batch height width"]


@struct.dataclass
class ClassTargets:
    """What images show: a probability of every class, which may be shared among several (mixup, cutmix)."""

    probabilities: Float[Array, "batch classes"]
    valid: Bool[Array, " batch"]


@struct.dataclass
class Mean:
    """A sum and what it is to be divided by, per layer of predictions: means over devices or batches stay exact.

    Both add up over the parts of a batch; it is divided by `least` where the count of the whole is smaller.
    """

    total: Float[Array, "*layers"]
    count: Float[Array, "*layers"]
    least: float = struct.field(pytree_node=False, default=0.0)

    @property
    def value(self) -> Float[Array, "*layers"]:
        """The mean; NaN where nothing was counted and `least` is 0."""
        return self.total / jnp.maximum(self.count, self.least)


Terms = dict[str, Mean]
LOGGED = ("class_error", "cardinality_error", "unmatched")
"""What names of terms end with that are told, of the last layer alone, and have no weight."""


Rule = Literal["matched", "one class", "given"]
ANSWER = "decoder"
"""The set of predictions that is the answer."""


@struct.dataclass
class PredictionSet:
    """Logits and cxcywh boxes of one kind of queries in a row of layers, and the rule that assigns objects to them.

    'matched': each object to one query, as is cheapest. 'one class': the same, with every object as class 0. 'given':
    the model says it in `objects`, which has the object of each query, -1 for none; an object may have many queries.
    `valid` tells the queries that count, None is all of them.
    """

    logits: Float[Array, "layers batch queries classes"]
    boxes: Float[Array, "layers batch queries 4"]
    valid: Bool[Array, "layers batch queries"] | None = None
    objects: Int[Array, "layers batch queries"] | None = None
    rule: Rule = struct.field(pytree_node=False, default="matched")


@struct.dataclass
class Predictions:
    """What a detector says, in sets by name; the loss is a sum over them.

    The answer is the last layer of the set 'decoder', whose other layers are auxiliary. Further sets only train: a
    two-stage detector's 'proposal' is one layer, whose queries are the tokens of the image.
    """

    sets: dict[str, PredictionSet]

    @property
    def logits(self) -> Float[Array, "layers batch queries classes"]:
        """Those of the answer's set."""
        return self.sets[ANSWER].logits

    @property
    def boxes(self) -> Float[Array, "layers batch queries 4"]:
        """Those of the answer's set."""
        return self.sets[ANSWER].boxes

    @property
    def valid(self) -> Bool[Array, "layers batch queries"] | None:
        """That of the answer's set."""
        return self.sets[ANSWER].valid


class Inner(NamedTuple):
    """What a detector says of a batch of images, and what a head for masks is made of besides.

    `features` are all maps of the backbone; `projected` and `memory` are of the coarsest of them, before and after the
    encoder. The queries are those of the predictions' answer.
    """

    predictions: Predictions
    features: tuple[Feature, ...]
    projected: Float[Array, "batch h w channels"]
    memory: Float[Array, "batch h w channels"]
    queries: Float[Array, "layers batch queries channels"]


@struct.dataclass
class Assignment:
    """For every target object the query that is to predict it, in each set that is matched; -1 where none is left.

    Meaningless where the target is not valid.
    """

    queries: dict[str, Int[Array, "layers batch objects"]]


@struct.dataclass
class PixelLogits:
    """Logits of every pixel of a batch of images; the first output is the answer, the others only help to train.

    `auxiliary` is the output of a second head on an earlier feature map, where a model has one.
    """

    outputs: Float[Array, "outputs batch height width classes"]
    auxiliary: Float[Array, "batch height width classes"] | None = None


@struct.dataclass
class Detections:
    """Boxes for people: xyxy in pixels of the original image, with score and label, best first or in query order."""

    scores: Float[Array, "batch detections"]
    labels: Int[Array, "batch detections"]
    boxes: Float[Array, "batch detections 4"]


@struct.dataclass
class Ranking:
    """The most probable classes of every image, best first."""

    scores: Float[Array, "batch k"]
    labels: Int[Array, "batch k"]


@struct.dataclass
class MaskPredictions:
    """What a detector with a mask head says: what the detector in it says, and mask logits of its last layer.

    The masks are those of `queries`, None is of all in their order; where objects were matched, of the query of each
    object, -1 where it has none. `valid` tells the pixels of the masks that lie on the image.
    """

    predictions: Predictions
    masks: Float[Array, "batch chosen h w"]
    valid: Bool[Array, "batch h w"]
    queries: Int[Array, "batch chosen"] | None = None
    assignment: Assignment | None = None


@struct.dataclass
class MaskDetections:
    """Detections, with what the mask of each is made of on the host.

    `sizes` and `original_sizes` are (height, width) of the image as the model saw it and as it came from disk.
    """

    detections: Detections
    masks: Float[Array, "batch detections h w"]
    valid: Bool[Array, "batch h w"]
    sizes: Int[Array, "batch 2"]
    original_sizes: Int[Array, "batch 2"]


@struct.dataclass
class LabelMaps:
    """The class of every pixel of a batch, padding included; the sizes are as with MaskDetections."""

    labels: UInt8[Array, "batch height width"]
    sizes: Int[Array, "batch 2"]
    original_sizes: Int[Array, "batch 2"]


PyTree = Any
