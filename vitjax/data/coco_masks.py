"""A folder of images with COCO instances files whose objects have masks: polygons, or run lengths."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Int

from vitjax.data.annotated_files import open_listing
from vitjax.data.annotations import Annotations
from vitjax.data.coco import CocoFolder, read_coco
from vitjax.data.errors import Tally
from vitjax.data.folder import data_root
from vitjax.data.mask_source import MaskedFiles, require_objects
from vitjax.data.run_lengths import RunLengths, SegmentationFault, area_of, encoded, gathered


@dataclass(frozen=True)
class CocoMasks(CocoFolder):
    """Images with masks from a folder in COCO format; where its files are is found out.

    Segmentations are polygons or run lengths, compressed or not. An object of which none can be made is left out, and
    counted; one without a bbox gets the box of its segmentation.
    """

    def open(self, split: str) -> MaskedFiles:
        """The images and annotations of a split; what is skipped or mended is in its `problems`.

        Raises:
            DataError: as `CocoFolder`, or the split is the one to train on and no object has a mask.
        """
        root, tally = data_root(self.root, "Name a folder in COCO format, --data.root FOLDER."), Tally()
        listing, training = read_coco(root, split, tally, self.limits), split == self.train_split
        options: Any = {"labels": self.labels, "check": self.check_images, "entries": True}
        files = open_listing(listing, tally, training=training, **options)
        table, runs = read_masks(listing.document["annotations"], files.annotations, files.sizes, files.names, tally)
        changed = {"annotations": replace(table, entries=None), "problems": tally.lines(listing.path.name)}
        masked = MaskedFiles(**vars(files) | changed, runs=runs)
        require_objects(masked, tally, training)
        return masked


def read_masks(
    entries: Sequence[Any],
    table: Annotations,
    sizes: Int[np.ndarray, "records 2"],
    names: Sequence[str],
    tally: Tally,
) -> tuple[Annotations, RunLengths]:
    """The rows of a tidy table that have a mask, with their masks; the others are counted.

    `entries` are what the table was read from.
    """
    places: Any = table.entries
    counts, kept, areas = list[bytes](), list[int](), table.areas.copy()
    for row, (place, record) in enumerate(zip(places.tolist(), table.records.tolist(), strict=True)):
        entry, (height, width) = entries[place], sizes[record].tolist()
        where = f"annotation {entry.get('id')} on {names[record]}"
        try:
            found, empty = encoded(entry.get("segmentation"), (height, width))
        except SegmentationFault as fault:
            tally.add(f"dropped objects that {fault}", where)
            continue
        counts.append(found)
        kept.append(row)
        if not entry.get("area"):
            areas[row] = area_of(found, (height, width))  # until here it is that of the box
        tally.add("left out polygons of fewer than three points", where, empty)
    return replace(table, areas=areas).take(np.array(kept, np.int64)), gathered(counts)
