"""What comes after an image's geometry: mosaic, other colours, holes, and what a user adds."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from vitjax.data.augmentation_parts import Cutout
from vitjax.data.canvas import draw_tiles
from vitjax.data.errors import DataError
from vitjax.data.geometry import FILL, Geometries, Geometry
from vitjax.data.recolor import recolored
from vitjax.data.source import NO_LABEL, Sample, Source
from vitjax.data.transforms import Augmentation
from vitjax.errors import FieldError


@dataclass(frozen=True)
class FinishedCut:
    """A geometry, those of the other records of a mosaic, and what comes after them; random numbers begin at `seed`."""

    geometry: Geometry
    others: tuple[tuple[int, Geometry], ...]
    augmentation: Augmentation
    own: Callable[..., Any] | None
    seed: tuple[int, int, int]

    def apply(self, sample: Sample, name: str) -> Sample:
        """The record's own sample after its geometry.

        Raises:
            DataError: the image is not of the size that the geometry was drawn for.
        """
        return self.geometry.apply(sample, name)

    def finish(self, sample: Sample, source: Source) -> tuple[Sample, int | None]:
        """The sample of the batch from that of the record, and one of `others` that could not be read, if any.

        In a mosaic it leaves a grey quarter.

        Raises:
            FieldError: the user's own transform gives what is no sample of this size and these classes, or more objects
                than any image has.
        """
        broken = None
        if self.others:
            parts = [sample, *(_read(source, *other) for other in self.others)]
            broken = next((other[0] for other, part in zip(self.others, parts[1:], strict=True) if part is None), None)
            sample = self._joined(parts)
        chances, parts_of = _generator(*self.seed, 1).random(6), self.augmentation
        if chances[0] < parts_of.color_jitter.probability:
            sample = replace(sample, image=recolored(sample.image, parts_of.color_jitter, chances[2:]))
        if chances[1] < parts_of.cutout.probability:
            sample = cut_out(sample, parts_of.cutout, _generator(*self.seed, 2), parts_of.least_visible)
        if self.own is not None:
            from vitjax.data.own_transform import transformed

            sample = transformed(sample, self.own, str(parts_of.own), _generator(*self.seed, 3), source.classes)
            most = source.max_objects * parts_of.images_in_one
            if len(sample.boxes) > most:
                given = f"augmentation.own {parts_of.own!r} gave {len(sample.boxes)} objects"
                raise FieldError(f"{given}; training has room for {most} on an image, as many as the data have at most")
        return sample, broken

    def _joined(self, samples: Sequence[Sample | None]) -> Sample:
        tiles = [self.geometry, *(other for _, other in self.others)]
        down, across = tiles[0].output
        mapped = any(each is not None and each.label_map is not None for each in samples)
        size = (down + tiles[2].output[0], across + tiles[1].output[1])
        image = np.full((*size, 3), FILL, np.uint8)
        label_map = np.full(size, NO_LABEL, np.uint8) if mapped else None
        boxes, labels = [np.zeros((0, 4), np.float32)], [np.zeros(0, np.int32)]
        masked: list[tuple[np.ndarray, int, tuple[slice, slice]]] = []
        for tile, sample, top, left in zip(tiles, samples, (0, 0, down, down), (0, across, 0, across), strict=True):
            if sample is None:
                continue
            here = slice(top, top + tile.output[0]), slice(left, left + tile.output[1])
            image[here] = sample.image
            if label_map is not None and sample.label_map is not None:
                label_map[here] = sample.label_map
            boxes.append(sample.boxes + np.array([left, top, left, top], np.float32))
            labels.append(sample.labels)
            if sample.masks is not None:
                masked.append((sample.masks, len(sample.labels), here))
        whole = Sample(image, np.concatenate(boxes), np.concatenate(labels), label_map)
        if not masked:
            return whole
        from vitjax.data.masks import joined  # which few data need

        return replace(whole, masks=joined(masked, size))


@dataclass(frozen=True, eq=False)
class FinishedCuts:
    """The cuts of a step: the geometries of its rows and the slots that they have in the epoch.

    `epoch_records` are the records of all slots, of which the others of a mosaic are drawn; `sizes` those of all
    records.
    """

    geometries: Geometries
    slots: Int[np.ndarray, " batch"]
    epoch_records: Int[np.ndarray, " slots"]
    sizes: Int[np.ndarray, "records 2"]
    augmentation: Augmentation
    own: Callable[..., Any] | None
    seed: tuple[int, int]

    @property
    def output(self) -> Int[np.ndarray, "batch 2"]:
        """The (height, width) of every row."""
        return self.geometries.output

    def __getitem__(self, row: int) -> FinishedCut:
        """The cut of a row."""
        seed, geometry = (*self.seed, int(self.slots[row])), self.geometries[row]
        if not self.geometries.mosaic[row]:
            return FinishedCut(geometry, (), self.augmentation, self.own, seed)
        rng = _generator(*seed, 0)
        records = self.epoch_records[rng.integers(len(self.epoch_records), size=3)].tolist()
        sizes = np.stack([np.array(geometry.source), *self.sizes[records]])
        tiles = draw_tiles(self.augmentation, rng, sizes, geometry.output)
        others = tuple((record, tiles[place]) for place, record in enumerate(records, start=1))
        return FinishedCut(tiles[0], others, self.augmentation, self.own, seed)


def _read(source: Source, record: int, geometry: Geometry) -> Sample | None:
    try:
        return geometry.apply(source[record], source.name(record))
    except DataError:
        return None


def cut_out(sample: Sample, cutout: Cutout, rng: np.random.Generator, least_visible: float) -> Sample:
    """The sample with grey holes, without objects of which less than a share is left; boxes and masks do not change."""
    size = sample.image.shape[:2]
    image, hidden = sample.image.copy(), np.zeros(size, bool)
    for _ in range(rng.integers(1, cutout.holes + 1)):
        sides = [max(1, round(side * share)) for side, share in zip(size, rng.uniform(*cutout.sides, 2), strict=True)]
        top, left = (int(rng.integers(whole - side + 1)) for whole, side in zip(size, sides, strict=True))
        hole = slice(top, top + sides[0]), slice(left, left + sides[1])
        image[hole], hidden[hole] = FILL, True
    label_map = None if sample.label_map is None else np.where(hidden, np.uint8(NO_LABEL), sample.label_map)
    kept = np.array([_share(hidden, box) <= 1 - least_visible for box in sample.boxes], bool)
    seen = Sample(image, sample.boxes[kept], sample.labels[kept], label_map)
    if sample.masks is None:
        return seen
    from vitjax.data.masks import take

    return replace(seen, masks=take(sample.masks, kept))


def _share(hidden: np.ndarray, box: Float[np.ndarray, "4"]) -> float:
    """The share of the pixels of a box that are hidden; it has one at least."""
    left, top = np.floor(box[:2]).astype(int)
    right, bottom = np.maximum(np.ceil(box[2:]).astype(int), (left + 1, top + 1))
    return float(hidden[top:bottom, left:right].mean())


def _generator(seed: int, epoch: int, slot: int, use: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence([seed, epoch], spawn_key=(slot, use)))
