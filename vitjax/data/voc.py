"""A folder in Pascal VOC's layout: JPEGImages, Annotations with an XML file for each image, and lists in ImageSets."""

from dataclasses import dataclass
from typing import ClassVar

from vitjax.data.annotated_files import AnnotatedFiles, open_listing
from vitjax.data.errors import Tally
from vitjax.data.folder import data_root
from vitjax.data.source import LIMITS, Limits

WISH = "Name a folder with Annotations, JPEGImages and ImageSets/Main, --data.root FOLDER."


@dataclass(frozen=True)
class VocFolder:
    """Images in Pascal VOC's layout, JPEGImages, Annotations and ImageSets/Main; or XML files beside the images of
    <split>/, as Roboflow writes them.

    Corners count pixels from 1 and are part of the box, so it is xmin - 1, ymin - 1, xmax, ymax. Objects marked as
    difficult are left out of training; in scoring they are what COCO calls crowds, neither asked for nor wrong.
    Category ids are the labels.
    """

    task: ClassVar[str] = "detection"

    root: str = ""
    """The folder that holds Annotations, or one above it."""
    train_split: str = "train"
    """Split to train on: a list in ImageSets/Main, such as train or trainval."""
    split: str = "val"
    """Split to evaluate on."""
    classes: tuple[str, ...] = ()
    """Names of the classes in the order of the labels; all that occur in any split, sorted, if empty."""
    check_images: bool = True
    """Read the header of every image on opening, not just look for the file."""
    limits: Limits = LIMITS
    """What images may ask of this machine."""

    def open(self, split: str) -> AnnotatedFiles:
        """The images and objects of a split; what is skipped or mended is in its `problems`.

        Raises:
            DataError: files are missing or are not what they should be, no image can be used, boxes are relative, or
                the split is the one to train on and no object can be used.
        """
        from vitjax.data.voc_xml import read_voc  # which only those need who have such data

        tally = Tally()
        listing = read_voc(data_root(self.root, WISH), split, tally, self.classes, self.limits)
        return open_listing(listing, tally, training=split == self.train_split, check=self.check_images)
