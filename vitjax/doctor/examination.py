"""Looks through a data folder for what would hurt training, and goes on where opening the data would give up."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int

from vitjax.data.annotated_files import Listing, folder_of, look, present
from vitjax.data.annotations import AnnotatedImages, Annotations, no_objects, tidy
from vitjax.data.coco_json import Key, ListedImage, image_ids, read_annotations, read_classes, read_images, records_of
from vitjax.data.coco_masks import CocoMasks
from vitjax.data.coco_panoptic import CocoPanoptic
from vitjax.data.errors import DataError, Tally
from vitjax.data.folder import VALIDATION, aliases
from vitjax.data.layouts import LAYOUTS, Layout, inside, layout_of
from vitjax.data.near import did_you_mean
from vitjax.data.panoptic_json import PanopticListing, panoptic_splits, read_panoptic
from vitjax.data.source import LIMITS, Classes, Limits
from vitjax.doctor.boxes import look_at_boxes, look_at_dropped, look_at_format, look_at_objects
from vitjax.doctor.classes import compare_classes, look_at_categories, look_at_counts, look_at_empty, look_at_ids
from vitjax.doctor.folder import examine_folder
from vitjax.doctor.images import Files, look_at_exif, look_at_formats, look_for_leaks, look_inside, read_files
from vitjax.doctor.masks import look_at_maps, look_at_masks
from vitjax.doctor.report import Examination, Finding, Severity, from_tally, several
from vitjax.doctor.sizes import Batches, look_at_padding, look_at_sizes
from vitjax.errors import FieldError

_USUAL = ("train", "training", "trainval", *VALIDATION, "minival", "dev", "test", "testing")
_PANOPTIC = Layout("COCO's panoptic form", CocoPanoptic, panoptic_splits, partial(read_panoptic, check=True))

_NAME = "Name a folder in COCO format, one with a folder of images for each class, or a config with --data.root."
_NO_BOXES = "there are no boxes: these are images by class, which a classifier learns, and no detector"
_NO_MASKS = "no object has a mask"
_WITH_MASKS = "Add a segmentation to every annotation, or take a config without masks."
_WITH_BOXES = "Name a folder in COCO format, YOLO's layout or Pascal VOC's, or a config of a classifier."


@dataclass(frozen=True)
class _Measures:
    """What data are measured against; see `examine`."""

    queries: int
    decode: bool
    size: tuple[int | None, int | None]
    batches: Batches
    limits: Limits
    masks: bool

    def __post_init__(self) -> None:
        sides = [side for side in self.size if side is not None]
        for name, least in (("queries", self.queries), ("size", min(sides, default=1))):
            if least < 1:
                raise FieldError(f"{name} is at least 1, got {getattr(self, name)}")


@dataclass(frozen=True)
class _Split:
    """What a split is and what was found in it; `classes`, `files` and `images` are None where they are not known."""

    name: str
    findings: list[Finding] = field(default_factory=list)
    classes: Classes | None = None
    files: Files | None = None
    images: AnnotatedImages | None = None


def examine(
    root: str,
    *,
    split: str | None = None,
    queries: int = 100,
    decode: bool = False,
    size: tuple[int | None, int | None] = (800, 1333),
    batches: Batches | None = None,
    splits: tuple[str, str] = ("train", "val"),
    data: Any = None,
    limits: Limits = LIMITS,
) -> Examination:
    """What there is to know of a folder in COCO format or its panoptic form, in YOLO's or VOC's layout, or by class.

    Every split that is there is looked at, or the one that is named. `queries` is how many objects the model can find
    on an image; `size` the shorter side that images are resized to and the most that the longer may become, None where
    they are not. `batches` is how training makes them, `splits` are those that it trains and is evaluated on. Headers
    of images are read; with `decode` whole images are. With the source of a detector as `data` the folder is looked at
    as that would open it: a folder for each class is an error, and what it does not open at most a hint.

    Raises:
        FieldError: a measure is not positive. What is wrong with the data is a finding.
    """
    masks, folder = isinstance(data, CocoMasks), Path(root).expanduser()
    measures = _Measures(queries, decode, size, batches or Batches(), limits, masks)
    layouts = _layouts(folder, split, data) if folder.exists() else []
    if not layouts:
        return _without_layout(root, folder, split, decode, data is not None)
    severity: Severity = "warning" if data is None else "error"
    examined = [_examine_layout(layout, folder, split, splits, measures, severity) for layout in layouts]
    findings = tuple(itertools.chain.from_iterable(each.findings for each in examined))
    if data is not None and split is None:
        opened = {*aliases(splits[0]), *aliases(splits[1])}
        findings = tuple(_of_opened(each, opened) for each in findings)
    title = f"{root}: {'; '.join(each.title for each in examined)}"
    return replace(examined[0], title=title, findings=findings)


def _of_opened(finding: Finding, opened: set[str]) -> Finding:
    """The finding, a hint at most where it is of a split that is not among those `opened`."""
    spares = finding.split not in ("", *opened) and finding.severity in ("error", "warning")
    return replace(finding, severity="hint") if spares else finding


def _layouts(folder: Path, split: str | None, data: Any) -> list[Layout]:
    """The layout that a folder has, and COCO's panoptic form where it has that as well; of `data` the one it opens."""
    if isinstance(data, CocoPanoptic):
        home = Path(data.panoptic_root).expanduser() if data.panoptic_root else None
        read = partial(_PANOPTIC.read, home=home)
        return [_PANOPTIC._replace(splits=lambda root: panoptic_splits(home or root), read=read)]
    if isinstance(data, CocoMasks):
        return [LAYOUTS[0]]
    layout, panoptic = layout_of(folder), bool(panoptic_splits(folder))
    if data is not None:
        return [layout or LAYOUTS[0]] if layout or panoptic else []
    if layout is None or not panoptic or (split is not None and not _PANOPTIC.has(folder, split)):
        return [layout] if layout else [_PANOPTIC] * panoptic
    return [layout, _PANOPTIC]


