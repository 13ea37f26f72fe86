"""`vitjax predict`: what a model says of images and videos, as pictures and json."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

if TYPE_CHECKING:
    from vitjax.inference.class_predictor import ClassPredictor
    from vitjax.inference.prediction import Recognition
    from vitjax.inference.predictor import Predictor
    from vitjax.inference.saved import Saved
    from vitjax.inference.segment_predictor import SegmentPredictor


@dataclass(frozen=True)
class PredictArguments:
    """Predicts on images and videos. A detector writes a picture with boxes for each and predictions.json in
    COCO-results form; of a classifier the best classes of each image are printed, with their probabilities, and written
    to predictions.json. Of a segmentation model the pictures have the labels in colours, the folder labels the label
    maps, and predictions.json the share of each class. Of videos the results have the frame and its time; a detector
    also writes an MP4 with boxes, of the same frame rate and size (small ones enlarged until the tags are legible) and
    without the sound.
    """

    model: tyro.conf.Positional[str]
    """Run folder, published file, or folder or repository in Hugging Face's layout."""
    images: tyro.conf.Positional[tuple[str, ...]]
    """Images, videos (mp4, avi, mov, mkv, webm, m4v), folders of them, and quoted patterns: '*.jpg', '**/*.png'."""
    out: str = "predictions"
    """Folder for the pictures and the results."""
    threshold: float | None = None
    """Lowest score of a box in the pictures; that of the run's post-processing if left out. The results have all."""
    top: int | None = None
    """Most boxes per image, in pictures and results, 100 if left out; most classes per image, 5 if left out."""
    nms: float | None = None
    """Of boxes of one class whose IoU is above this only the best is kept; all are if left out, as DETR needs none."""
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


def run(words: list[str]) -> None:
    """Predicts and writes, and says what was written."""
    from vitjax.inference.class_predictor import ClassPredictor
    from vitjax.inference.inputs import find_inputs
    from vitjax.inference.predictor import load
    from vitjax.inference.segment_predictor import SegmentPredictor

    asked = tyro.cli(PredictArguments, prog="vitjax predict", args=words)
    paths = find_inputs(asked.images)
    predictor = load(asked.model, step=asked.step)
    if isinstance(predictor, SegmentPredictor):
        _predict_maps(predictor, paths, asked)
    elif isinstance(predictor, ClassPredictor):
        _predict_classes(predictor, paths, asked)
    else:
        _predict_boxes(predictor, paths, asked)


def _predict_boxes(predictor: "Predictor", paths: list[Path], asked: PredictArguments) -> None:
    from vitjax.inference.save import save_predictions

    threshold = predictor.threshold if asked.threshold is None else asked.threshold
    saved = save_predictions(
        predictor,
        paths,
        Path(asked.out),
        threshold=threshold,
        top=asked.top or 100,
        nms=asked.nms,
        every=asked.every,
        csv=asked.csv,
        batch_size=asked.batch_size,
        workers=asked.workers,
    )
    print(f"{saved.boxes} boxes of score {threshold} or more")
    _tell_saved(saved, "pictures, ", asked)


def _predict_classes(predictor: "ClassPredictor", paths: list[Path], asked: PredictArguments) -> None:
    from vitjax.inference.save import save_recognitions

    if asked.threshold is not None or asked.nms is not None:
        raise ValueError("--threshold and --nms are for detectors; a classifier tells its best classes, --top of them.")

    def tell(path: Path, told: "Recognition") -> None:
        lines = [f"  {100 * score:5.1f} %  {name}" for score, name in zip(told.scores, told.names, strict=True)]
        print("\n".join([str(path), *lines]), flush=True)

    saved = save_recognitions(
        predictor,
        paths,
        Path(asked.out),
        top=asked.top,
        every=asked.every,
        csv=asked.csv,
        batch_size=asked.batch_size,
        workers=asked.workers,
        tell=tell,
    )
    _tell_saved(saved, "", asked)


def _predict_maps(predictor: "SegmentPredictor", paths: list[Path], asked: PredictArguments) -> None:
    from vitjax.inference.save_maps import save_label_maps

    given = [name for name in ("threshold", "nms", "top") if getattr(asked, name) is not None]
    if given:
        raise ValueError(f"--{given[0]} is not for a segmentation model, which gives every pixel its best class.")
    saved = save_label_maps(
        predictor, paths, Path(asked.out), csv=asked.csv, batch_size=asked.batch_size, workers=asked.workers
    )
    _tell_saved(saved, "pictures, label maps in labels, ", asked)


def _tell_saved(saved: "Saved", pictures: str, asked: PredictArguments) -> None:
    for name in saved.unreadable:
        print(f"skipped, cannot be read: {name}")
    for note in saved.notes:
        print(note)
    results = "predictions.json and predictions.csv" if asked.csv else "predictions.json"
    print(f"{saved.counts}, {saved.speed} with compilation: {pictures}{results} in {asked.out}")
