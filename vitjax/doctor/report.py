"""What an examination of data found: a line for each thing with what to do about it, as a table for people."""

import textwrap
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np
from jaxtyping import Bool

from vitjax.data.annotations import AnnotatedImages
from vitjax.data.errors import Tally

Severity = Literal["ok", "note", "hint", "warning", "error"]
"""A hint says what would do better; with a warning something is lost, of the data or of what scores mean."""
Group = Literal["annotations", "images", "boxes", "masks", "objects", "sizes"]

_WIDTH = 120
_EXAMPLES = 3
_SHORT = 100  # characters of an example; one that is longer is cut
_VERDICTS = (
    "can be trained on without loss",
    "can be trained on, but not without loss",
    "cannot be trained on as they are",
)

# What reading the data counts, and what to do about it; a kind that is not here is a warning about annotations.
_KINDS: dict[str, tuple[Group, Severity, str]] = {
    "skipped categories without an id": ("annotations", "warning", "Give each category an id."),
    "skipped categories whose id is taken": ("annotations", "warning", "Give each category an id of its own."),
    "skipped images without an id or a file_name": ("annotations", "warning", "Add what is missing."),
    "skipped images that are listed twice": ("annotations", "warning", "List each image once."),
    "left out images that share their id with another file": (
        "annotations", "warning", "Give each image an id of its own, and its annotations the same."),
    "skipped annotations without image_id, category_id or four numbers as bbox": (
        "annotations", "warning", "Add what is missing; bbox is [x, y, width, height] in pixels."),
    "joined images that are listed under several ids": (
        "images", "hint", "List each file once, and give all its annotations that id."),
    "skipped annotations that joined images have twice": ("annotations", "hint", "Remove the copies."),
    "made boxes from segmentation": ("boxes", "note", ""),
    "skipped annotations of an unknown image": (
        "annotations", "warning", "Add the images to the json, or remove the annotations."),
    "skipped annotations of images that were left out": ("annotations", "warning", "Mend the images; see IMAGES."),
    "skipped annotations of an unknown category": (
        "annotations", "warning", "Add the categories to the json, or remove the annotations."),
    "skipped lines that are no class with a box or polygon": (
        "annotations", "warning", "Write class, centre x and y, width and height, or class and x, y, x, y, ..."),
    "skipped objects without a name or four numbers as bndbox": (
        "annotations", "warning", "Add what is missing; bndbox has xmin, ymin, xmax and ymax in pixels."),
    "left out images whose annotations cannot be read": ("annotations", "warning", "Write the files anew."),
    "took images without a label file as images without objects": ("annotations", "note", ""),
    "numbered category ids that are words": ("annotations", "note", ""),
    "numbered image ids that are words": ("annotations", "note", ""),
    "left out images whose file is missing": (
        "images", "warning", "Put the files there, correct file_name, or remove the images from the json."),
    "left out images whose name fits several files": (
        "images", "warning", "Write file_name as the file is called, or remove the others."),
    "left out images of which several end at one file": (
        "images", "warning", "Put every image in the folder that file_name says, or name the files apart."),
    "read \\ in file names as /": ("images", "note", ""),
    "read file names without what is no path in them": ("images", "note", ""),
    "found images by the end of their file_name": ("images", "note", ""),
    "found images whose names have their accents in another form (NFC, NFD)": ("images", "note", ""),
    "found images whose names differ in capitals": ("images", "note", ""),
    "found images whose names are written differently": ("images", "note", ""),
    "took images from outside of the data folder": ("images", "note", ""),
    "took images from the first of several folders that have them": (
        "images", "warning", "Remove the other folder, or write the folder into file_name."),
    "left out images that cannot be read": ("images", "warning", "Replace the files, or remove them from the json."),
    "turned images upright by EXIF, since the json has their sizes so": ("images", "note", ""),
    "corrected image sizes in the json to those of the files": (
        "images", "warning", "See whether boxes still fit: if images were resized later, their boxes must be as well."),
    "dropped boxes with a coordinate that is no finite number": ("boxes", "warning", "Remove or redraw them."),
    "clamped boxes that reach out of their image": (
        "boxes", "warning", "Clamping is right where objects are cut off; else redraw them."),
    "kept boxes that lie in the first pixel of their image, as shares of it would": (
        "boxes", "warning", "Write bbox as [x, y, width, height] in pixels."),
    "measured boxes whose area is missing or not positive": ("boxes", "note", ""),
    "dropped objects that have no segmentation": ("masks", "note", ""),
    "dropped objects that have polygons of fewer than three points": ("masks", "warning", "Redraw or remove them."),
    "dropped objects that have polygons far outside of their image": (
        "masks", "warning", "Write polygons as x, y, x, y, ... in pixels."),
    "dropped objects that have run lengths of another size than their image": (
        "masks", "warning", "Make them again at the size of the image; size is [height, width]."),
    "dropped objects that have run lengths that do not add up to their image": ("masks", "warning", "Make them again."),
    "dropped objects that have a segmentation that makes no sense": (
        "masks", "warning", "Write polygons as lists of x, y, x, y, ..., or COCO's run lengths."),
    "dropped objects that have a mask without a pixel": ("masks", "warning", "Redraw or remove them."),
    "left out polygons of fewer than three points": ("masks", "note", ""),
    "skipped annotations without image_id, file_name or segments_info": (
        "annotations", "warning", "Add what is missing."),
    "skipped annotations of images that have one already": ("annotations", "warning", "Write one for each image."),
    "left out images without segments": ("images", "warning", "Add their segments, or remove the images."),
    "left out images whose PNG is missing": ("images", "warning", "Put the files there, or remove the images."),
    "left out images whose PNG cannot be read": ("images", "warning", "Replace the files."),
    "left out images whose PNG has another size than the json says": (
        "images", "warning", "Make them at the size of the image, and correct the json where it is wrong."),
    "skipped segments whose id is no colour (1 to 16777215)": (
        "masks", "warning", "Number the segments of an image from 1 on, in json and PNG."),
    "skipped segments whose id another of the image has": ("masks", "warning", "Give each segment an id of its own."),
    "skipped segments without a pixel": ("masks", "warning", "Draw or remove them."),
    "made boxes from PNGs": ("boxes", "note", ""),
}  # fmt: skip
_LOOKED_AT_CLOSER = {
    "numbered anew annotations whose id is missing, 0 or taken",
    "dropped boxes that cover nothing of their image",
}