def _examine_layout(
    layout: Layout, folder: Path, split: str | None, splits: tuple[str, str], measures: _Measures, missing: Severity
) -> Examination:
    """What a folder has in one layout, and what was found in it; how severe it is where one of `splits` is missing."""
    names = layout.splits(folder)
    chosen = names or splits if split is None else (split,)
    trained = [name for name in chosen if name.startswith("train") or name == splits[0] or names == (name,)]
    examined = [_examine_split(layout, folder, name, name in trained, measures) for name in chosen]
    findings = [replace(finding, split=each.name) for each in examined for finding in each.findings]
    if split is None and names:
        findings += _missing(layout, folder, splits, missing)
    findings += compare_classes({each.name: each.classes for each in examined if each.classes})
    findings += look_for_leaks({each.name: each.files for each in examined if each.files})
    order = {name: place for place, name in enumerate(chosen)}
    findings.sort(key=lambda finding: order.get(finding.split, -1))
    if layout is _PANOPTIC:
        findings = [replace(each, split=f"panoptic {each.split}".strip()) for each in findings]
    title = f"{layout.title}, {several(len(chosen), 'split')} ({', '.join(chosen)})"
    usable = {each.name: each.images for each in examined if each.images}
    training = splits[0] if splits[0] in names else next((name for name in trained), "")
    return Examination(title, tuple(findings), usable, training)


def _without_layout(root: str, folder: Path, split: str | None, decode: bool, needs_boxes: bool) -> Examination:
    """What there is to know of a folder for each class, or of what is none."""
    if not folder.is_dir():
        fault = "is a file, not a folder" if folder.exists() else "does not exist"
        wish = f"{did_you_mean(folder)} {_NAME}".strip()
        return Examination(root, (Finding("annotations", "error", f"{root} {fault}", (), wish),))
    found = examine_folder(folder, split, decode=decode)
    more: tuple[Finding, ...] = ()
    if any(each.severity == "error" for each in found.findings):
        more = tuple(Finding("annotations", "error", hint.strip()) for hint in [inside(folder)] if hint)
    elif needs_boxes:
        more = (Finding("annotations", "error", _NO_BOXES, (), _WITH_BOXES),)
    return replace(found, findings=(*more, *found.findings))


