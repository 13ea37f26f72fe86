"""The scenes of handwritten digits on paper of several kinds, with masks: panoptic data that need no download."""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int

from vitjax.data.annotations import Annotations
from vitjax.data.digit_scenes import DigitScenes, Scene
from vitjax.data.digits import SPLITS, Digits
from vitjax.data.errors import DataError
from vitjax.data.mask_source import PanopticMap
from vitjax.data.masks import boxes_of, pack_owners
from vitjax.data.run_lengths import in_coco
from vitjax.data.source import Classes, Sample

PAPERS = ("plain", "striped", "dotted")
"""The kinds of paper, which are stuff."""

_DIGITS_AND_PAPERS = Classes((*"0123456789", *PAPERS), tuple(range(1, 14)), (10, 11, 12))


@dataclass(frozen=True)
class DigitMasks(Digits):
    """The scenes of `Digits`, ink for ink, on one kind of paper or on two that meet in a straight line."""

    pattern: float = 0.15
    """Strength of stripes and dots; 1 is black on white."""
    period: int = 8
    """Pixels from one stripe or dot to the next."""
    masks: bool = True
    """Give masks; a detector of digits and papers is trained without."""

    def open(self, split: str) -> "DigitMaskScenes":
        """The scenes of `train` or `val`.

        Raises:
            DataError: there is no such split, or the fields contradict each other.
        """
        super().open(split)  # makes sure of both
        if not 0 <= self.pattern <= 1 or self.period < 2:
            raise DataError(f"digits needs 0 <= pattern <= 1 and period >= 2; got {self.pattern} and {self.period}.")
        return DigitMaskScenes(self, split, _DIGITS_AND_PAPERS)


@dataclass(frozen=True)
class DigitMaskScenes(DigitScenes):
    """One split of `DigitMasks`, opened; a PanopticSource. Digits come first among the objects, then the papers."""

    config: DigitMasks

    @property
    def has_masks(self) -> bool:
        """Whether samples have masks."""
        return self.config.masks

    @property
    def max_objects(self) -> int:
        """The most digits on a scene, and two papers."""
        return self.config.max_digits + 2

    def __getitem__(self, record: int) -> Sample:
        """The scene of a record, with boxes and masks of its digits and papers."""
        scene, found = self._drawn(record)
        masks = _masks(found)
        sample = Sample(scene.image, boxes_of(masks), found.labels)
        return replace(sample, masks=pack_owners(found.owner, len(masks))) if self.has_masks else sample

    def panoptic(self, record: int) -> PanopticMap:
        """The digits and papers of a scene; every pixel is one's."""
        return self._drawn(record)[1]

    def ground_truth(self) -> dict:
        """COCO instances of the digits of all scenes, from composing every one of them."""
        return self._truth(masks=False)

    def mask_truth(self) -> dict:
        """The same with their masks."""
        return self._truth(masks=True)

    def _truth(self, *, masks: bool) -> dict:
        segmentations: list[dict] = []
        rows: list[tuple] = []
        for record in range(len(self)):
            found = self.panoptic(record)
            digits = _masks(found)[found.labels < 10]
            rows += [(record, *box, label, mask.sum()) for box, label, mask in
                     zip(boxes_of(digits).tolist(), found.labels, digits, strict=False)]  # fmt: skip
            segmentations += [in_coco(mask) for mask in digits] if masks else []
        table = np.array(rows, np.float64)
        records, labels = table[:, 0].astype(int), table[:, 5].astype(int)
        truth = Annotations(records, table[:, 1:5], labels, table[:, 6], np.zeros(len(table), bool))
        names = [self.name(record) for record in range(len(self))]
        document = truth.instances(self.image_ids, names, self.sizes, self.classes)
        for annotation, segmentation in zip(document["annotations"], segmentations, strict=masks):
            annotation["segmentation"] = segmentation
        return document

    def _drawn(self, record: int) -> tuple[Scene, PanopticMap]:
        scene = self.scene(record)
        rng = np.random.default_rng((self.config.seed, SPLITS.index(self.split), int(record), 1))
        far = _far_side(scene.owner.shape, rng)
        kinds = rng.permutation(len(PAPERS))[:2]
        shift = rng.integers(self.config.period, size=2)
        paper = scene.owner < 0
        relief = np.where(far, *(_relief(PAPERS[kind], far.shape, self.config.period, shift) for kind in kinds[::-1]))
        image = scene.image + 255 * self.config.pattern * np.where(paper, relief, 0)[..., None]
        ground = np.where(paper & far, len(scene.digits) + 1, len(scene.digits))
        owner = np.where(paper, ground, scene.owner)
        there, owner = np.unique(owner, return_inverse=True)  # what is nowhere seen is left out
        labels = np.concatenate([scene.digits, 10 + kinds])[there].astype(np.int32)
        found = PanopticMap(owner.astype(np.int32), labels, np.zeros(len(labels), bool))
        return Scene(image.clip(0, 255).astype(np.uint8), scene.owner, scene.digits), found


def _masks(found: PanopticMap) -> Bool[np.ndarray, "segments height width"]:
    return found.owner == np.arange(len(found.labels))[:, None, None]


def _far_side(shape: tuple[int, ...], rng: np.random.Generator) -> Bool[np.ndarray, "height width"]:
    """Which pixels lie beyond a random line through the middle third of a scene; none of them in one scene of four."""
    angle, alone, *middle = rng.random(4) * (2 * np.pi, 1, shape[0] / 3, shape[1] / 3)
    y, x = (np.arange(side)[:, None] - side / 3 - at for side, at in zip(shape, middle, strict=True))
    return (y * np.sin(angle) + x.T * np.cos(angle) > 0) & (alone > 0.25)


def _relief(
    paper: str, shape: tuple[int, ...], period: int, shift: Int[np.ndarray, "2"]
) -> Float[np.ndarray, "height width"]:
    """How much lighter (1) or darker (-1) the paper is at each pixel."""
    y, x = (np.sin(2 * np.pi * (np.arange(side) + at) / period) for side, at in zip(shape, shift, strict=True))
    if paper == "plain":
        return np.zeros(shape)
    return np.sign(y)[:, None] + np.zeros(shape) if paper == "striped" else np.sign(y[:, None] + x - 0.5)
