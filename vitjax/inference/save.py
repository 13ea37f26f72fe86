"""Predictions as files: pictures and videos, and the results; what is on them is the task's."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image
from tqdm import tqdm

from vitjax.data.errors import DataError
from vitjax.data.label_names import stuff_of
from vitjax.data.mask_source import PanopticMap
from vitjax.data.memory import Pictures
from vitjax.data.plan import require_positive
from vitjax.data.source import Classes, Source
from vitjax.drawing.boxes import legible_scale
from vitjax.inference.inputs import is_video, picture_paths
from vitjax.inference.kept import KeptPictures
from vitjax.inference.panoptic_files import PanopticFiles
from vitjax.inference.results import Origin, Results, result_files
from vitjax.inference.saved import Saved
from vitjax.inference.task import NOTHING_ASKED, Asked, Task
from vitjax.inference.video import Frame, Video, look_through, open_video, written_video
from vitjax.prediction import Answer

# Photographs that wait to be drawn on take no more memory than this; those beyond are decoded once more.
_WAITING_BYTES = 2**28


class Predicts(Protocol):
    """What is asked of a model; a Predictor is one."""

    @property
    def task(self) -> Task:
        """What is particular to its kind."""
        ...

    @property
    def classes(self) -> Classes:
        """What its labels mean."""
        ...

    def predict(
        self, source: Source, *, batch_size: int, asked: Asked = NOTHING_ASKED, workers: int = 0
    ) -> Iterable[Answer]:
        """What is predicted for every record, in any order."""
        ...


def save(
    predictor: Predicts,
    paths: Sequence[Path],
    out: Path,
    *,
    asked: Asked = NOTHING_ASKED,
    every: int = 1,
    csv: bool = False,
    batch_size: int = 8,
    workers: int = 0,
    tell: Callable[[str], None] = lambda line: None,
) -> Saved:
    """Writes what is predicted on images and videos to the folder `out`; gives how much that was.

    `<out>/predictions.json` has the results of every image, in the order of the files; with `csv` there is a table of
    the same, predictions.csv. Where the task draws there are `<out>/<name>.png` of images and `<out>/<name>.mp4` of
    videos, and pictures in the task's own folders; of a model that knows stuff the segments of images are in COCO's
    panoptic form, as `vitjax.inference.panoptic_files` has them. Of a video every `every`-th frame is looked at, has
    its number and its time in seconds in the results, and what is found stays on the picture until the next. `tell` is
    called with the lines on an image as soon as it is done.

    Raises:
        FieldError: the task does not know what is asked for, or `every` is no number of frames.
        DataError: a video cannot be read or written, no image can be read, or a picture would overwrite what it is
            made of.
    """
    require_positive(every=every)
    predictor.task.allow(asked)
    saved, began, about = Saved(), time.monotonic(), predictor.task.about
    if asked.tiles is None:  # of which each may hold as many as a photograph
        asked = replace(asked, top=asked.top or about.top)
    images, videos = _opened(paths, predictor, saved)
    if not images and not videos:
        saved.require_any()  # before earlier results are replaced by none
    pictures: list[Path | None] = [None] * (len(images) + len(videos))
    if about.draws:
        pictures = [*picture_paths([*images, *(video.path for video in videos)], out)]
    for folder in about.folders:
        picture_paths(images, out / folder)  # refused before anything is written
    columns = [column for column in about.columns if column != "frame" or videos]
    segments = PanopticFiles(out, images, predictor.classes)
    with result_files(out, columns if csv else ()) as write, closing(segments):
        run = _Run(predictor, asked, saved, write, batch_size, tell, segments)
        run.images(images, pictures, workers)
        first_id = len(images) + 1
        for video, picture in zip(videos, pictures[len(images) :], strict=True):
            first_id += run.video(video, picture, first_id, every)
    saved.notes += segments.told(run.with_masks if stuff_of(predictor.classes) else 0)
    saved.require_any()
    saved.seconds = time.monotonic() - began
    return saved


@dataclass
class _Run:
    """A model at work: what it predicts goes to the results and on pictures, and is counted."""

    predictor: Predicts
    asked: Asked
    saved: Saved
    write: Callable[[Results], None]
    batch_size: int
    tell: Callable[[str], None]
    segments: PanopticFiles
    with_masks: int = 0

    def images(self, paths: Sequence[Path], pictures: Sequence[Path | None], workers: int) -> None:
        """Images are drawn on as they come, bucket by bucket; the results are in the order of the files."""
        if not paths:
            return
        task, classes = self.predictor.task, self.predictor.classes
        source = KeptPictures(paths, classes, room=_WAITING_BYTES if task.about.draws and not workers else 0)
        answers = self.predictor.predict(source, batch_size=self.batch_size, asked=self.asked, workers=workers)
        ready: dict[int, Results | None] = {}
        following = 0
        for record, _, found in tqdm(
            answers, total=len(source), unit="image", disable=None if task.about.draws else True
        ):
            ready[record] = None
            if found is None:
                self.saved.unreadable[str(paths[record])] = _cause(source, record)
            else:
                picture = pictures[record]
                kept = task.kept(found, self.asked)
                ready[record] = task.results(
                    kept, Origin(paths[record]), record + 1, classes, picture.name if picture else ""
                )
                for line in task.lines(paths[record], kept):
                    self.tell(line)
                self.saved.images += 1
                if picture is not None:
                    self._draw(source.take(record), record, found, kept, picture)
            while following in ready:
                if (results := ready.pop(following)) is not None:
                    self.write(results)
                following += 1

    def video(self, video: Video, picture: Path | None, first_id: int, every: int) -> int:
        """The number of frames looked at."""
        task, classes, asked_for = self.predictor.task, self.predictor.classes, 0

        def look(frames: list[np.ndarray]) -> Iterable[Answer]:
            return self.predictor.predict(Pictures(frames, classes), batch_size=self.batch_size, asked=self.asked)

        shown: Any = None
        with _film(video, picture) as write_frame:
            for frame, answer in self._watched(video, look, every):
                if answer is not None:
                    kept = task.kept(answer.prediction, self.asked)
                    self.write(task.results(kept, Origin(video.path, frame), first_id + asked_for, classes, ""))
                    shown = self._shown(kept)
                    asked_for += 1
                if write_frame is not None:
                    write_frame(task.drawn(frame.image, shown, classes))
        return asked_for

    def _draw(self, image: np.ndarray, record: int, found: Any, kept: Any, picture: Path) -> None:
        task, classes = self.predictor.task, self.predictor.classes
        Image.fromarray(task.drawn(image, self._shown(kept), classes)).save(picture)
        self.with_masks += getattr(found, "masks", None) is not None
        for folder, drawn in task.beside(image, found, classes).items():
            if isinstance(drawn, PanopticMap):
                self.segments.add(record, picture.name, drawn)
                continue
            beside = picture.parent / folder / picture.name
            beside.parent.mkdir(exist_ok=True)
            drawn.save(beside)

    def _shown(self, kept: Any) -> Any:
        shown = self.predictor.task.shown(kept, self.asked)
        self.saved.drawn += len(shown)
        return shown

    def _watched(
        self, video: Video, look: Callable[[list[np.ndarray]], Iterable[Answer]], every: int
    ) -> Iterator[tuple[Frame, Answer | None]]:
        """The frames of a video with the answers, counted, behind a progress bar."""
        frames = look_through(video, look, batch_size=self.batch_size, every=every)
        count = 0
        for frame, answer in tqdm(frames, desc=video.path.name, total=video.told or None, unit="frame", disable=None):
            yield frame, answer
            count += 1
        self.saved.videos += 1
        self.saved.frames += count
        self.saved.notes += video.ending(count)


def _film(video: Video, picture: Path | None) -> AbstractContextManager[Callable[[np.ndarray], None] | None]:
    """What writes the frames of the video that is drawn, large enough to be read; nothing where none is."""
    if picture is None:
        return nullcontext()
    scale = int(legible_scale(video.height, video.width))
    return written_video(picture, height=video.height * scale, width=video.width * scale, rate=video.rate)


def _cause(source: Source, record: int) -> str:
    """Why an image that could not be decoded cannot be: it is read once more, in this process."""
    try:
        source[record]
    except DataError as error:
        return str(error)
    return f"{source.name(record)} could not be read at first, and then could."


def _opened(paths: Sequence[Path], predictor: Predicts, saved: Saved) -> tuple[list[Path], list[Video]]:
    """The images whose header reads as one, and the videos; other files are noted as unreadable."""
    images, videos = [], []
    for path in paths:
        if is_video(path):
            if reason := predictor.task.about.no_videos:
                raise DataError(f"{path} is a video, and {reason}.")
            videos.append(open_video(path))
            continue
        try:
            Pictures([path], predictor.classes)
            images.append(path)
        except DataError as error:
            saved.unreadable[str(path)] = str(error)
    return images, videos
