"""A folder of images with COCO instances files, as COCO, Roboflow and most annotation tools write it."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from vitjax.data.annotated_files import AnnotatedFiles, Listing, open_listing
from vitjax.data.coco_json import read_instances
from vitjax.data.errors import DataError, Tally
from vitjax.data.folder import VALIDATION, aliases, data_root
from vitjax.data.source import LIMITS, Limits

JSON_PATHS = ("annotations/instances_{}.json", "annotations/instances_{}2017.json", "annotations/{}.json", "{}.json",
         "{}/_annotations.coco.json", "{}/labels.json")  # fmt: skip

_PANOPTIC = "is in COCO's panoptic form: from Python, read it with vitjax.data.CocoPanoptic"
_USUAL = ("train", "training", "trainval", *VALIDATION, "minival", "dev", "test", "testing")


@dataclass(frozen=True)
class CocoFolder:
    """Images with boxes from a folder in COCO format; where its files are is found out.

    Names of image files are taken as they are written, or else as the longest end of them that is there. An object
    without a bbox gets the box of its segmentation; image entries of one file are joined.
    """

    task: ClassVar[str] = "detection"

    root: str = ""
    """The folder that holds images and annotations."""
    train_split: str = "train"
    """Split to train on."""
    split: str = "val"
    """Split to evaluate on."""
    labels: Literal["contiguous", "category_id"] = "contiguous"
    """0, 1, 2, ... or the ids in the json, as DETR has it."""
    check_images: bool = True
    """Read the header of every image on opening, not just look for the file."""
    limits: Limits = LIMITS
    """What images may ask of this machine."""

    def open(self, split: str) -> AnnotatedFiles:
        """The images and annotations of a split; what is skipped or mended is in its `problems`.

        Raises:
            DataError: files are missing or are not what they should be, no image can be used, boxes are no [x, y,
                width, height] in pixels, or the split is the one to train on and no annotation can be used.
        """
        root, tally = data_root(self.root, "Name a folder in COCO format, --data.root FOLDER."), Tally()
        listing = read_coco(root, split, tally, self.limits)
        training = split == self.train_split
        return open_listing(listing, tally, training=training, labels=self.labels, check=self.check_images)


def read_coco(root: Path, split: str, tally: Tally, limits: Limits = LIMITS) -> Listing:
    """What the json of a split says.

    Raises:
        DataError: it is missing, or is no COCO instances file.
    """
    path = find_json(root, split)
    document = read_instances(path)
    if any(isinstance(entry, dict) and "segments_info" in entry for entry in document["annotations"][:1]):
        raise DataError(f"{path} {_PANOPTIC}, and call it panoptic_{split}.json.")
    return Listing(root, split, path, document, limits=limits)


def coco_splits(root: Path) -> tuple[str, ...]:
    """The splits that have a json, training first; a json that might be anything counts only if there is no other."""
    found: dict[Path, str] = {}
    clear: set[str] = set()
    for pattern in JSON_PATHS:
        before, after = pattern.split("{}")
        for path in sorted(root.glob(pattern.format("*"))):
            whole = path.relative_to(root).as_posix()[len(before) : -len(after)]
            name = whole.removesuffix("2017")
            if path not in found and not name.startswith("panoptic_"):
                found[path] = whole if name in found.values() else name
                if "instances" in pattern or "_annotations" in pattern or name in _USUAL:
                    clear.add(found[path])
    names = dict.fromkeys(name for name in found.values() if name in clear or not clear)
    return tuple(sorted(names, key=lambda name: (not name.startswith("train"), name not in VALIDATION, name)))


def find_json(root: Path, split: str) -> Path:
    """The instances file of a split.

    Raises:
        DataError: there is none at any of the usual places.
    """
    names = aliases(split)
    for relative in (pattern.format(name) for name in names for pattern in JSON_PATHS):
        if (root / relative).is_file():
            return root / relative
    tried = ", ".join(pattern.format(split) for pattern in JSON_PATHS)
    also = f" (and the same with {' and '.join(names[1:])})" if names[1:] else ""
    found = sorted(str(path.relative_to(root)) for pattern in ("*.json", "*/*.json") for path in root.glob(pattern))
    there = f"The json files in it are {', '.join(found[:8])}" if found else "There are no json files in it"
    from vitjax.data.layouts import inside, layout_of  # which know this one, too

    if not coco_splits(root) and [*root.glob("panoptic_*.json"), *root.glob("annotations/panoptic_*.json")]:
        raise DataError(f"{root} {_PANOPTIC}.")
    other = layout_of(root)
    if other is not None and other.source is not CocoFolder:
        raise DataError(f"{root} is in {other.title}: use vitjax.data.{other.source.__name__} in place of CocoFolder.")
    deeper = "" if other else inside(root)
    raise DataError(
        f"{root} has no annotations of the split {split!r}: looked for {tried}{also}. {there}. {deeper}"
        "Name a split that is there (--data.split, --data.train-split), or rename the file."
    )
