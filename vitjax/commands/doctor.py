"""`vitjax doctor`: what in a data folder would hurt training."""

from dataclasses import asdict, dataclass

import tyro


@dataclass(frozen=True)
class DoctorArguments:
    """Looks through a data folder for what would hurt training, and says what to do about it: COCO format or its
    panoptic form, YOLO's or Pascal VOC's layout, or a folder of images for each class. The exit code is 0 if there is
    nothing beyond notes, 1 with warnings, 2 with errors."""

    data: tyro.conf.Positional[str]
    """The folder, or a data.yaml."""
    split: str | None = None
    """The one split to look at; all that are there if left out."""
    queries: int = 100
    """Queries of the model: no more objects can be found on an image."""
    decode: bool = False
    """Decode every image, not just read its header."""
    size: tuple[int, int] = (800, 1333)
    """Shorter side that images are resized to, and the most that the longer may become."""
    batch_size: int = 16
    """Images of a training step, for the padding."""


def run(words: list[str]) -> int:
    """Prints what was found; returns the exit code."""
    from vitjax.doctor.examination import examine

    options = asdict(tyro.cli(DoctorArguments, prog="vitjax doctor", args=words))
    examination = examine(options.pop("data"), **options)
    print(examination.table())
    return examination.exit_code
