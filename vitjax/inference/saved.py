"""The account of a prediction: how much was done, how fast, and what was not."""

from dataclasses import dataclass, field

from vitjax.data.errors import DataError


@dataclass
class Saved:
    """How much was written; `drawn` counts what is shown on pictures, of videos on the frames looked at.

    `unreadable` has the files that were left out with the cause of each, `notes` are lines for people.
    """

    images: int = 0
    videos: int = 0
    frames: int = 0
    drawn: int = 0
    seconds: float = 0.0
    unreadable: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def counts(self) -> str:
        """Such as "1 image and 300 frames of 2 videos"."""
        frames = f"{_counted(self.frames, 'frame')} of {_counted(self.videos, 'video')}"
        images = _counted(self.images, "image")
        return images if not self.videos else f"{images} and {frames}" if self.images else frames

    def require_any(self) -> None:
        """Passes where something could be read.

        Raises:
            DataError: nothing could; the message has the first cause.
        """
        if self.unreadable and not (self.images or self.frames):
            many = len(self.unreadable)
            told = "the only file cannot" if many == 1 else f"none of the {many} files can"
            raise DataError(f"{told} be read: {next(iter(self.unreadable.values()))}")

    @property
    def speed(self) -> str:
        """Such as "24.8 images/s"."""
        unit = "images" if self.images or not self.frames else "frames"
        return f"{(self.images + self.frames) / max(self.seconds, 1e-9):.1f} {unit}/s"


def _counted(number: int, thing: str) -> str:
    return f"{number:,} {thing}{'' if number == 1 else 's'}"
