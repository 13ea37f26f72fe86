"""Video files through OpenCV, frame by frame: looked at in batches, and written with boxes on them."""

import contextlib
import itertools
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import UInt8

from vitjax.data.errors import DataError

SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v")

# What FFmpeg would print about a broken file is in the DataError; OpenCV reads this when it opens the first one.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")

# Frames per second where a file tells none, or the 1000 of browsers, which stands for "any".
_USUAL_RATE = 30.0
# Frames in memory take no more than this, unless a single one that is looked at, and those until the next, do.
_WAITING_BYTES = 2**29
_BATCHES_AT_ONCE = 16


@dataclass(frozen=True)
class Frame:
    """One picture of a video: its number from 0, its time in seconds from the start, and its RGB pixels."""

    number: int
    seconds: float
    image: UInt8[np.ndarray, "height width 3"]


@dataclass(frozen=True)
class Video:
    """A video whose first frame could be read: its size, upright, its frames per second, and how many there may be.

    `told` is the number of frames as the file's header tells it, 0 where it does not.
    """

    path: Path
    height: int
    width: int
    rate: float
    told: int

    def frames(self) -> Iterator[Frame]:
        """The frames as they are read, up to the last that can be."""
        with _opened(self.path) as capture:
            number = 0
            while (image := _next_image(capture)) is not None and image.shape[:2] == (self.height, self.width):
                seconds = capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
                yield Frame(number, seconds or number / self.rate, image)
                number += 1

    def ending(self, frames: int) -> tuple[str, ...]:
        """A line for people where the video ended after so many frames, before its time; headers may err a little."""
        if self.told - frames <= 1 + 0.02 * self.told:
            return ()
        return (f"{self.path} breaks off: {frames} of its {self.told} frames could be read",)


def open_video(path: Path) -> Video:
    """The video, ready to read.

    Raises:
        DataError: the file is empty, or OpenCV cannot read a frame of it.
    """
    if path.stat().st_size == 0:
        raise DataError(f"the video {path} is empty. Replace the file, or leave it out.")
    with _opened(path) as capture:
        image = _next_image(capture)
        rate, told = capture.get(cv2.CAP_PROP_FPS), capture.get(cv2.CAP_PROP_FRAME_COUNT)
    if image is None:
        raise DataError(
            f"the video {path} cannot be read: OpenCV finds no frame in it. Is it whole? Or convert it to H.264 in MP4."
        )
    height, width = image.shape[:2]
    return Video(path, height, width, rate if 0 < rate < 1000 else _USUAL_RATE, max(0, int(told)))


def look_through(
    video: Video, look: Callable[[list[np.ndarray]], Iterable[Any]], *, batch_size: int, every: int = 1
) -> Iterator[tuple[Frame, Any | None]]:
    """All frames in order, each with the answer on it, or with None where it is not an `every`-th frame.

    `look` is called with some batches of images at a time and gives an answer for each, with its place among them as
    `.record`, in any order.
    """
    frames, asked = video.frames(), _asked_at_once(video, batch_size, every)
    while chunk := list(itertools.islice(frames, asked * every)):
        answers = iter(look([frame.image for frame in chunk[::every]]))
        come: dict[int, Any] = {}
        for place, frame in enumerate(chunk):
            while place % every == 0 and place // every not in come:
                answer = next(answers)
                come[answer.record] = answer
            yield frame, come.pop(place // every) if place % every == 0 else None


def _asked_at_once(video: Video, batch_size: int, every: int) -> int:
    """So many batches that starting anew costs little time, as far as they and the frames between fit into memory."""
    fit = max(1, _WAITING_BYTES // (3 * video.height * video.width * every))
    return fit if fit < batch_size else batch_size * min(_BATCHES_AT_ONCE, fit // batch_size)


@contextlib.contextmanager
def written_video(
    path: Path, *, height: int, width: int, rate: float
) -> Iterator[Callable[[UInt8[np.ndarray, "height width 3"]], None]]:
    """Writes an MP4 without sound, with a function that takes its RGB frames; odd sides grow by one pixel.

    Raises:
        DataError: OpenCV has no codec for it, or the file cannot be written.
    """
    size = width + width % 2, height + height % 2  # the codec's colours are stored for 2x2 pixels
    # The codec counts time in fractions of a second with 16 bits, so 119.8734 cannot be, and 119.87 can.
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), round(rate, 3 if rate < 65 else 2), size)
    if not writer.isOpened():
        raise DataError(
            f"{path} cannot be written: the folder is closed to you, or this OpenCV has no codec for MPEG-4 (mp4v); "
            "the one of `pip install opencv-python-headless` has."
        )

    def write(image: UInt8[np.ndarray, "height width 3"]) -> None:
        even = cv2.copyMakeBorder(image, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)
        writer.write(cv2.cvtColor(even, cv2.COLOR_RGB2BGR))

    try:
        yield write
    finally:
        writer.release()


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[cv2.VideoCapture]:
    capture = cv2.VideoCapture(str(path))
    try:
        yield capture
    finally:
        capture.release()


def _next_image(capture: cv2.VideoCapture) -> UInt8[np.ndarray, "height width 3"] | None:
    good, image = capture.read()
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB) if good else None