def _missing(layout: Layout, root: Path, splits: tuple[str, str], severity: Severity) -> Iterator[Finding]:
    """The splits that training opens if it is told nothing, and that are not there."""
    for split, option in zip(splits, ("train-split", "split"), strict=True):
        if not layout.has(root, split):
            text = f"there is no split {split!r}, which training opens if it is told no other"
            wish = f"Name one that is there, --data.{option} NAME, or divide the data."
            yield Finding("annotations", severity, text, (), wish, split)


def _examine_split(layout: Layout, root: Path, name: str, training: bool, measures: _Measures) -> _Split:
    tally = Tally()
    try:
        listing = layout.read(root, name, tally, limits=measures.limits)
    except DataError as error:
        return _Split(name, [Finding("annotations", "error", str(error))])
    path, document = listing.path, listing.document
    where = path.relative_to(root).as_posix() if path.is_relative_to(root) and path != root else str(path)
    listed = read_images(document["images"], tally)
    counts = f"{several(len(listed), 'image')} and {several(len(document['annotations']), 'annotation')}"
    categories = several(len(document["categories"]), "category", "categories")
    found = [Finding("annotations", "ok", f"{counts} of {categories} in {where}")]
    if not listed:
        fault = Finding(
            "annotations", "error", f"{where} lists no image that can be used", (), "List the images in it."
        )
        return _Split(name, [*found, fault, *from_tally(tally)])
    images = _find_images(listing, listed, measures.decode, tally)
    found += images.findings
    if not images.kept:
        return _Split(name, [*found, *from_tally(tally)])
    classes, label_of = _classes(document, path, tally, found)
    raw = read_annotations(document["annotations"], records_of(listed, images.kept), label_of, tally)
    table = tidy(raw, images.sizes, images.names, tally, measures.limits.objects)
    found += look_at_ids(document["annotations"])
    if classes is not None:
        boxes = np.bincount(table.labels[~table.crowds], minlength=len(classes))
        found += look_at_categories(document["categories"], classes, boxes)
        found += look_at_counts(document["categories"], classes, boxes, training)
    garbled = list(look_at_format(raw, images.sizes))
    # What tidying says of boxes that are no boxes would only hide what is wrong with them.
    found += garbled or look_at_dropped(raw, images.sizes, images.names)
    found += [finding for finding in from_tally(tally) if finding.group != "boxes" or not garbled]
    found += _look_at_table(table, images, training, measures)
    if isinstance(listing, PanopticListing):
        found += look_at_maps(listing, table, images.sizes)
    elif not garbled:
        found += look_at_masks(document["annotations"], table, images.sizes, images.names)
        if measures.masks and not any(finding.group == "masks" for finding in found):
            found.append(Finding("masks", "error" if training else "warning", _NO_MASKS, (), _WITH_MASKS))
    usable = None
    if classes is not None and not garbled:
        ids = tuple(range(1, len(images.kept) + 1))
        usable = AnnotatedImages(classes, images.sizes, ids, tuple(images.names), table, ())
    return _Split(name, found, classes, images.files, usable)


class _Images(NamedTuple):
    """The images that can be looked at with (height, width) of each; without files, those listed with a size."""

    kept: Sequence[ListedImage]
    sizes: Int[np.ndarray, "records 2"]
    files: Files | None
    findings: list[Finding]

    @property
    def names(self) -> list[str]:
        return [image.file_name for image in self.kept]


