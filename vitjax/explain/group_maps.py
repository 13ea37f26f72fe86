"""Which tokens of a CrossFormer attend to each other: a pixel's group in a block, with its attention weights."""

import dataclasses
from typing import Any, Self

import numpy as np
from jaxtyping import Bool, Float, Int

from vitjax.backbones.crossformer import STRIDE
from vitjax.data.memory import Picture
from vitjax.errors import FieldError
from vitjax.explain.attention_maps import AttentionMap
from vitjax.explain.question import Question
from vitjax.explain.seen_image import Grid
from vitjax.explain.subject import Sown, Subject, numbered


@dataclasses.dataclass(frozen=True)
class GroupMap:
    """What a pixel's token attends to in one block of a stage: the `members` of its group alone.

    `interval` tokens lie from one member to the next: 1 makes a window (short distance), more is long distance.
    """

    attention: AttentionMap
    members: Bool[np.ndarray, "rows columns"]
    interval: int

    @property
    def spread(self) -> str:
        """How the group lies on the map, in words."""
        rows, columns = (int(self.members.any(axis).sum()) for axis in (1, 0))
        size = f"{rows} x {columns} tokens"
        return f"{size}, neighbours" if self.interval == 1 else f"{size}, every {_ordinal(self.interval)}"

    def of_head(self, head: int) -> Self:
        """The weights of one head alone.

        Raises:
            FieldError: there is no such head.
        """
        return dataclasses.replace(self, attention=self.attention.of_head(head))


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
    """All groups of a CrossFormer on one image, stage by stage and block by block; `grids` are the stages' tokens.

    `label` and `score` are what a classifier takes the image for.
    """

    grids: tuple[Grid, ...]
    stages: tuple[tuple[GroupedBlock, ...], ...]
    label: str = ""
    score: float | None = None

    def of_pixel(self, x: int, y: int, *, stage: int = 1, block: int = 0) -> GroupMap:
        """The group of the token that holds a pixel of the original image; blocks count from 0, or as in lists.

        Raises:
            FieldError: there is no such pixel, stage or block.
        """
        blocks = self._stage(stage)
        grid = self.grids[stage - 1]
        question = Question.at(grid, x, y, label=self.label, score=self.score)
        question = question.within(f"stage {stage}", len(blocks), block, unit="block")
        chosen = blocks[block]
        group, row = (int(axis[0]) for axis in np.nonzero(chosen.tokens == grid.token(x, y)))
        tokens, weights = chosen.tokens[group], chosen.weights[group, :, row]
        spread = np.zeros((len(weights), grid.map[0] * grid.map[1]), np.float32)
        spread[:, tokens[tokens >= 0]] = weights[:, tokens >= 0]
        attention = AttentionMap(question, grid, tuple(range(len(weights))), grid.on_image(spread))
        members = grid.on_image(np.isin(np.arange(spread.shape[1]), tokens))
        return GroupMap(attention, members, chosen.interval(grid.map[1]))

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


def groups_of(subject: Subject, picture: Picture) -> Groups:
    """Which tokens of the CrossFormer in a model attend to each other on one image.

    Raises:
        FieldError: the model has no CrossFormer.
        DataError: the image is missing or cannot be read.
    """
    if not subject.has("groups"):
        raise FieldError(
            f"groups of tokens are those of a CrossFormer; this model is {subject.called}, which has no such attention."
        )
    run = subject.run(picture, _kept, maps_of=r"stage_\d+")
    grids = (run.image.grid(stage["map"].shape, STRIDE * 2**number) for number, stage in enumerate(run.kept))
    stages = (tuple(GroupedBlock(*block) for block in stage["blocks"]) for stage in run.kept)
    return Groups(tuple(grids), tuple(stages), run.label, run.score)


def _kept(_: Any, sown: Sown) -> list[dict[str, Any]]:
    """Of each stage a tensor as large as its map, and tokens and weights of every block, for the first image."""

    def block(sown: Sown) -> tuple[Any, Any]:
        return sown["attention"]["tokens"][0], sown["attention"]["weights"][0][0]

    return [
        {
            "map": stage["__call__"][0][0][0, :, :, 0],  # a stage gives its map and what is valid
            "blocks": [block(one) for one in numbered(stage, "block")],
        }
        for stage in numbered(sown["backbone"], "stage")
    ]


def _ordinal(number: int) -> str:
    ending = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"
