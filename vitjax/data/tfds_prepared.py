"""Data sets that TensorFlow Datasets has prepared as array_record, opened without TensorFlow."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vitjax.data.errors import DataError


@dataclass(frozen=True)
class PreparedSplit:
    """A split of a prepared data set, found but not read; TFDS's own objects are of type Any."""

    folder: Path
    split: str
    builder: Any

    @property
    def features(self) -> Any:
        """TFDS's features by name: what every record has."""
        return self.builder.info.features

    @property
    def images(self) -> tuple[str, ...]:
        """The names of the features that are images."""
        import tensorflow_datasets as tfds

        return tuple(name for name, feature in self.features.items() if isinstance(feature, tfds.features.Image))

    def records(self) -> Any:
        """The records as dictionaries, by number; images in them are left as the bytes of their files."""
        import tensorflow_datasets as tfds

        decoders = {name: tfds.decode.SkipDecoding() for name in self.images}
        return self.builder.as_data_source(self.split, decoders=decoders)


def find_split(data_dir: str, name: str, split: str, otherwise: str = "") -> PreparedSplit:
    """A split of `name` (data set/configuration:version, without a version the highest) in `data_dir`.

    Raises:
        DataError: the data are not prepared, which ends with what to do `otherwise`, or not as array_record, or have no
            such split.
    """
    how_to = (
        "Prepare it once, in an environment that has tensorflow-cpu and importlib_resources: "
        f"tfds build {name} --data_dir {data_dir} --file_format array_record"
    )
    folder = Path(data_dir).expanduser() / name.replace(":", "/")
    versions = folder.glob("*/dataset_info.json")  # there are such where the name has no version
    folder = max((path.parent for path in versions), key=_version, default=folder)
    if not (folder / "dataset_info.json").is_file():
        raise DataError(f"{folder} holds no prepared data set. {how_to}{otherwise and f'. {otherwise}'}")
    try:
        import tensorflow_datasets as tfds  # takes half a second, so only where it is used
    except ImportError as error:
        raise DataError(f"{folder} needs a package to be read: {error}. pip install tensorflow-datasets") from error
    builder = tfds.builder_from_directory(folder)
    file_format = getattr(builder.info.file_format, "value", "an unknown format")
    if file_format != "array_record":
        raise DataError(f"{folder} is prepared as {file_format}, not array_record. {how_to}")
    if split not in builder.info.splits:
        raise DataError(f"{folder} has the splits {', '.join(builder.info.splits)}; got {split!r}. Name one of them.")
    return PreparedSplit(folder, split, builder)


def read_record(records: Any, number: int, name: str) -> dict:
    """One of the records.

    Raises:
        DataError: it cannot be read; the sentence calls it by `name`.
    """
    try:
        return records[number]
    except (OSError, RuntimeError, ValueError) as error:
        raise DataError(f"{name} cannot be read: {error}. Prepare the data anew.") from error


def _version(folder: Path) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", folder.name)]
