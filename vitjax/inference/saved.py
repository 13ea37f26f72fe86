"""The account of a prediction: how much was done, how fast, and what was not."""

from dataclasses import dataclass, field


@dataclass
class Saved:
    """How much was written; `drawn` counts what is shown on pictures, of videos on the frames looked at.

    `notes` are lines for people.
    """

    images: int = 0
    videos: int = 0
    frames: int = 0
    drawn: int = 0
    seconds: float = 0.0
    unreadable: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def counts(self) -> str:
        """Such as "1 image and 300 frames of 2 videos"."""
        frames = f"{_counted(self.frames, 'frame')} of {_counted(self.videos, 'video')}"
        images = _counted(self.images, "image")
        return images if not self.videos else f"{images} and {frames}" if self.images else frames

    @property
    def speed(self) -> str:
        """Such as "24.8 images/s"."""
        unit = "images" if self.images or not self.frames else "frames"
        return f"{(self.images + self.frames) / max(self.seconds, 1e-9):.1f} {unit}/s"


def _counted(number: int, thing: str) -> str:
    return f"{number:,} {thing}{'' if number == 1 else 's'}"
