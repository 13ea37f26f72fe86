"""Which tokens of a CrossFormer attend to each other: a pixel's group in a block, with its attention weights."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from jaxtyping import Bool, Float, Int

from vitjax.backbones.crossformer import STRIDE, CrossFormer, CrossFormerStage
from vitjax.classification.classifier import Classifier
from vitjax.data.crops import CenterCrop
from vitjax.data.memory import Picture
from vitjax.data.source import Classes
from vitjax.data.transforms import Resize
from vitjax.detection.deformable_detr import DeformableDETR
from vitjax.errors import FieldError
from vitjax.explain.attention_maps import AttentionMap, indices
from vitjax.explain.seen_image import SeenImage, look
from vitjax.prediction import name_of
from vitjax.structs import Batch, images_of


@dataclasses.dataclass(frozen=True, kw_only=True)
class GroupMap(AttentionMap):
    """What a pixel's token attends to in one block, `layer`, of a stage: the `members` of its group alone.

    `interval` tokens lie from one member to the next: 1 makes a window (short distance), more is long distance. `label`
    and `score` are what a classifier takes the image for.
    """

    members: Bool[np.ndarray, "rows columns"]
    interval: int

    @property
    def place(self) -> str:
        """The block in words."""
        return f"{self.part}, block {self.layer} (of {self.layers})"

    @property
    def spread(self) -> str:
        """How the group lies on the map, in words."""
        rows, columns = (int(self.members.any(axis).sum()) for axis in (1, 0))
        size = f"{rows} x {columns} tokens"
        return f"{size}, neighbours" if self.interval == 1 else f"{size}, every {_ordinal(self.interval)}"


@dataclasses.dataclass(frozen=True)
class GroupedBlock:
    """One block of a CrossFormer: the number of every group's tokens on the map, -1 on its padding, and all weights."""

    tokens: Int[np.ndarray, "groups members"]
    weights: Float[np.ndarray, "groups heads members members"]

    def interval(self, columns: int) -> int:
        """Tokens from one member of a group to the next, on a map of so many columns."""
        ahead = np.diff(self.tokens)
        both = np.minimum(self.tokens[:, 1:], self.tokens[:, :-1]) >= 0
        rows = np.diff(self.tokens // columns)
        across, down = ahead[both & (rows == 0)], rows[both & (rows > 0)]
        return int(across.min() if across.size else down.min() if down.size else 1)


@dataclasses.dataclass(frozen=True)
class Groups:
    """All groups of a CrossFormer on one image, block by block; `maps` are each stage's (rows, columns), padded."""

    image: SeenImage
    maps: tuple[tuple[int, int], ...]
    stages: tuple[tuple[GroupedBlock, ...], ...]
    label: str = ""
    score: float | None = None

    def of_pixel(self, x: int, y: int, *, stage: int = 1, block: int = 0) -> GroupMap:
        """The group of the token that holds a pixel of the original image; blocks count from 0, or as in lists.

        Raises:
            FieldError: there is no such pixel, stage or block.
        """
        blocks, size, stride = self._stage(stage), self.maps[stage - 1], STRIDE * 2 ** (stage - 1)
        count = len(blocks)
        if not -count <= block < count:
            raise FieldError(f"block is {indices(count)} in stage {stage}; got {block}.")
        row, column = self.image.token(x, y, size, stride)
        chosen = blocks[block]
        group, place = (int(axis[0]) for axis in np.nonzero(chosen.tokens == row * size[1] + column))
        tokens, weights = chosen.tokens[group], chosen.weights[group, :, place]
        spread = np.zeros((len(weights), size[0] * size[1]), np.float32)
        spread[:, tokens[tokens >= 0]] = weights[:, tokens >= 0]
        members = np.isin(np.arange(size[0] * size[1]), tokens).reshape(size)
        rows, columns = self.image.tokens(size, stride)
        return GroupMap(
            image=self.image,
            stride=stride,
            query=f"pixel ({x}, {y})",
            part=f"stage {stage}",
            layer=block % count,
            layers=count,
            heads=tuple(range(len(weights))),
            weights=spread.reshape(-1, *size)[:, :rows, :columns],
            box=self.image.cells((row + 1, column + 1), stride)[row, column],
            pixel=(x, y),
            label=self.label,
            score=self.score,
            members=members[:rows, :columns],
            interval=chosen.interval(size[1]),
        )

    def both(self, x: int, y: int, *, stage: int = 1) -> tuple[GroupMap, ...]:
        """A pixel's groups in the first short and the first long distance block of a stage, as far as it has both.

        Raises:
            FieldError: there is no such pixel or stage.
        """
        found = [self.of_pixel(x, y, stage=stage, block=block) for block in range(len(self._stage(stage)))]
        short, far = ([one for one in found if (one.interval > 1) == long][:1] for long in (False, True))
        return (*short, *far)

    def _stage(self, stage: int) -> tuple[GroupedBlock, ...]:
        if not 1 <= stage <= len(self.stages):
            raise FieldError(f"stage is 1, the finest, to {len(self.stages)} in this CrossFormer; got {stage}.")
        return self.stages[stage - 1]


def group(
    model: nn.Module,
    variables: Mapping[str, Any],
    picture: Picture,
    *,
    preprocess: Resize | CenterCrop,
    classes: Classes,
    multiple: int = 32,
) -> Groups:
    """Runs a classifier or a detector with a CrossFormer on one image, cropped or resized as `preprocess` says.

    Raises:
        FieldError: the model has no CrossFormer.
        DataError: the image is missing or cannot be read.
    """
    backbone: Any = getattr(model, "backbone", model)
    if not isinstance(backbone, CrossFormer):
        has = f"a {type(model).__name__} with a {type(backbone).__name__}"
        raise FieldError(
            f"groups of tokens are those of a CrossFormer; this model is {has}, which has no such attention."
        )
    image, batch = look(picture, classes, preprocess, multiple=multiple)
    model = model.clone(remat=False) if isinstance(model, DeformableDETR) else model
    run = jax.jit(lambda variables, batch: _run(model, backbone, variables, batch))
    seen = jax.device_get(run(variables, batch))
    groups = Groups(
        image=image,
        maps=tuple(map.shape for map in seen["maps"]),
        stages=tuple(tuple(GroupedBlock(*block) for block in stage) for stage in seen["stages"]),
    )
    if not isinstance(model, Classifier):
        return groups
    odds = np.exp(seen["logits"] - seen["logits"].max())
    best = int(odds.argmax())
    return dataclasses.replace(groups, label=name_of(classes, best), score=float(odds[best] / odds.sum()))


def _run(model: nn.Module, backbone: CrossFormer, variables: Mapping[str, Any], batch: Batch) -> dict[str, Any]:
    """Tokens and weights of every block for the first image, a tensor as large as each stage's map, and logits."""
    answer: Any
    answer, kept = model.apply(
        variables,
        images_of(batch),
        train=False,
        mutable=["intermediates"],
        capture_intermediates=lambda module, method: isinstance(module, CrossFormerStage) and method == "__call__",
    )
    sown = [kept["intermediates"]["backbone"][f"stage_{i + 1}"] for i in range(len(backbone.depths))]
    inner = [
        [stage[f"block_{i}"]["attention"] for i in range(n)] for stage, n in zip(sown, backbone.depths, strict=True)
    ]
    return {
        "stages": [[(one["tokens"][0], one["weights"][0][0]) for one in blocks] for blocks in inner],
        "maps": [stage["__call__"][0][0][0, :, :, 0] for stage in sown],  # a stage gives its map and what is valid
        "logits": answer[0] if isinstance(model, Classifier) else None,
    }


def _ordinal(number: int) -> str:
    ending = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"
