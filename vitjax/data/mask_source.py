"""What sources of images with masks have in common: samples with packed masks, and the truth for scoring them."""

from dataclasses import dataclass, replace
from typing import ClassVar, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Int

from vitjax.data.annotated_files import AnnotatedFiles
from vitjax.data.annotations import no_objects
from vitjax.data.errors import DataError, Tally
from vitjax.data.run_lengths import RunLengths, decode, written
from vitjax.data.source import DetectionSource, Sample


@dataclass(frozen=True, eq=False)
class PanopticMap:
    """Whose every pixel is, and what the segments are: each pixel has the number of its segment, -1 for nobody's.

    Of segments in `crowds` nobody knows how many objects they are; a found map has none of them.
    """

    owner: Int[np.ndarray, "height width"]
    labels: Int[np.ndarray, " segments"]
    crowds: Bool[np.ndarray, " segments"]


@runtime_checkable
class MaskSource(DetectionSource, Protocol):
    """A source whose samples have masks."""

    has_masks: ClassVar[bool]

    def mask_truth(self) -> dict:
        """`ground_truth` with a segmentation, COCO's compressed run lengths, for every annotation."""


@runtime_checkable
class PanopticSource(MaskSource, Protocol):
    """A source in which every pixel belongs to one segment at most."""

    def panoptic(self, record: int) -> PanopticMap:
        """The segments of a record's image, crowds included.

        Raises:
            DataError: they cannot be read.
        """


@dataclass(frozen=True, eq=False)
class MaskedFiles(AnnotatedFiles):
    """One split of a folder of images with masks, opened; a MaskSource. `runs` has a mask for each annotation."""

    has_masks: ClassVar[bool] = True

    runs: RunLengths

    def __getitem__(self, record: int) -> Sample:
        """The image and its objects with their masks, crowds left out.

        Raises:
            DataError: as that of images with boxes.
        """
        from vitjax.data.masks import pack

        sample, table = super().__getitem__(record), self.annotations
        start, stop = np.searchsorted(table.records, (record, record + 1))
        height, width = sample.image.shape[:2]
        rows = start + np.flatnonzero(~table.crowds[start:stop])
        masks = np.zeros((len(rows), height, width), bool)
        for mask, row in zip(masks, rows.tolist(), strict=True):
            mask[:] = decode(self.runs[row], (height, width))
        return replace(sample, masks=pack(masks))

    def mask_truth(self) -> dict:
        """COCO instances with the masks of all annotations."""
        truth, sizes = self.ground_truth(), self.sizes[self.annotations.records].tolist()
        for row, (annotation, (height, width)) in enumerate(zip(truth["annotations"], sizes, strict=True)):
            annotation["segmentation"] = written(self.runs[row], (height, width))
        return truth


def require_objects(files: AnnotatedFiles, tally: Tally, training: bool) -> None:
    """Raises a DataError where a split to train on has lost its last object with a mask."""
    if training and (fault := no_objects(files.annotations)):
        counted = " ".join(f"{line}." for line in tally.lines("Counted"))
        raise DataError(f"{files.folder} has no object with a mask that can be trained on. {counted} {fault}")
