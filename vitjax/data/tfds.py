"""COCO as TensorFlow Datasets has prepared it, read without TensorFlow."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from vitjax.data.source import LIMITS, Limits

if TYPE_CHECKING:
    from vitjax.data.tfds_images import TfdsImages


@dataclass(frozen=True)
class TfdsCoco:
    """A detection data set that TFDS has prepared as array_record: COCO, or one with the same features.

    Opening a split reads all of its records once (COCO train2017: one to two minutes), as TFDS keeps no image sizes.
    TFDS rounds `area` and has lost the original annotation ids; for official scores evaluate on a `CocoFolder`.
    """

    task: ClassVar[str] = "detection"

    data_dir: str = "~/tensorflow_datasets"
    """The data_dir that the data were prepared in."""
    name: str = "coco/2017:1.1.0"
    """Data set/configuration:version; without a version the highest."""
    train_split: str = "train"
    """Split to train on."""
    split: str = "validation"
    """Split to evaluate on."""
    labels: Literal["contiguous", "category_id"] = "contiguous"
    """0 to 79, or COCO's own ids up to 90, as DETR has it."""
    limits: Limits = LIMITS
    """What images may ask of this machine."""

    def open(self, split: str) -> "TfdsImages":
        """The images and annotations of a split; what is skipped or mended is in its `problems`.

        Raises:
            DataError: the data are not prepared, or not as array_record, or have no such split or features.
        """
        from vitjax.data.tfds_images import read_tfds  # which only those need who have such data

        training = split == self.train_split
        return read_tfds(self.data_dir, self.name, split, labels=self.labels, training=training, limits=self.limits)
