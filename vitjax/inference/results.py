"""Predictions as predictions.json, a result per line, and on request as predictions.csv; written as they come."""

import contextlib
import csv
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vitjax.inference.video import Frame

Results = tuple[list[dict[str, Any]], list[dict[str, Any]]]  # for the json, and rows for the CSV


@dataclass(frozen=True)
class Origin:
    """What a result is about: a file, or a frame of it."""

    path: Path
    frame: "Frame | None" = None

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
