"""What stands in a json of COCO's panoptic form, turned into what a COCO instances file would say of the segments."""

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vitjax.data.annotated_files import Listing
from vitjax.data.coco_json import read_instances
from vitjax.data.decode import read_size
from vitjax.data.errors import DataError, Tally
from vitjax.data.folder import aliases, in_threads, open_file
from vitjax.data.image_paths import OUTSIDE, Finder
from vitjax.data.masks import boxes_of
from vitjax.data.panoptic_png import MOST, read_ids
from vitjax.data.source import LIMITS, Limits

JSON_PATHS = ("annotations/panoptic_{}.json", "annotations/panoptic_{}2017.json", "panoptic_{}.json",
              "panoptic_{}2017.json")  # fmt: skip


@dataclass(frozen=True, eq=False)
class PanopticListing(Listing):
    """A listing whose annotations are segments: each has its `segment`, the id in the PNG, and that PNG's `file_name`.

    `pngs` is the folder of the PNGs.
    """

    pngs: Path = Path()


def panoptic_splits(root: Path) -> tuple[str, ...]:
    """The splits that have a json of this form, training first."""
    names = [
        path.stem.removeprefix("panoptic_").removesuffix("2017")
        for folder in (root / "annotations", root)
        for path in sorted(folder.glob("panoptic_*.json"))
    ]
    return tuple(sorted(dict.fromkeys(names), key=lambda name: (not name.startswith("train"), name)))


def read_panoptic(
    root: Path,
    split: str,
    tally: Tally,
    *,
    home: Path | None = None,
    check: bool = False,
    limits: Limits = LIMITS,
) -> PanopticListing:
    """What the json of a split says of its images, those left out that have no segments or no PNG.

    Json and PNGs are looked for in `home`, images in the root. With `check` the header of every PNG is read.

    Raises:
        DataError: the json or the folder of its PNGs is missing, or the json is not what it should be.
    """
    home = home or root
    tried = [pattern.format(name) for name in aliases(split) for pattern in JSON_PATHS]
    path = next((home / relative for relative in tried if (home / relative).is_file()), None)
    if path is None:
        there = ", ".join(panoptic_splits(home)) or "none"
        raise DataError(
            f"{home} has no panoptic annotations of the split {split!r}: looked for {', '.join(tried[:4])}. The splits "
            f"that are there: {there}. Name one of them, or put the json and its folder of PNGs there."
        )
    places = [path.with_suffix(""), home / path.stem, home / "annotations" / path.stem]
    pngs = next((place for place in places if place.is_dir()), None)
    if pngs is None:
        raise DataError(f"the PNGs of {path} are not found: put them in the folder {places[0]}.")
    document = read_instances(path)
    named = _by_image(document["annotations"], tally)
    known = [entry.get("id") for entry in document["images"] if isinstance(entry, dict)]
    for key in sorted(named.keys() - {id_ for id_ in known if isinstance(id_, int | str)}, key=str):
        tally.add("skipped annotations of an unknown image", f"{named[key]['file_name']}, image_id {key}")
    limit = limits.pixels if check else None
    finder = Finder(home, limits.outside)
    images = [entry for entry in document["images"] if _has_segments(entry, named, pngs, finder, limit, tally)]
    used = [named[entry["id"]] for entry in images]
    segments = [
        segment for each in in_threads(lambda one: list(_segments(one, pngs, limits.pixels)), used) for segment in each
    ]
    checked = list(_checked(segments, tally))
    for number, segment in enumerate(checked, start=1):
        segment["id"] = number
    document |= {"images": images, "annotations": checked}
    return PanopticListing(root, split, path, document, limits=limits, pngs=pngs)


def _by_image(entries: list[Any], tally: Tally) -> dict[Any, dict[str, Any]]:
    """The annotation of every image, the first where there are several."""
    named: dict[Any, dict[str, Any]] = {}
    for entry in entries:
        whole = isinstance(entry, dict) and isinstance(entry.get("segments_info"), list)
        if not whole or not isinstance(entry.get("file_name"), str) or not isinstance(entry.get("image_id"), int | str):
            tally.add("skipped annotations without image_id, file_name or segments_info", repr(entry)[:120])
        elif entry["image_id"] in named:
            tally.add("skipped annotations of images that have one already", f"{entry['file_name']}")
        else:
            named[entry["image_id"]] = entry
    return named


def _has_segments(
    entry: Any, named: dict[Any, dict[str, Any]], pngs: Path, finder: Finder, limit: int | None, tally: Tally
) -> bool:
    """Whether an image has an annotation and its PNG; one that has not is counted.

    With a `limit` of pixels the header is read.
    """
    key = entry.get("id") if isinstance(entry, dict) else None
    if not isinstance(key, int | str):
        tally.add("skipped images without an id or a file_name", repr(entry)[:80])
        return False
    if key not in named:
        tally.add("left out images without segments", f"{entry.get('file_name')}, id {key}")
        return False
    path = pngs / Path(named[key]["file_name"]).name
    if not os.path.isfile(path):  # nor where it is too long to be a path
        tally.add("left out images whose PNG is missing", str(path))
        return False
    if not finder.stays(str(pngs), path.name):
        tally.add(OUTSIDE, str(path))
        return False
    if limit is not None:
        try:
            with open_file(path) as file:
                size = read_size(file, str(path), limit)
        except (DataError, OSError) as error:
            tally.add("left out images whose PNG cannot be read", f"{path}: {error}")
            return False
        if size != (entry.get("height") or size[0], entry.get("width") or size[1]):
            shape = f"{size[1]}x{size[0]}, not {entry.get('width')}x{entry.get('height')}"
            tally.add("left out images whose PNG has another size than the json says", f"{path.name} is {shape}")
            return False
    return True


def _segments(annotation: dict[str, Any], pngs: Path, limit: int) -> Iterator[Any]:
    """The segments of an image as annotations; the PNG is read where one has no box."""
    png, owner = Path(annotation["file_name"]).name, annotation["image_id"]
    ids: np.ndarray | None = None
    for segment in annotation["segments_info"]:
        if not isinstance(segment, dict):
            yield segment
            continue
        entry = {**segment, "image_id": owner, "file_name": png, "segment": segment.get("id")}
        if not entry.get("bbox"):
            try:
                ids = read_ids(pngs / png, limit) if ids is None else ids
            except DataError:
                ids = np.zeros((1, 1), np.int32)  # it is told where the segments are looked at
            mask = ids == entry["segment"]
            left, top, right, bottom = boxes_of(mask[None])[0].tolist()
            entry |= {"bbox": [left, top, right - left, bottom - top], "area": int(mask.sum()), "made": True}
        yield entry


def _checked(segments: list[Any], tally: Tally) -> Iterator[dict[str, Any]]:
    """The segments that a PNG can have, each once."""
    seen: Counter[tuple[str, int]] = Counter()
    for segment in segments:
        number = segment.get("segment") if isinstance(segment, dict) else None
        where = f"segment {number} in {segment.get('file_name')}" if isinstance(segment, dict) else repr(segment)[:80]
        if isinstance(number, bool) or not isinstance(number, int) or not 0 < number <= MOST:
            tally.add(f"skipped segments whose id is no colour (1 to {MOST})", where)
            continue
        seen[segment["file_name"], number] += 1
        if seen[segment["file_name"], number] > 1:
            tally.add("skipped segments whose id another of the image has", where)
            continue
        if segment.pop("made", False):
            if not segment["area"]:
                tally.add("skipped segments without a pixel", where)
                continue
            tally.add("made boxes from PNGs", where)
        yield segment
