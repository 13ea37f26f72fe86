"""Label maps as files: a picture in colours, the map itself, and a list of what is on each image."""

import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol

from PIL import Image
from tqdm import tqdm

from vitjax.data.errors import DataError
from vitjax.data.memory import Pictures
from vitjax.data.source import Classes, SizedSource
from vitjax.drawing.label_maps import draw_label_map, label_picture, legend, with_legend
from vitjax.inference.inputs import is_video, picture_paths
from vitjax.inference.kept import KeptPictures
from vitjax.inference.label_mapper import Mapped
from vitjax.inference.results import Place, Results, result_files
from vitjax.inference.saved import Saved
from vitjax.inference.segment_predictor import Segmentation, segmentation

COLUMNS = ("file", "label", "name", "share")
# Photographs that wait to be drawn on take no more memory than this; those beyond are decoded once more.
_WAITING_BYTES = 2**28


class Labels(Protocol):
    """What is asked of a segmentation model; a SegmentPredictor is one."""

    @property
    def classes(self) -> Classes:
        """What its labels mean."""
        ...

    def label(self, source: SizedSource, *, batch_size: int, workers: int = 0) -> Iterable[Mapped]:
        """The label map of every record, in any order."""
        ...


def save_label_maps(
    predictor: Labels, paths: Sequence[Path], out: Path, *, csv: bool = False, batch_size: int = 8, workers: int = 0
) -> Saved:
    """Writes of each image `<out>/<name>.png`, the labels in colours over it, and its label map, `labels/<name>.png`.

    The map is as large as the image; its pixels are the labels, with the colours as palette. predictions.json has for
    each image the map and the share of every class on it; with `csv` there is a predictions.csv of the same shares.

    Raises:
        DataError: there is a video among the files, or a picture would overwrite what it is made of.
    """
    saved, began = Saved(), time.monotonic()
    images = _images(paths, predictor.classes, saved)
    pictures = picture_paths(images, out)
    maps = picture_paths(images, out / "labels")
    (out / "labels").mkdir(parents=True, exist_ok=True)
    names = predictor.classes.names
    source = KeptPictures(images, predictor.classes, room=0 if workers else _WAITING_BYTES)
    results: dict[int, Results] = {}
    with result_files(out, COLUMNS if csv else ()) as write:
        found = predictor.label(source, batch_size=batch_size, workers=workers) if images else ()
        for one in tqdm(found, total=len(images), unit="image", disable=None):
            if not one.readable:
                saved.unreadable.append(str(images[one.record]))
                continue
            told = segmentation(one.label_map, predictor.classes)
            drawn = draw_label_map(source.take(one.record), told.label_map, names)
            Image.fromarray(with_legend(drawn, legend(told, names))).save(pictures[one.record])
            label_picture(told.label_map, names).save(maps[one.record])
            results[one.record] = map_results(told, Place(images[one.record]), maps[one.record])
        for record in sorted(results):
            write(results[record])
    saved.images, saved.seconds = len(results), time.monotonic() - began
    return saved


def map_results(told: Segmentation, place: Place, label_map: Path) -> Results:
    """The file with its label map and the share of every class on it, and a row for each class."""
    triples = zip(told.labels, told.names, told.shares, strict=True)
    shares = [{"label": label, "name": name, "share": round(share, 6)} for label, name, share in triples]
    rows = [{**place.cells, **one} for one in shares]
    return [{**place.keys, "label_map": f"labels/{label_map.name}", "classes": shares}], rows


def _images(paths: Sequence[Path], classes: Classes, saved: Saved) -> list[Path]:
    """The images whose header reads as one; other files are noted as unreadable."""
    images = []
    for path in paths:
        if is_video(path):
            raise DataError(f"{path} is a video, and label maps are made of images; take out its frames as images.")
        try:
            Pictures([path], classes)
            images.append(path)
        except DataError:
            saved.unreadable.append(str(path))
    return images
