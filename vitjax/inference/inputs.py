"""What a user names to predict on: images, videos, folders of them and patterns, and what their pictures are called."""

import glob
import itertools
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from vitjax.data.addresses import fetch, file_name, is_address
from vitjax.data.errors import DataError
from vitjax.data.memory import SUFFIXES as IMAGES
from vitjax.data.near import did_you_mean
from vitjax.inference.video import SUFFIXES as VIDEOS

_KINDS = f"images ({', '.join(IMAGES)}) and videos ({', '.join(VIDEOS)})"


def find_inputs(names: Sequence[str]) -> list[Path]:
    """The files named, and all images and videos in the folders named or that fit a pattern, sorted within each name.

    A pattern is as the shell's, with `**` for folders within folders; a file of that very name goes before it. Each
    file is in the list once.

    Raises:
        DataError: a name is none of these, or there is nothing in or behind it.
    """
    if not names:
        raise DataError("name at least one image, video, folder or pattern: vitjax predict MODEL IMAGE ...")
    found: dict[str, Path] = {}
    for name in names:
        for path in _behind(name):
            found.setdefault(os.path.abspath(path), path)
    return list(found.values())


def fetched(names: Sequence[str], folder: Path) -> list[str]:
    """The names, with the file that is written to the folder in the place of each http(s) address.

    Raises:
        DataError: an address cannot be fetched.
    """
    files = list(names)
    for place, name in enumerate(names):
        if is_address(name):
            content = fetch(name)
            folder.mkdir(parents=True, exist_ok=True)
            given = Path(file_name(name))
            path = next(
                path
                for number in itertools.count(1)
                if str(path := folder / (f"{given.stem}_{number}{given.suffix}" if number > 1 else given)) not in files
            )
            path.write_bytes(content)
            files[place] = str(path)
    return files


def is_video(path: Path) -> bool:
    """Whether the name is that of a video."""
    return path.suffix.lower() in VIDEOS


def picture_paths(paths: Sequence[Path], out: Path) -> list[Path]:
    """Where the picture of each file goes: a PNG, of a video an MP4; files of the same name are told apart by a number.

    Raises:
        DataError: a picture would take the place of one of the files.
    """
    given = {path.resolve() for path in paths}
    taken: set[str] = set()
    counts: dict[str, int] = {}
    pictures = []
    for path in paths:
        suffix = ".mp4" if is_video(path) else ".png"
        first = name = path.stem + suffix
        while name.casefold() in taken:
            counts[first] = counts.get(first, 1) + 1
            name = f"{path.stem}_{counts[first]}{suffix}"
        taken.add(name.casefold())
        if (out / name).resolve() in given:
            raise DataError(
                f"the picture of {path} would overwrite {out / name}, a file to predict on; use another --out."
            )
        pictures.append(out / name)
    return pictures


def _behind(name: str) -> list[Path]:
    path = Path(name)
    if path.is_file():
        return [path]
    if path.is_dir():
        inside = _known(path.rglob("*"))
        if not inside:
            raise DataError(f"the folder {path} holds no image or video; known are {_KINDS}.")
        return inside
    if not any(sign in name for sign in "*?["):
        raise DataError(f"there is no image, video or folder {path}.{did_you_mean(path)}")
    inside = _known(map(Path, glob.iglob(name, recursive=True)))
    if not inside:
        raise DataError(f"no image or video fits the pattern {name}; known are {_KINDS}.")
    return inside


def _known(paths: Iterable[Path]) -> list[Path]:
    return sorted({path for path in paths if path.suffix.lower() in (*IMAGES, *VIDEOS) and path.is_file()})
