"""What can be done with a prediction and the image that it is of: a picture, files, a dictionary, a table."""

import csv
import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from vitjax.checkpoints.writing import writing
from vitjax.data.addresses import file_name, is_address
from vitjax.data.errors import DataError
from vitjax.data.source import Classes, SizedSource
from vitjax.drawing.boxes import contact_sheet
from vitjax.errors import FieldError
from vitjax.inference.inputs import picture_paths
from vitjax.inference.results import Origin
from vitjax.inference.task import Task

_PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")


@dataclasses.dataclass(frozen=True)
class View:
    """An image of a source, which is read again where it is a file, and the task that drew a prediction from it."""

    task: Task
    classes: Classes
    source: SizedSource
    record: int

    @property
    def name(self) -> str:
        """The file or address, or "image 0" of an image that came without one."""
        return self.source.name(self.record)

    def draw(self, result: Any) -> Image.Image:
        """The image with what is predicted on it; of a classifier the classes with their probabilities stand below."""
        picture = self.task.drawn(self.source[self.record].image, result, self.classes)
        if not self.task.about.draws:
            said = "\n".join(line.strip() for line in self.task.lines(Path(self.name), result)[1:])
            picture = contact_sheet([picture], captions=[said])
        return Image.fromarray(picture)

    def save(self, result: Any, path: str | Path) -> Path:
        """Writes what the end of the path says, or into a folder a picture that is called as the image is."""
        return saved([result], Path(path))[0]

    def to_dict(self, result: Any) -> dict[str, Any]:
        """What json can hold: the image with its height and width, and what was found, boxes as x1, y1, x2, y2.

        Masks are COCO's run lengths. A label map is not in it.
        """
        entries, rows = self.task.results(result, Origin(Path()), 1, self.classes, "")
        found = [{key: value for key, value in row.items() if key != "file"} for row in rows]
        for row, entry in zip(found, entries, strict=False):
            row.update({"segmentation": entry["segmentation"]} if "segmentation" in entry else {})
        height, width = self.source.sizes[self.record].tolist()
        return {"image": self.name, "height": height, "width": width, result.holds: found}

    def to_pandas(self, result: Any) -> Any:
        """A row for each thing that was found."""
        return table([result])


class Results(list):
    """What is predicted on several images, in their order: a list that can also be drawn, written and told."""

    def draw(self) -> list[Image.Image]:
        """A picture of each."""
        return [one.draw() for one in self]

    def save(self, path: str | Path = "predictions") -> list[Path]:
        """Writes all into one .json or .csv file, or a picture of each into a folder; gives the paths.

        Raises:
            DataError: a picture would overwrite an image, or the end of the path is none of these.
            CannotWrite: the path cannot be written.
        """
        return saved(self, Path(path))

    def to_dict(self) -> dict[str, Any]:
        """What json can hold: the dictionary of each, under "images"."""
        return {"images": [one.to_dict() for one in self]}

    def to_pandas(self) -> Any:
        """A row for each thing that was found on any of them.

        Raises:
            FieldError: pandas is not installed.
        """
        return table(self)


def table(results: Sequence[Any]) -> Any:
    """A pandas DataFrame with a row for each thing that was found, under the name of its image.

    Raises:
        FieldError: pandas is not installed.
    """
    try:
        import pandas
    except ImportError as error:
        raise FieldError(
            "to_pandas() needs pandas, which is not installed: pip install pandas. to_dict() does without."
        ) from error
    rows, columns = _rows(results)
    return pandas.DataFrame(rows, columns=columns)


def saved(results: Sequence[Any], path: Path) -> list[Path]:
    """Writes the results to a file by its suffix, one picture only where there is one result, or into a folder.

    Raises:
        DataError: a picture would overwrite an image, or the suffix is none that is written.
        CannotWrite: the path cannot be written.
    """
    suffix = "" if path.is_dir() else path.suffix.lower()
    names = [Path(file_name(one.view.name) if is_address(one.view.name) else one.view.name) for one in results]
    if suffix in _PICTURES and len(results) == 1:
        if path.resolve() == names[0].resolve():
            raise DataError(f"the picture of {names[0]} would overwrite it; give another path.")
        paths = [path]
    elif suffix in (".json", ".csv"):
        paths = [path]
    elif not suffix:
        paths = picture_paths(names, path)
    else:
        raise DataError(f"{path} is neither a folder nor one {', '.join(_PICTURES)}, .json or .csv file to write.")
    with writing(path, "path", file=bool(suffix)):
        for to in paths:
            to.parent.mkdir(parents=True, exist_ok=True)
        if suffix == ".json":
            told = results.to_dict() if isinstance(results, Results) else results[0].to_dict()
            path.write_text(json.dumps(told), encoding="utf-8")
        elif suffix == ".csv":
            _write_table(path, results)
        else:
            for one, to in zip(results, paths, strict=True):
                one.draw().save(to)
    return paths


def _write_table(path: Path, results: Sequence[Any]) -> None:
    rows, columns = _rows(results)
    with path.open("w", encoding="utf-8", newline="") as file:
        sheet = csv.DictWriter(file, columns, lineterminator="\n")
        sheet.writeheader()
        sheet.writerows(rows)


def _rows(results: Sequence[Any]) -> tuple[list[dict[str, Any]], list[str]]:
    """The rows of all results, without masks, and the columns, which there are also without rows."""
    told = [one.to_dict() for one in results]
    rows = [
        {"image": entry["image"]} | {key: value for key, value in row.items() if key != "segmentation"}
        for one, entry in zip(results, told, strict=True)
        for row in entry[one.holds]
    ]
    named = results[0].view.task.about.columns if results else ()
    return rows, ["image", *(column for column in named if column not in ("file", "frame"))]