@dataclass(frozen=True)
class Finding:
    """One thing that was found; `wish` says what to do about it, and `examples` are the first that it is about."""

    group: Group
    severity: Severity
    text: str
    examples: tuple[str, ...] = ()
    wish: str = ""
    split: str = ""

    def line(self) -> str:
        """The text with the first examples."""
        shown = [textwrap.shorten(example, _SHORT, placeholder=" ...") for example in self.examples[:_EXAMPLES]]
        return f"{self.text} (first: {'; '.join(shown)})" if shown else self.text


@dataclass(frozen=True)
class Examination:
    """All that was found in a data folder; `title` says what kind of data it is.

    `splits` has the images with boxes that can be used, by the name of their split; `training` is the one to train on.
    """

    title: str
    findings: tuple[Finding, ...]
    splits: Mapping[str, AnnotatedImages] = field(default_factory=dict)
    training: str = ""

    @property
    def exit_code(self) -> int:
        """0 if nothing is lost, 1 if there are warnings, 2 if there are errors."""
        severities = {finding.severity for finding in self.findings}
        return 2 if "error" in severities else int("warning" in severities)

    def table(self) -> str:
        """The findings by group, at most 120 characters wide, and what they come to."""
        width = max((len(finding.split) for finding in self.findings), default=0)
        lines = textwrap.wrap(self.title, _WIDTH)
        for group in get_args(Group):
            own = [finding for finding in self.findings if finding.group == group]
            lines += ["", group.upper()] if own else []
            for finding in own:
                lines += _lines(finding, width)
        counts = Counter(finding.severity for finding in self.findings)
        found = [f"{counts[kind]} {kind}{'s' * (counts[kind] > 1)}" for kind in ("error", "warning", "hint", "note")
                 if counts[kind]]  # fmt: skip
        verdict = f"{', '.join(found) or 'Nothing found'}: the data {_VERDICTS[self.exit_code]}."
        return "\n".join([*lines, "", verdict])


def from_tally(tally: Tally) -> Iterator[Finding]:
    """A finding for each kind that reading the data has counted."""
    for kind, (count, example) in tally.kinds.items():
        if kind not in _LOOKED_AT_CLOSER:
            group, severity, wish = _KINDS.get(kind, ("annotations", "warning", ""))
            yield Finding(group, severity, f"{kind}: {count:,}", (example,), wish)


def percent(part: int | np.integer, whole: int | np.integer) -> str:
    """A share for people."""
    if 0 < part < 0.0005 * whole:
        return "under 0.1 %"
    return f"{100 * part / whole:.1f} %" if whole else "0.0 %"


def several(count: int | np.integer, thing: str, plural: str = "") -> str:
    """A number of things: 1 box, 1,000 boxes."""
    return f"{count:,} {thing if count == 1 else plural or f'{thing}s'}"


def first_of(names: Sequence[str], rows: Bool[np.ndarray, " names"]) -> tuple[str, ...]:
    """The first names whose row is true."""
    return tuple(names[row] for row in np.flatnonzero(rows)[:_EXAMPLES].tolist())


def listed(entries: Iterable[str], most: int = 6) -> str:
    """The first entries with commas, and dots where there are more."""
    entries = list(entries)
    return ", ".join([*entries[:most], *["..."] * (len(entries) > most)])


def _lines(finding: Finding, width: int) -> list[str]:
    head = f"  {finding.severity:<7}  " + (f"{finding.split:<{width}}  " if width else "")
    margin = " " * len(head)
    lines = textwrap.wrap(finding.line(), _WIDTH, initial_indent=head, subsequent_indent=margin, break_on_hyphens=False)
    if finding.wish and finding.severity in ("hint", "warning", "error"):
        lines += textwrap.wrap(
            finding.wish, _WIDTH, initial_indent=f"{margin}-> ", subsequent_indent=f"{margin}   ",
            break_on_hyphens=False,
        )  # fmt: skip
    return lines
