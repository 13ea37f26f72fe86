"""`vitjax predict`: what a model says of images and videos, as pictures and json."""

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from vitjax.commands.arguments import ImageWords, ModelWord


@dataclass(frozen=True)
class PredictArguments:
    """Predicts on images and videos. A detector writes a picture with boxes for each and predictions.json in
    COCO-results form; of a classifier the best classes of each image are printed, with their probabilities, and written
    to predictions.json. Of a segmentation model the pictures have the labels in colours, the folder labels the label
    maps, and predictions.json the share of each class. Of videos the results have the frame and its time; a detector
    also writes an MP4 with boxes, of the same frame rate and size (small ones enlarged until the tags are legible) and
    without the sound.
    """

    model: ModelWord
    """Run folder, published file, or folder or repository in Hugging Face's layout."""
    images: ImageWords
    """Images, videos (mp4, avi, mov, mkv, webm, m4v), folders of them, quoted patterns ('*.jpg', '**/*.png'), and
    http(s) addresses, which are fetched into the folder downloads beside the results."""
    out: str = "predictions"
    """Folder for the pictures and the results."""
    threshold: float | None = None
    """Lowest score of a box in the pictures; if left out that with the best F1 in the validation of the checkpoint, or
    the default of the post-processing where there is none. The results have all."""
    top: int | None = None
    """Most boxes per image, in pictures and results; if left out 100, with --tiles all. Most classes per image; if
    left out 5."""
    nms: float | None = None
    """Of boxes of one class whose IoU is above this only the best is kept; all are if left out, as DETR needs none."""
    tiles: Literal["own"] | int | None = None
    """Cuts larger images into overlapping tiles of so many pixels, and joins what is found on them; the bare word is
    the size that the model sees. For small objects on large images."""
    tile_overlap: float = 0.25
    """Share of its side that a tile has in common with the next: objects up to that length are never cut."""
    every: int = 1
    """Looks at every Nth frame of a video only; the boxes stay until the next."""
    csv: bool = False
    """Also writes predictions.csv: file, frame, label, name, score, and corners in pixels, or the rank of a class."""
    batch_size: int = 8
    """Images that are run at once."""
    workers: int = 0
    """Processes that read images; 0 does it in a thread."""
    step: int | None = None
    """Checkpoint to use; the best one if left out."""
    device: str | None = None
    """Where to compute: cpu, gpu, tpu, or one of several, such as cuda:1; all that JAX finds first if left out."""
    dtype: Literal["float32", "bfloat16"] | None = None
    """What to compute in; what the model says if left out."""
    matmul_precision: Literal["default", "high", "highest"] | None = None
    """Precision of float32 matrix products on accelerators; that of the run, or JAX's default, if left out."""


def run(words: list[str]) -> None:
    """Predicts and writes, and says what was written."""
    from vitjax.checkpoints.writing import writing
    from vitjax.inference.inputs import fetched, find_inputs
    from vitjax.inference.save import save
    from vitjax.inference.task import Asked
    from vitjax.tasks.load import load

    given = tyro.cli(PredictArguments, prog="vitjax predict", args=_with_own_tiles(words))
    asked = Asked(given.threshold, given.top, given.nms, given.tiles, given.tile_overlap if given.tiles else None)
    options = {name: getattr(given, name) for name in ("every", "csv", "batch_size", "workers")}
    tell = functools.partial(print, flush=True)
    with writing(Path(given.out), "--out"):
        paths = find_inputs(fetched(given.images, Path(given.out) / "downloads"))
        chosen = {name: getattr(given, name) for name in ("step", "matmul_precision", "device", "dtype")}
        predictor = load(given.model, **chosen, quiet=True)
        tell(predictor.told(given.threshold))
        saved = save(predictor, paths, Path(given.out), asked=asked, tell=tell, **options)
    skipped = [f"skipped, cannot be read: {cause}" for cause in saved.unreadable.values()]
    for line in (*predictor.task.summary(saved.drawn, asked), *skipped, *saved.notes):
        print(line)
    written = predictor.task.about.wrote + ("predictions.json and predictions.csv" if given.csv else "predictions.json")
    print(f"{saved.counts}, {saved.speed} with compilation: {written} in {given.out}")


def _with_own_tiles(words: list[str]) -> list[str]:
    """The words, in which "own" follows a `--tiles` without a side."""
    found = list(words)
    if "--tiles" in found:
        after = found.index("--tiles") + 1
        if not (found[after:] and (found[after].isdecimal() or found[after] == "own")):
            found.insert(after, "own")
    return found
