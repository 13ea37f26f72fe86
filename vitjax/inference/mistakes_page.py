"""Pictures of what a detector does wrong: curves, confusions of classes, and the worst images beside the truth."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from vitjax.checkpoints.writing import replace_file
from vitjax.data.errors import DataError
from vitjax.data.source import Source
from vitjax.drawing.boxes import contact_sheet, draw_boxes
from vitjax.evaluation.mistakes_report import ON_CROWD

RIGHT, WRONG, ASIDE = (41, 182, 90), (255, 70, 70), (150, 150, 150)
_TILE = 480  # pixels: two in a row, so that the page is read at full size
_FONT = 13
_FEW = 8  # boxes of an image, up to which right ones have tags, too
_CLASSES = 20  # of the confusion; those that are right most often are joined beyond it
_CURVES = 8


def draw_mistakes(report: Mapping[str, Any], source: Source, folder: Path) -> list[Path]:
    """Draws `precision_recall.png`, `confusion.png` and `worst.png` of a report of mistakes; gives their paths.

    What there is nothing for is left out: curves without objects, and the page where no image has a mistake.
    """
    folder.mkdir(parents=True, exist_ok=True)
    pictures = [_curves(report, folder / "precision_recall.png"), _confusion(report, folder / "confusion.png")]
    pictures.append(_worst(report["worst"], source, folder / "worst.png"))
    return [path for path in pictures if path is not None]


def _worst(entries: Sequence[Mapping[str, Any]], source: Source, path: Path) -> Path | None:
    """The page of the worst images: on the left the truth, on the right what was found, in green what is right."""
    records = {key: record for record, key in enumerate(source.image_ids)}
    pictures, captions = [], []
    for one in entries:
        if one["image_id"] not in records:  # the data are others by now
            continue
        try:
            image = source[records[one["image_id"]]].image
        except DataError:  # it is told where scores are
            continue
        missed = sum(each["missed"] for each in one["truth"])
        wrong = sum(each["mistake"] not in (None, ON_CROWD) for each in one["found"])
        pictures += [_marked(image, one["truth"], "missed"), _marked(image, one["found"], "mistake")]
        captions += [
            f"{one['name']}\ntruth: {_several(len(one['truth']), 'object')}, {missed} not found (red)",
            f"F1 {one['f1']:.2f}\nfound: {_several(len(one['found']), 'box', 'boxes')}, {wrong} wrong (red)",
        ]
    if not pictures:
        return None
    sheet = Image.fromarray(contact_sheet(pictures, columns=2, captions=captions, tile=_TILE))
    replace_file(path, lambda file: sheet.save(file, "PNG"))
    return path


def _marked(
    image: UInt8[np.ndarray, "height width 3"], boxes: Sequence[Mapping[str, Any]], fault: str
) -> UInt8[np.ndarray, "drawn_height drawn_width 3"]:
    """The image as large as a tile, with right boxes in green and wrong ones in red, with tags."""
    few = len(boxes) <= _FEW
    labels = [_tag(one, fault, few) for one in boxes]
    colors = [ASIDE if one[fault] == ON_CROWD else WRONG if one[fault] else RIGHT for one in boxes]
    corners = np.array([one["box"] for one in boxes], np.float64).reshape(-1, 4)
    scale = _TILE / max(image.shape[:2])
    order = sorted(range(len(boxes)), key=lambda place: colors[place] == RIGHT)  # the first lie on top
    return draw_boxes(
        image,
        corners[order],
        [labels[place] for place in order],
        colors=[colors[place] for place in order],
        scale=scale,
        font_size=_FONT,
    )


def _tag(box: Mapping[str, Any], fault: str, few: bool) -> str:
    """Class, score and mistake of a box; among many what is wrong alone, which leaves room for the picture."""
    said, name = box[fault], box["name"]
    if not few:
        return (said if isinstance(said, str) and "class" not in said else name) if said else ""
    scored = f"{name} {box['score']:.2f}" if "score" in box else name
    return f"{scored}: {said}" if isinstance(said, str) else scored


def _curves(report: Mapping[str, Any], path: Path) -> Path | None:
    """Precision over recall, and F1 over the threshold with its best point: all together, and some classes."""
    from matplotlib.figure import Figure

    curves, names, points = report["curves"], report["classes"], report["points"]
    if curves["precision"][-1] is None:
        return None
    figure = Figure(figsize=(10, 4.6), dpi=120, layout="constrained")
    left, right = figure.subplots(1, 2)
    classes = [place for place, curve in enumerate(curves["precision"][:-1]) if curve is not None][:_CURVES]
    recalls = np.linspace(0, 1, len(curves["precision"][-1]))
    for place in classes if len(names) > 1 else ():
        left.plot(recalls, curves["precision"][place], linewidth=1.1, label=names[place])
        right.plot(curves["thresholds"], curves["f1"][place], linewidth=1.1)
    style = {"color": "#1f2937", "linewidth": 2.2}
    left.plot(recalls, curves["precision"][-1], label="all classes" if len(names) > 1 else names[0], **style)
    right.plot(curves["thresholds"], curves["f1"][-1], **style)
    if points:
        right.axvline(points["threshold"], color="#dc2626", linewidth=1, linestyle="--")
        right.set_title(f"F1: best {points['f1']:.3f} at {points['threshold']:g}", loc="left", fontweight="bold")
    left.set_title(f"Precision and recall at IoU {report['iou']:g}", loc="left", fontweight="bold")
    for axes, across, up in ((left, "recall", "precision"), (right, "threshold of the score", "F1")):
        axes.set(xlabel=across, ylabel=up, xlim=(0, 1), ylim=(0, 1.02))
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower center", ncols=5, frameon=False)
    replace_file(path, figure.savefig)
    return path


def _confusion(report: Mapping[str, Any], path: Path) -> Path:
    """The table of confusions: a number in each field, its colour the share of its row."""
    from matplotlib.figure import Figure

    names, table = _joined(report["classes"], np.array(report["confusion"]))
    shares = table / np.maximum(table.sum(1, keepdims=True), 1)
    side = 2.6 + 0.52 * len(table)
    figure = Figure(figsize=(side + 0.6, side), dpi=120, layout="constrained")
    axes = figure.subplots()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(table):
        if count:
            ink = "white" if shares[row, column] > 0.55 else "#1f2937"
            axes.text(column, row, f"{count:,}", ha="center", va="center", fontsize=9, color=ink)
    places = range(len(table))
    axes.set_xticks(places, [*names, "not found"], rotation=40, ha="right", rotation_mode="anchor")
    axes.set_yticks(places, [*names, "background"])
    axes.set(xlabel="found", ylabel="truth")
    about = f"Boxes from a score of {report['threshold']:g} on, IoU {report['iou']:g}"
    axes.set_title(about, loc="left", fontsize=10)
    axes.set_xticks(np.arange(len(table) + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(len(table) + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="#d1d5db", linewidth=0.8)
    axes.tick_params(which="minor", length=0)
    replace_file(path, figure.savefig)
    return path


def _joined(names: Sequence[str], table: np.ndarray) -> tuple[list[str], np.ndarray]:
    """The table of at most so many classes, those with most mistakes, and all others as one."""
    if len(names) <= _CLASSES:
        return list(names), table
    wrong = table.sum(0)[:-1] + table.sum(1)[:-1] - 2 * np.diagonal(table)[:-1]
    chosen = sorted(np.argsort(-wrong, kind="stable")[: _CLASSES - 1].tolist())
    group = np.full(len(table), _CLASSES - 1)
    group[chosen] = np.arange(len(chosen))
    group[-1] = _CLASSES
    joined = np.zeros((_CLASSES + 1, _CLASSES + 1), table.dtype)
    np.add.at(joined, (group[:, None], group[None]), table)
    return [*(names[place] for place in chosen), f"{len(names) - len(chosen)} others"], joined


def _several(count: int, thing: str, plural: str = "") -> str:
    return f"{count:,} {thing if count == 1 else plural or f'{thing}s'}"
