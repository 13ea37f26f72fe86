"""Predictions as predictions.json, a result per line, and on request as predictions.csv; written as they come."""

import contextlib
import csv
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool
from pycocotools import mask as coco_masks

from vitjax.data.source import Classes
from vitjax.inference.prediction import Prediction, Recognition
from vitjax.inference.video import Frame

BOX_COLUMNS = ("file", "frame", "label", "name", "score", "x1", "y1", "x2", "y2")
CLASS_COLUMNS = ("file", "frame", "rank", "label", "name", "score")
Results = tuple[list[dict[str, Any]], list[dict[str, Any]]]  # for the json, and rows for the CSV


@dataclass(frozen=True)
class Place:
    """What a result is about: a file, or a frame of it."""

    path: Path
    frame: Frame | None = None

    @property
    def keys(self) -> dict[str, Any]:
        """The file, and the frame's number and time in seconds, as the json has them."""
        frame = self.frame
        moment = {} if frame is None else {"frame": frame.number, "time": round(frame.seconds, 3)}
        return {"file_name": str(self.path), **moment}

    @property
    def cells(self) -> dict[str, Any]:
        """The file and the frame's number, as the CSV has them."""
        return {"file": str(self.path)} | ({} if self.frame is None else {"frame": self.frame.number})


@contextlib.contextmanager
def result_files(out: Path, columns: Sequence[str] = ()) -> Iterator[Callable[[Results], None]]:
    """Writes the files with a function that takes results; the CSV only where columns are named.

    The files are complete, with what came until then, also where an error ends the writing.
    """
    out.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        file = stack.enter_context((out / "predictions.json").open("w", encoding="utf-8"))
        table: csv.DictWriter | None = None
        if columns:
            sheet = stack.enter_context((out / "predictions.csv").open("w", encoding="utf-8", newline=""))
            table = csv.DictWriter(sheet, columns, restval="", extrasaction="ignore", lineterminator="\n")
            table.writeheader()
        file.write("[")
        stack.callback(file.write, "\n]\n")
        before = "\n"

        def write(results: Results) -> None:
            nonlocal before
            for entry in results[0]:
                file.write(before + json.dumps(entry))
                before = ",\n"
            if table is not None:
                table.writerows(results[1])

        yield write


def box_results(prediction: Prediction, place: Place, image_id: int, classes: Classes) -> Results:
    """COCO's results with the file and the class name beside the ids, and rows with the corners; all in pixels.

    Masks, where there are any, are in the results as COCO's run lengths.
    """
    corners = np.asarray(prediction.boxes, np.float64)
    boxes = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1).round(2).tolist()
    scores = [round(score, 6) for score in prediction.scores.tolist()]
    entries, rows = [], []
    for row, (label, name, score) in enumerate(zip(prediction.labels.tolist(), prediction.names, scores, strict=True)):
        category = classes.category_ids[label] if label < len(classes) else label
        ids = {"image_id": image_id, "category_id": category, "bbox": boxes[row], "score": score}
        outline = {} if prediction.masks is None else {"segmentation": run_lengths(prediction.masks[row])}
        entries.append({**ids, **outline, **place.keys, "category_name": name})
        sides = dict(zip(BOX_COLUMNS[-4:], corners[row].round(2).tolist(), strict=True))
        rows.append({**place.cells, "label": label, "name": name, "score": score, **sides})
    return entries, rows


def run_lengths(mask: Bool[np.ndarray, "height width"]) -> dict[str, Any]:
    """The mask as COCO has it: its (height, width), and the lengths of its runs down the columns, compressed."""
    encoded = coco_masks.encode(np.asfortranarray(mask, np.uint8))
    return {"size": list(mask.shape), "counts": encoded["counts"].decode("ascii")}


def class_results(told: Recognition, place: Place) -> Results:
    """The file with its classes, best first, and a row for each class."""
    triples = zip(told.labels.tolist(), told.names, told.scores.tolist(), strict=True)
    best = [{"label": label, "name": name, "score": round(score, 6)} for label, name, score in triples]
    rows = [{**place.cells, "rank": rank, **one} for rank, one in enumerate(best, start=1)]
    return [{**place.keys, "classes": best}], rows
