"""A folder of images in COCO's panoptic form: a json with the segments of every image, and a PNG in which they lie."""

import contextlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from jaxtyping import Int

from vitjax.data.annotated_files import AnnotatedFiles, open_listing
from vitjax.data.errors import DataError, Tally
from vitjax.data.folder import data_root
from vitjax.data.label_names import COCO_PANOPTIC
from vitjax.data.mask_source import PanopticMap
from vitjax.data.panoptic_json import PanopticListing, read_panoptic
from vitjax.data.panoptic_png import numbered, read_ids
from vitjax.data.run_lengths import in_coco
from vitjax.data.source import LIMITS, Classes, Limits, Sample

_SLOTS = 201  # labels up to COCO's largest panoptic category id


@dataclass(frozen=True)
class CocoPanoptic:
    """Images with things and stuff from a folder in COCO's panoptic form; where its files are is found out.

    Segments of stuff are objects as things are, with a box and a mask each. Crowds are left out of training, as
    everywhere here (the published code trains on them), and scoring does not ask for them. Boxes are those of the json,
    or of the PNG where the json has none. Boxes and masks are scored on things alone, as published.
    """

    task: ClassVar[str] = "detection"

    root: str = ""
    """The folder that holds images and annotations."""
    train_split: str = "train"
    """Split to train on."""
    split: str = "val"
    """Split to evaluate on."""
    labels: Literal["contiguous", "category_id"] = "contiguous"
    """0, 1, 2, ... or the ids in the json, as DETR has it: 250 labels where they are COCO's."""
    check_images: bool = True
    """Read the header of every image and PNG on opening, not just look for the file."""
    panoptic_root: str = ""
    """The folder that holds the panoptic annotations, where it is another."""
    masks: bool = True
    """Give masks; a detector of things and stuff needs none."""
    limits: Limits = LIMITS
    """What images may ask of this machine."""

    def open(self, split: str) -> "PanopticFiles":
        """The images and segments of a split; what is skipped or mended is in its `problems`.

        Raises:
            DataError: files are missing or are not what they should be, no image can be used, or the split is the one
                to train on and no segment can be used.
        """
        wish, tally = "Name a folder in COCO's panoptic form", Tally()
        root = data_root(self.root, f"{wish}, --data.root FOLDER.")
        home = data_root(self.panoptic_root, f"{wish}, --data.panoptic-root FOLDER.") if self.panoptic_root else root
        listing = read_panoptic(root, split, tally, home=home, check=self.check_images, limits=self.limits)
        training = split == self.train_split
        options: Any = {"labels": self.labels, "check": self.check_images, "entries": True}
        files = open_listing(listing, tally, training=training, **options)
        if files.folder.samefile(listing.pngs):
            raise DataError(f"the images of {listing.path} are not found; {files.folder} has its maps of segments.")
        return _opened(files, listing, self.masks)


@dataclass(frozen=True, eq=False)
class PanopticFiles(AnnotatedFiles):
    """One split of a folder in COCO's panoptic form, opened; a PanopticSource.

    `maps` is the PNG of each record in the folder `pngs`, "" where it has no segment, and `segments` the id of every
    annotation's segment in it.
    """

    pngs: Path
    maps: tuple[str, ...]
    segments: Int[np.ndarray, " objects"]
    has_masks: bool

    def __getitem__(self, record: int) -> Sample:
        """The image and its segments, crowds left out.

        Raises:
            DataError: the image or its PNG cannot be read, or they are not of one size.
        """
        sample = super().__getitem__(record)
        if not self.has_masks:
            return sample
        from vitjax.data.masks import pack_owners

        rows = self._rows(record)
        rows = rows[~self.annotations.crowds[rows]]
        return replace(sample, masks=pack_owners(self._owner(record, rows), len(rows)))

    def ground_truth(self) -> dict:
        """COCO instances of the things, crowds included."""
        return self._things()[1]

    def mask_truth(self) -> dict:
        """COCO instances of the things with their masks, without those of PNGs that cannot be read; all are read."""
        rows, truth = self._things()
        masked = []
        records = self.annotations.records[rows]
        for record in np.unique(records).tolist():
            mine = np.arange(*np.searchsorted(records, (record, record + 1)))
            with contextlib.suppress(DataError):  # which is told where the image is read
                owner = self._owner(record, rows[mine])
                masks = (in_coco(owner == place) for place in range(len(mine)))
                listed = (truth["annotations"][row] for row in mine.tolist())
                masked += [one | {"segmentation": mask} for one, mask in zip(listed, masks, strict=True)]
        return truth | {"annotations": masked}

    def panoptic(self, record: int) -> PanopticMap:
        """The segments of a record's image, crowds included; what the json does not know is nobody's.

        Raises:
            DataError: the PNG cannot be read, or is not of the image's size.
        """
        rows, table = self._rows(record), self.annotations
        return PanopticMap(self._owner(record, rows), table.labels[rows], table.crowds[rows])

    def _rows(self, record: int) -> Int[np.ndarray, " segments"]:
        return np.arange(*np.searchsorted(self.annotations.records, (record, record + 1)))

    def _things(self) -> tuple[Int[np.ndarray, " things"], dict]:
        rows = np.flatnonzero(~np.isin(self.annotations.labels, self.classes.stuff))
        table = self.annotations.take(rows)
        return rows, table.instances(self.image_ids, self.names, self.sizes, self.classes)

    def _owner(self, record: int, rows: Int[np.ndarray, " segments"]) -> Int[np.ndarray, "height width"]:
        """Which of these rows every pixel belongs to, -1 for none."""
        height, width = self.sizes[record].tolist()
        if not self.maps[record]:
            return np.full((height, width), -1, np.int32)
        ids = read_ids(self.pngs / self.maps[record], self.limits.pixels)
        if ids.shape != (height, width):
            found = f"{ids.shape[1]}x{ids.shape[0]} pixels, and {self.names[record]} {width}x{height}"
            raise DataError(f"{self.pngs / self.maps[record]} has {found}; make it anew at the size of the image.")
        return numbered(ids, self.segments[rows])


def _opened(files: AnnotatedFiles, listing: PanopticListing, masks: bool) -> PanopticFiles:
    """What is listed of the images in use, by record and by row of their annotations."""
    table, entries = files.annotations, listing.document["annotations"]
    places: Any = table.entries
    mine = [entries[place] for place in places.tolist()]
    maps = dict(zip(table.records.tolist(), (entry["file_name"] for entry in mine), strict=True))
    categories = [entry for entry in listing.document["categories"] if isinstance(entry, dict)]
    stuff = {entry.get("name") for entry in categories if entry.get("isthing") == 0 and entry.get("name")}
    changed: dict[str, Any] = {
        "annotations": replace(table, entries=None),
        "classes": _with_stuff(files.classes, stuff),
        "maps": tuple(maps.get(record, "") for record in range(len(files))),
        "segments": np.array([entry["segment"] for entry in mine], np.int32),
    }
    return PanopticFiles(**vars(files) | changed, pngs=listing.pngs, has_masks=masks)


def _with_stuff(classes: Classes, stuff: set[Any]) -> Classes:
    """The classes with what of them is stuff; where they are COCO's by their ids, all 250 of published models."""
    if classes == Classes(COCO_PANOPTIC.names[:_SLOTS], COCO_PANOPTIC.category_ids[:_SLOTS]):
        return COCO_PANOPTIC
    return replace(classes, stuff=tuple(label for label, name in enumerate(classes.names) if name in stuff))
