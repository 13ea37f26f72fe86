"""Labelled images as TensorFlow Datasets has prepared them (ImageNet and its kin), read without TensorFlow."""

from dataclasses import dataclass
from typing import Any, ClassVar

from vitjax.data.decode import decode
from vitjax.data.errors import DataError
from vitjax.data.image_folder import FolderImages, ImageFolder
from vitjax.data.source import LIMITS, Classes, Limits, Sample, labelled
from vitjax.data.tfds_prepared import PreparedSplit, find_split, read_record

_UNPACKED = "Or name the folder with the unpacked train/ and val/: --data.root FOLDER."


@dataclass(frozen=True)
class TfdsLabels:
    """A data set with the features `image` and `label` that TFDS has prepared as array_record, or unpacked.

    Opening a split reads its first record only, so what is wrong with another shows when it is read. The classes are
    called as TFDS calls them: those of imagenet2012 are WordNet ids, n01440764 is the tench.
    """

    task: ClassVar[str] = "classification"

    data_dir: str = "~/tensorflow_datasets"
    """The data_dir that the data were prepared in."""
    name: str = "imagenet2012:5.1.0"
    """Data set/configuration:version; without a version the highest."""
    train_split: str = "train"
    """Split to train on."""
    split: str = "validation"
    """Split to evaluate on."""
    root: str = ""
    """The same data unpacked, a folder with train/<class name>/<image> and val/<class name>/<image>; where it is given,
    it is read in place of data_dir."""
    limits: Limits = LIMITS
    """What images may ask of this machine."""

    def open(self, split: str) -> "TfdsLabelledImages | FolderImages":
        """The images and labels of a split.

        Raises:
            DataError: the data are not prepared, or not as array_record, or have no such split or features; or the
                split is empty or has no labels; or the folder is not laid out as it should be.
        """
        if self.root:
            return ImageFolder(self.root, self.train_split, self.split, limits=self.limits).open(split)
        found = find_split(self.data_dir, self.name, split, _UNPACKED)
        names = _class_names(found)
        records, where = found.records(), f"{self.name} {split}"
        if not len(records):
            raise DataError(f"{found.folder} has nothing in its split {split!r}. Name another split.")
        if int(read_record(records, 0, f"{where} record 0")["label"]) < 0:
            others = ", ".join(name for name in found.builder.info.splits if name != split) or "none"
            raise DataError(
                f"{found.folder} has no labels in its split {split!r}: the first is -1. Name a split that has labels "
                f"(--data.split, --data.train-split); the others are {others}."
            )
        return TfdsLabelledImages(records, Classes(names, tuple(range(len(names)))), where, pixels=self.limits.pixels)


@dataclass(frozen=True, eq=False)
class TfdsLabelledImages:
    """One split of a `TfdsLabels`, opened; a Source."""

    records: Any  # a TFDS data source: records as dictionaries, by number
    classes: Classes
    where: str  # data set and split, for names
    problems: tuple[str, ...] = ()
    max_objects: int = 1  # an image is labelled as a whole
    pixels: int = LIMITS.pixels

    @property
    def image_ids(self) -> range:
        """The records, counted from 1."""
        return range(1, len(self) + 1)

    def __len__(self) -> int:
        """The number of images."""
        return len(self.records)

    def __getitem__(self, record: int) -> Sample:
        """The image and its label.

        Raises:
            DataError: the record or its image cannot be read, or the record has no label.
        """
        name = self.name(record)
        entry = read_record(self.records, record, name)
        label = int(entry["label"])
        if not 0 <= label < len(self.classes):
            raise DataError(f"{name} has the label {label}, not one of 0 to {len(self.classes) - 1}.")
        return labelled(decode(entry["image"], name, limit=self.pixels), label)

    def name(self, record: int) -> str:
        """Where the record is, as TFDS counts: from 0."""
        return f"{self.where} record {record}"


def _class_names(found: PreparedSplit) -> tuple[str, ...]:
    features = found.features
    label = features["label"] if "label" in features else None
    if label is None or "image" not in found.images or not getattr(label, "num_classes", None) or label.shape:
        wish = "not an image and one class label, called image and label, as imagenet2012 has"
        raise DataError(f"{found.folder} has {', '.join(features)}, {wish}.")
    return tuple(label.names)
