"""A page of pictures that shows what a model predicts on them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from vitjax.checkpoints.writing import replace_file
from vitjax.data.memory import Subset
from vitjax.data.source import Source
from vitjax.drawing.boxes import contact_sheet
from vitjax.inference.sweep import Sweep
from vitjax.inference.task import Task
from vitjax.prediction import Answer


def draw_page(
    sweep: Sweep, variables: dict[str, Any], source: Source, path: Path, *, batch_size: int, task: Task | None = None
) -> None:
    """Writes a page of some images of a source with what is predicted on them, as a PNG; nothing where there are none.

    Images that cannot be read are left out. `task` draws, where it shows other predictions than that of the sweep.
    """
    task = task or sweep.task
    layout = task.about.page
    count = min(layout.images, len(source))
    records = np.linspace(0, len(source) - 1, count).astype(int).tolist() if layout.spread else range(count)
    shown: Any = Subset(source, records)
    answers = sorted(sweep(variables, shown, batch_size=batch_size), key=lambda one: one.record)
    sheet = sheet_of(task, answers, shown, columns=layout.columns, tile=layout.tile)
    if sheet is None:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, lambda file: Image.fromarray(sheet).save(file, "PNG"))


def sheet_of(
    task: Task, answers: Sequence[Answer], source: Source, *, columns: int, tile: int | None
) -> UInt8[np.ndarray, "height width 3"] | None:
    """Pictures of some answers for the records of a source on one sheet; None where none of the images can be read."""
    readable = [one for one in answers if one.prediction is not None]
    if not readable:
        return None
    told = [task.page_picture(one, source[one.record], source.classes, source.name(one.record)) for one in readable]
    pictures, captions = zip(*told, strict=True)
    return contact_sheet(pictures, captions=captions, columns=columns, tile=tile)
