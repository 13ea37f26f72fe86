"""A folder in YOLO's layout, as Ultralytics, Roboflow and CVAT write it: images/, labels/ and data.yaml."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from vitjax.data.annotated_files import AnnotatedFiles, open_listing
from vitjax.data.errors import DataError, Tally
from vitjax.data.source import LIMITS, Limits

WISH = "Name a folder in YOLO's layout, or its data.yaml, --data.root FOLDER"


@dataclass(frozen=True)
class YoloFolder:
    """Images in YOLO's layout, with a text file of labels for each: class, centre x and y, width and height as shares.

    `data.yaml` names classes and splits; a split is a folder, several, or a text file of image paths. Without one the
    folders are images/<split> or <split>/images, and the names stand in classes.txt. The labels of `images/a.jpg` are
    in `labels/a.txt`, or beside it. Lines of more numbers are polygons, whose box is taken. An image without labels has
    no objects. Images are turned upright as EXIF says, for labels are drawn on what viewers show. Category ids are the
    class numbers.
    """

    task: ClassVar[str] = "detection"

    root: str = ""
    """The folder that holds data.yaml, or the path of the yaml."""
    train_split: str = "train"
    """Split to train on."""
    split: str = "val"
    """Split to evaluate on."""
    limits: Limits = LIMITS
    """What images may ask of this machine."""

    def open(self, split: str) -> AnnotatedFiles:
        """The images and labels of a split; what is skipped or mended is in its `problems`.

        Raises:
            DataError: files are missing or are not what they should be, no image can be used, labels are in pixels, or
                the split is the one to train on and no label can be used.
        """
        from vitjax.data.yolo_labels import read_yolo  # which only those need who have such data

        root, tally = _root(self.root), Tally()
        return open_listing(read_yolo(root, split, tally, self.limits), tally, training=split == self.train_split)


def _root(root: str) -> Path:
    path = Path(root).expanduser()
    if not root or not path.exists():
        raise DataError(f"{f'{path} does not exist' if root else 'no data folder is given'}. {WISH}.")
    return path
