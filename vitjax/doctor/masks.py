"""Looks at masks: segmentations of a COCO json, and PNGs of the panoptic form against what the json says of them."""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int
from pycocotools import mask as coco_masks

from vitjax.data.annotations import Annotations, as_written
from vitjax.data.coco_masks import read_masks
from vitjax.data.errors import DataError, Tally
from vitjax.data.folder import in_threads
from vitjax.data.panoptic_json import PanopticListing
from vitjax.data.panoptic_png import numbered, read_ids
from vitjax.doctor.report import Finding, from_tally, percent, several

_BEYOND = 2.0  # pixels that a mask may reach out of its box; polygons and boxes are rounded differently
_DISAGREE = {  # fields of _Compared
    "unknown": "ids in PNGs that the json does not have, whose pixels are nobody's",
    "absent": "segments of the json that their PNG does not have, whose masks are empty",
    "areas": "segments whose area is not that of their pixels",
    "boxes": "segments whose box is not that of their pixels",
}


def look_at_masks(
    entries: Sequence[Any], table: Annotations, sizes: Int[np.ndarray, "records 2"], names: Sequence[str]
) -> Iterator[Finding]:
    """What is wrong with segmentations where there are any; `table` is tidy and was read from the entries."""
    if not any(isinstance(entry, dict) and entry.get("segmentation") for entry in entries):
        return
    tally = Tally()
    masked, runs = read_masks(entries, table, sizes, names, tally)
    rows = [{"size": sizes[record].tolist(), "counts": runs[row]} for row, record in enumerate(masked.records.tolist())]
    things = several(len(table.records), "box", "boxes")
    yield Finding("masks", "ok", f"{several(len(rows), 'mask')} for {things}")
    yield from from_tally(tally)
    if rows:
        yield from _outside(masked, coco_masks.toBbox(rows), names)
        yield from _overlapping(masked, rows, names)


def _outside(table: Annotations, found: Float[np.ndarray, "masks 4"], names: Sequence[str]) -> Iterator[Finding]:
    """Masks that reach out of their box, crowds not counted."""
    corners = np.concatenate([found[:, :2], found[:, :2] + found[:, 2:]], axis=1)
    over = np.concatenate([table.boxes[:, :2] - corners[:, :2], corners[:, 2:] - table.boxes[:, 2:]], axis=1).max(1)
    rows = np.flatnonzero((over > _BEYOND) & ~table.crowds)
    if len(rows):
        text = f"{several(len(rows), 'mask')} more than {_BEYOND:g} pixels outside their box"
        examples = tuple(
            f"mask {as_written(corners[row])}, box {as_written(table.boxes[row])} on {names[table.records[row]]}"
            for row in rows[:3]
        )
        yield Finding("masks", "warning", text, examples, "Make the boxes from the masks, or redraw either.")


def _overlapping(table: Annotations, rows: list[dict[str, Any]], names: Sequence[str]) -> Iterator[Finding]:
    """Images on which objects share pixels, crowds not counted."""
    single = np.flatnonzero(~table.crowds)
    areas, shared, images = coco_masks.area(rows).astype(np.int64), 0, list[str]()
    for mine in np.split(single, np.flatnonzero(np.diff(table.records[single])) + 1):
        joined = int(coco_masks.area(coco_masks.merge([rows[row] for row in mine]))) if len(mine) > 1 else 0
        if joined and (twice := int(areas[mine].sum()) - joined):
            shared += twice
            images.append(names[table.records[mine[0]]])
    if images:
        part = percent(shared, int(areas[single].sum()))
        text = f"{several(len(images), 'image')} with masks that overlap, {part} of all pixels of masks"
        yield Finding("masks", "note", text, tuple(images))


class _Compared(NamedTuple):
    """What the PNG of an image has that its json has not, and the other way round; why it cannot be read."""

    fault: str = ""
    unknown: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()
    areas: tuple[str, ...] = ()
    boxes: tuple[str, ...] = ()
    nobody: float = 0.0


def look_at_maps(
    listing: PanopticListing, table: Annotations, sizes: Int[np.ndarray, "records 2"]
) -> Iterator[Finding]:
    """What the PNGs of the panoptic form say other than their json; every one is read."""
    places: Any = table.entries
    bounds = np.searchsorted(table.records, np.arange(len(sizes) + 1))
    entries = [listing.document["annotations"][place] for place in places.tolist()]
    mine = [entries[start:stop] for start, stop in itertools.pairwise(bounds.tolist())]
    pairs = [(own, size) for own, size in zip(mine, sizes.tolist(), strict=True) if own]
    found = in_threads(lambda pair: _compare(listing, *pair), pairs)
    readable = [one for one in found if not one.fault]
    share = np.mean([one.nobody for one in readable]) if readable else 0.0
    segments = several(len(table.records), "segment")
    text = f"{segments} in {several(len(readable), 'PNG')}, {100 * share:.1f} % of the pixels are nobody's"
    yield Finding("masks", "ok", text)
    if faults := tuple(one.fault for one in found if one.fault):
        text = "PNGs that cannot be used, whose images others would take the place of in training"
        yield Finding("masks", "warning", f"{text}: {len(faults):,}", faults[:3], "Replace the files.")
    for field, text in _DISAGREE.items():
        if examples := tuple(itertools.chain(*(getattr(one, field) for one in found))):
            wish = "Make the json from the PNGs again."
            yield Finding("masks", "warning", f"{text}: {len(examples):,}", examples[:3], wish)


def _compare(listing: PanopticListing, segments: list[dict[str, Any]], size: list[int]) -> _Compared:
    png = segments[0]["file_name"]
    try:
        ids = read_ids(listing.pngs / png)
    except DataError as error:
        return _Compared(str(error).removeprefix(f"{listing.pngs}/"))
    if list(ids.shape) != size:
        shape = f"{ids.shape[1]}x{ids.shape[0]}, and its image {size[1]}x{size[0]}"
        return _Compared(f"{png} is {shape} (width x height)")
    owner = numbered(ids, np.array([segment["segment"] for segment in segments]))
    unknown = np.unique(ids[(owner < 0) & (ids != 0)])
    areas = np.bincount(owner.ravel() + 1, minlength=len(segments) + 1)
    absent, wrong, boxes = [], [], []
    for place, (segment, area) in enumerate(zip(segments, areas[1:].tolist(), strict=True)):
        where = f"segment {segment['segment']} in {png}"
        if not area:
            absent.append(where)
            continue
        if segment.get("area") != area:
            wrong.append(f"{where}: {segment.get('area')}, not {area}")
        rows, columns = (np.flatnonzero((owner == place).any(axis)) for axis in (1, 0))
        box = [columns[0], rows[0], columns[-1] - columns[0] + 1, rows[-1] - rows[0] + 1]
        if np.abs(np.subtract(segment["bbox"], box)).max() > 1:
            boxes.append(f"{where}: {segment['bbox']}, not {[int(side) for side in box]}")
    strange = tuple(f"id {id_} in {png}" for id_ in unknown.tolist())
    return _Compared("", strange, tuple(absent), tuple(wrong), tuple(boxes), areas[0] / ids.size)
