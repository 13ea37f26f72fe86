"""Predictions as files: pictures and videos with boxes, and the results; of a classifier the results alone."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from jaxtyping import UInt8
from PIL import Image
from tqdm import tqdm

from vitjax.data.errors import DataError
from vitjax.data.label_names import COCO_PANOPTIC, is_thing
from vitjax.data.memory import Picture, Pictures
from vitjax.data.plan import require_positive
from vitjax.data.source import Classes, SizedSource, Source
from vitjax.drawing.boxes import draw_boxes, legible_scale
from vitjax.drawing.masks import draw_masks, draw_segments
from vitjax.inference.choice import BoxChoice
from vitjax.inference.detector import Found
from vitjax.inference.inputs import is_video, picture_paths
from vitjax.inference.kept import KeptPictures
from vitjax.inference.prediction import Prediction, Recognition, recognition
from vitjax.inference.recognizer import Recognized
from vitjax.inference.results import (
    BOX_COLUMNS,
    CLASS_COLUMNS,
    Place,
    Results,
    box_results,
    class_results,
    result_files,
)
from vitjax.inference.saved import Saved
from vitjax.inference.video import Frame, Video, look_through, open_video, written_video
from vitjax.segmentation.panoptic import panoptic

PANOPTIC = "panoptic"
"""Folder for the pictures of a model that tells things and stuff, within that of the others."""

# Photographs that wait to be drawn on take no more memory than this; those beyond are decoded once more.
_WAITING_BYTES = 2**28


class Detects(Protocol):
    """What is asked of a detector; a Predictor is one."""

    @property
    def classes(self) -> Classes:
        """What its labels mean."""
        ...

    def detect(self, source: SizedSource, *, batch_size: int, workers: int = 0) -> Iterable[Found]:
        """What is found on every record, in any order."""
        ...


class Recognizes(Protocol):
    """What is asked of a classifier; a ClassPredictor is one."""

    @property
    def classes(self) -> Classes:
        """What its labels mean."""
        ...

    def recognize(
        self, source: Source, *, batch_size: int, top: int | None = None, workers: int = 0
    ) -> Iterable[Recognized]:
        """The best classes of every record, in order."""
        ...


def save_predictions(
    predictor: Detects,
    paths: Sequence[Path],
    out: Path,
    *,
    threshold: float,
    top: int = 100,
    nms: float | None = None,
    every: int = 1,
    csv: bool = False,
    batch_size: int = 8,
    workers: int = 0,
) -> Saved:
    """Writes `<out>/<name>.png` of images and `<out>/<name>.mp4` of videos, with the boxes that reach the threshold.

    `<out>/predictions.json` has the `top` boxes of every image as COCO's results, [x, y, width, height] in pixels, with
    the file and class name beside the ids; image_id counts from 1 the images and then the frames. Of a video every
    `every`-th frame is looked at, has its number and its time in seconds in the results, and its boxes stay on the
    picture until the next. With `csv` there is a predictions.csv of the same boxes. Masks, where the model makes them,
    are on the pictures and in the results; where it is a panoptic one, `<out>/panoptic/<name>.png` shows its segments.

    Raises:
        ValueError: `nms` is no IoU, or `top` or `every` no number of things.
        DataError: a video cannot be read or written, or a picture would overwrite what it is made of.
    """
    require_positive(top=top, every=every)
    saved, began = Saved(), time.monotonic()
    choice = BoxChoice(threshold, top, nms)
    images, videos = _opened(paths, predictor.classes, saved)
    pictures = picture_paths([*images, *(video.path for video in videos)], out)
    picture_paths(images, out / PANOPTIC)  # refused before anything is written
    with result_files(out, _columns(BOX_COLUMNS, videos) if csv else ()) as write:
        run = _Boxes(predictor, choice, saved, write, batch_size)
        run.images(images, pictures, workers)
        first_id = len(images) + 1
        for video, picture in zip(videos, pictures[len(images) :], strict=True):
            first_id += run.video(video, picture, first_id, every)
    saved.seconds = time.monotonic() - began
    return saved


def save_recognitions(
    predictor: Recognizes,
    paths: Sequence[Path],
    out: Path,
    *,
    top: int | None = None,
    every: int = 1,
    csv: bool = False,
    batch_size: int = 8,
    workers: int = 0,
    tell: Callable[[Path, Recognition], None] = lambda path, told: None,
) -> Saved:
    """Writes `<out>/predictions.json`: all images, and every `every`-th frame of videos, with their best classes.

    `tell` is called with each image as it is done, in order. With `csv` there is a predictions.csv of the same classes.

    Raises:
        DataError: a video cannot be read.
    """
    require_positive(every=every)
    saved, began = Saved(), time.monotonic()
    images, videos = _opened(paths, predictor.classes, saved)
    with result_files(out, _columns(CLASS_COLUMNS, videos) if csv else ()) as write:

        def look(pictures: Sequence[Picture], workers: int = 0) -> Iterable[Recognized]:
            source = Pictures(pictures, predictor.classes)
            return predictor.recognize(source, batch_size=batch_size, top=top, workers=workers)

        for one in look(images, workers) if images else ():
            if not one.readable:
                saved.unreadable.append(str(images[one.record]))
                continue
            told = recognition(one, predictor.classes)
            tell(images[one.record], told)
            write(class_results(told, Place(images[one.record])))
            saved.images += 1
        for video in videos:
            for frame, answer in _watched(video, look, saved, batch_size=batch_size, every=every):
                if answer is not None:
                    write(class_results(recognition(answer, predictor.classes), Place(video.path, frame)))
    saved.seconds = time.monotonic() - began
    return saved


@dataclass
class _Boxes:
    """A detector at work: what it finds goes to the results and on pictures, and is counted."""

    predictor: Detects
    choice: BoxChoice
    saved: Saved
    write: Callable[[Results], None]
    batch_size: int

    def images(self, paths: Sequence[Path], pictures: Sequence[Path], workers: int) -> None:
        """Images are drawn on as they come, bucket by bucket; the results are in the order of the files."""
        if not paths:
            return
        classes = self.predictor.classes
        source = KeptPictures(paths, classes, room=0 if workers else _WAITING_BYTES)
        found = self.predictor.detect(source, batch_size=self.batch_size, workers=workers)
        every: dict[int, Results] = {}
        for one in tqdm(found, total=len(source), unit="image", disable=None):
            image = source.take(one.record) if one.readable else None
            if image is None:
                self.saved.unreadable.append(str(paths[one.record]))
                continue
            kept = self.choice.of(one, classes)
            every[one.record] = box_results(kept, Place(paths[one.record]), one.record + 1, classes)
            shown = self._shown(kept)
            Image.fromarray(self._drawn(image, shown)).save(pictures[one.record])
            self._save_panoptic(one, image, pictures[one.record])
        for record in sorted(every):
            self.write(every[record])
        self.saved.images = len(every)

    def video(self, video: Video, picture: Path, first_id: int, every: int) -> int:
        """The number of frames looked at."""
        classes, asked = self.predictor.classes, 0

        def look(frames: list[np.ndarray]) -> Iterable[Found]:
            return self.predictor.detect(Pictures(frames, classes), batch_size=self.batch_size)

        scale = int(legible_scale(video.height, video.width))
        with written_video(
            picture, height=video.height * scale, width=video.width * scale, rate=video.rate
        ) as write_frame:
            for frame, answer in _watched(video, look, self.saved, batch_size=self.batch_size, every=every):
                if answer is not None:
                    kept = self.choice.of(answer, classes)
                    self.write(box_results(kept, Place(video.path, frame), first_id + asked, classes))
                    shown = self._shown(kept)
                    asked += 1
                write_frame(self._drawn(frame.image, shown))
        return asked

    def _save_panoptic(self, found: Found, image: np.ndarray, picture: Path) -> None:
        """A picture of things and stuff beside that of the boxes, of a model that knows stuff."""
        if found.masks is None or self.predictor.classes != COCO_PANOPTIC:
            return
        segments = panoptic(found.scores, found.labels, found.masks, is_thing=is_thing)
        beside = picture.parent / PANOPTIC / picture.name
        beside.parent.mkdir(exist_ok=True)
        Image.fromarray(draw_segments(image, segments, COCO_PANOPTIC.names)).save(beside)

    def _shown(self, kept: Prediction) -> Prediction:
        shown = self.choice.shown(kept)
        self.saved.boxes += len(shown)
        return shown

    def _drawn(self, image: np.ndarray, shown: Prediction) -> UInt8[np.ndarray, "height width 3"]:
        names, scale = self.predictor.classes.names, legible_scale(*image.shape[:2])
        image = image if shown.masks is None else draw_masks(image, shown.masks, shown.names, names=names)
        return draw_boxes(image, shown.boxes, shown.names, shown.scores, names=names, scale=scale)


def _opened(paths: Sequence[Path], classes: Classes, saved: Saved) -> tuple[list[Path], list[Video]]:
    """The images whose header reads as one, and the videos; other files are noted as unreadable."""
    images, videos = [], []
    for path in paths:
        if is_video(path):
            videos.append(open_video(path))
            continue
        try:
            Pictures([path], classes)
            images.append(path)
        except DataError:
            saved.unreadable.append(str(path))
    return images, videos


def _watched(
    video: Video, look: Callable[[list[np.ndarray]], Iterable[Any]], saved: Saved, *, batch_size: int, every: int
) -> Iterator[tuple[Frame, Any | None]]:
    """The frames of a video with the answers, counted, behind a progress bar."""
    frames = look_through(video, look, batch_size=batch_size, every=every)
    count = 0
    for frame, answer in tqdm(frames, desc=video.path.name, total=video.told or None, unit="frame", disable=None):
        yield frame, answer
        count += 1
    saved.videos += 1
    saved.frames += count
    saved.notes += video.ending(count)


def _columns(columns: Sequence[str], videos: Sequence[Video]) -> list[str]:
    """The columns of the CSV; that of the frame only where there are frames."""
    return [column for column in columns if column != "frame" or videos]
