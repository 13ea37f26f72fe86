"""Looks at image files: what is missing or broken, unusual formats, EXIF, and files that two splits share."""

import hashlib
import io
import itertools
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from vitjax.data.decode import decode
from vitjax.data.errors import DataError
from vitjax.data.folder import in_threads, open_file
from vitjax.doctor.report import Finding, several

_AT_ONCE = 64  # files that a thread reads in one go
_SLOW = 2e-3  # seconds; where a file takes less, threads only wait for each other, and one is three times as fast
_ORIENTATION = 0x0112  # the EXIF tag
_SIDEWAYS = (5, 6, 7, 8)  # orientations that swap height and width
_ENDS = {"JPEG": b"\xff\xd9", "PNG": b"IEND"}  # what the last bytes of a whole file hold
_TAIL = 64
_PIECE = 4096  # bytes that tell most files of equal length apart


class Facts(NamedTuple):
    """What the header of an image file and its last bytes tell; `size` is (height, width)."""

    size: tuple[int, int]
    length: int
    mode: str
    animated: bool
    orientation: int
    whole: bool


@dataclass(frozen=True)
class Files:
    """The image files of a split that can be used, by their names in a folder."""

    folder: Path
    names: tuple[str, ...]
    facts: tuple[Facts, ...]


def read_files(folder: Path, names: Sequence[str]) -> Files:
    """The facts of these files, those left out whose header cannot be read."""
    begun = time.perf_counter()
    found = [_facts(folder / name) for name in names[:_AT_ONCE]]
    if time.perf_counter() - begun > _SLOW * _AT_ONCE:
        parts = [names[start : start + _AT_ONCE] for start in range(_AT_ONCE, len(names), _AT_ONCE)]
        found += itertools.chain(*in_threads(lambda part: [_facts(folder / name) for name in part], parts))
    else:
        found += [_facts(folder / name) for name in names[_AT_ONCE:]]
    pairs = [(name, facts) for name, facts in zip(names, found, strict=True) if facts]
    return Files(folder, tuple(name for name, _ in pairs), tuple(facts for _, facts in pairs))


def look_at_formats(files: Files) -> Iterator[Finding]:
    """Formats of which training sees something else than one might think."""
    for text, chosen in (
        ("16-bit or float, scaled to 8 bits", lambda each: each.mode.startswith("I") or each.mode == "F"),
        ("CMYK, converted to RGB", lambda each: each.mode == "CMYK"),
        ("animated or of several pages, of which the first is used", lambda each: each.animated),
    ):
        names = tuple(name for name, facts in zip(files.names, files.facts, strict=True) if chosen(facts))
        if names:
            yield Finding("images", "note", f"{several(len(names), 'image')} {text}", names[:3])


def look_at_exif(files: Files, turned: frozenset[str]) -> Iterator[Finding]:
    """Images that viewers turn and training does not; `turned` are those that it does turn."""
    plain, unsure = list[str](), list[str]()
    for name, facts in zip(files.names, files.facts, strict=True):
        if facts.orientation != 1 and name not in turned:
            told = facts.orientation in _SIDEWAYS and facts.size[0] != facts.size[1]
            (plain if told else unsure).append(name)
    if plain:
        text = f"{several(len(plain), 'image')} that EXIF turns, used as stored, since the json has their sizes so"
        yield Finding("images", "note", text, tuple(plain[:3]))
    if unsure:
        text = f"{several(len(unsure), 'image')} that EXIF turns or mirrors without a change of size, used as stored"
        wish = "See whether boxes were drawn on what viewers show; to be safe, save images turned and without EXIF."
        yield Finding("images", "warning", text, tuple(unsure[:3]), wish)


def look_inside(files: Files, everything: bool) -> Iterator[Finding]:
    """Files that cannot be decoded: of all, or of those that end too early."""
    names = [name for name, facts in zip(files.names, files.facts, strict=True) if everything or not facts.whole]
    faults = [fault for fault in in_threads(lambda name: _fault(files.folder / name), names) if fault]
    if faults:
        text = f"{several(len(faults), 'image')} broken or truncated; other images would take their place in training"
        yield Finding("images", "warning", text, tuple(faults[:3]), "Replace the files, or remove them from the data.")


def look_for_leaks(splits: Mapping[str, Files]) -> Iterator[Finding]:
    """Image files that two splits have in common, by path or to the last byte."""
    for (first, one), (second, other) in itertools.combinations(splits.items(), 2):
        shared = list(_shared(one, other))
        if shared:
            text = f"{several(len(shared), 'image')} also in {first}, so scores are better than they should be"
            wish = f"Remove them from {first} or from {second}."
            yield Finding("images", "warning", text, tuple(shared[:3]), wish, second)


def _facts(path: Path) -> Facts | None:
    try:
        with open_file(path) as file:
            header = Image.open(file)
            if Image.MAX_IMAGE_PIXELS and header.width * header.height > Image.MAX_IMAGE_PIXELS:
                return None
            kind = header.format or ""
            orientation = 1 if kind == "TIFF" else int(header.getexif().get(_ORIENTATION, 1))
            # A phone's MPO holds previews, which are no frames of an animation.
            animated = kind != "MPO" and bool(getattr(header, "is_animated", False))
            length = file.seek(0, os.SEEK_END)
            file.seek(max(0, length - _TAIL))
            whole = _ENDS.get(kind, b"") in file.read(_TAIL)
            size = (header.height, header.width)
            return Facts(size, length, header.mode, animated, orientation if 1 <= orientation <= 8 else 1, whole)
    except Exception:  # the readers of broken headers raise anything; why is told where the image is left out
        return None


def _fault(path: Path) -> str | None:
    try:
        data = path.read_bytes()
        decode(data, path.name)
        Image.open(io.BytesIO(data)).verify()  # of a PNG the checksums, over which readers only warn
    except DataError as error:
        return str(error)
    except Exception as error:  # as above
        return f"{path.name}: {error}"
    return None


def _shared(one: Files, other: Files) -> Iterator[str]:
    """The files of the other that are also in the one, or have the same bytes as one there."""
    by_path = {os.path.normpath(one.folder / name) for name in one.names}
    alike = {facts.length for facts in one.facts} & {facts.length for facts in other.facts}
    pieces: dict[tuple[int, bytes], list[Path]] = {}
    for name, facts in zip(one.names, one.facts, strict=True):
        if facts.length in alike:
            path = one.folder / name
            pieces.setdefault((facts.length, _digest(path, facts.length, _PIECE)), []).append(path)
    wholes: dict[tuple[int, bytes], dict[bytes, Path]] = {}
    for name, facts in zip(other.names, other.facts, strict=True):
        path, length = other.folder / name, facts.length
        if os.path.normpath(path) in by_path:
            yield name
        elif length in alike and (key := (length, _digest(path, length, _PIECE))) in pieces:
            if key not in wholes:
                wholes[key] = {_digest(candidate, length, length): candidate for candidate in reversed(pieces[key])}
            same = wholes[key].get(_digest(path, length, length))
            if same:
                yield f"{name} is {same.name}"


def _digest(path: Path, length: int, most: int) -> bytes:
    """The hash of so many bytes from the middle of a file."""
    with open_file(path) as file:
        file.seek(max(0, (length - most) // 2))
        return hashlib.blake2b(file.read(most), digest_size=16).digest()