def _find_images(listing: Listing, listed: Sequence[ListedImage], everything: bool, tally: Tally) -> _Images:
    root = listing.root
    try:
        folder = folder_of(listing, listed, tally)
        kept, _, _ = look(folder, present(listing, folder, listed, tally), False, tally, listing.limits.pixels)
    except DataError as error:
        wish = "The boxes are looked at all the same, with the sizes in the json."
        return _as_listed(listed, Finding("images", "error", str(error), (), wish))
    files = read_files(folder, [image.file_name for image in kept])
    kept, sizes, turned = _look_again(listing, folder, kept, files, tally)
    if not kept:
        fault = f"none of {several(len(listed), 'image')} in {folder.relative_to(root)}/ can be used"
        return _as_listed(listed, Finding("images", "error", fault, (), "Put readable files there."))
    image_ids(kept, tally)
    unsized = tuple(image.file_name for image in listed if image.size is None)
    text = f"{several(len(kept), 'image')} of {len(listed):,} can be used, from {folder.relative_to(root)}/"
    findings = [Finding("images", "ok", text)]
    if unsized:
        text = f"{several(len(unsized), 'image')} without width and height in the json, taken from the files"
        findings.append(Finding("images", "note", text, unsized))
    findings += look_at_exif(files, turned)
    findings += [*look_at_formats(files), *look_inside(files, everything)]
    return _Images(kept, sizes, files, findings)


def _look_again(
    listing: Listing, folder: Path, listed: Sequence[ListedImage], files: Files, tally: Tally
) -> tuple[list[ListedImage], Int[np.ndarray, "records 2"], frozenset[str]]:
    """The images that opening would use, their sizes, and the names of those turned; as opening finds them.

    Where a file is as the json says, there is nothing to find out; of many images that saves half the time.
    """
    if listing.upright:
        shown = [image for image in listed if image.file_name in set(files.names)]
        names = frozenset(image.file_name for image in shown)
        return shown, np.array([image.size for image in shown], np.int32).reshape(-1, 2), names
    facts = dict(zip(files.names, files.facts, strict=True))
    known = {image.file_name: image.size for image in listed}
    plain = {name for name, size in known.items() if name in facts and facts[name].size == size}
    others = [image for image in listed if image.file_name not in plain]
    checked, mended, turned = look(folder, others, True, tally, listing.limits.pixels)
    sizes = {name: known[name] for name in plain} | {
        image.file_name: tuple(size) for image, size in zip(checked, mended.tolist(), strict=True)
    }
    kept = [image for image in listed if image.file_name in sizes]
    table = np.array([sizes[image.file_name] for image in kept], np.int32).reshape(-1, 2)
    return kept, table, frozenset(checked[record].file_name for record in turned)


def _as_listed(listed: Sequence[ListedImage], fault: Finding) -> _Images:
    kept = [image for image in listed if image.size]
    return _Images(kept, np.array([image.size for image in kept], np.int32).reshape(-1, 2), None, [fault])


def _classes(
    document: Mapping[str, Any], path: Path, tally: Tally, found: list[Finding]
) -> tuple[Classes | None, dict[Key, int]]:
    """The classes and the label of each category; where none are listed, those that the annotations refer to."""
    try:
        return read_classes(document["categories"], "contiguous", path, tally)
    except DataError as error:
        found.append(Finding("annotations", "error", str(error)))
    entries = [{"id": entry.get("category_id")} for entry in document["annotations"] if isinstance(entry, dict)]
    try:
        return None, read_classes(entries, "contiguous", path, Tally())[1]
    except DataError:
        return None, {}


def _look_at_table(table: Annotations, images: _Images, training: bool, measures: _Measures) -> Iterator[Finding]:
    names, sizes = images.names, images.sizes
    objects = np.bincount(table.records[~table.crowds], minlength=len(names))
    if objects.any():
        yield from look_at_boxes(table, sizes, names, measures.size)
        yield from look_at_empty(names, objects)
        yield from look_at_objects(objects, names, measures.queries)
    elif training:
        yield Finding("boxes", "error", "there is no box that can be trained on", (), no_objects(table))
    else:
        yield Finding("boxes", "warning", "there is no box, so scores will be NaN", (), "Label some objects.")
    yield from look_at_sizes(sizes, names, measures.size)
    if training:
        yield from look_at_padding(sizes, measures.batches)
