"""Where the images lie that a data set lists, also where their names were written on another machine."""

import os
import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from vitjax.data.errors import DataError, Tally, in_one_line
from vitjax.data.folder import VALIDATION, aliases

FOLDERS = ("{}", "{}2017", "images/{}", "images/{}2017", "{}/images", "{}/data", "data/{}", "images", "data", ".")
"""Where the images of a split usually lie."""

_PROBES = 32  # images looked for in every folder that might be the right one
_DEEPEST = 64  # parts of a path, from its end, that are looked for
_ALIKE = 64  # paths that are followed at once; links to their own folder would double them at every part
_SPLITS = {"train", "training", "test", "testing", *VALIDATION}
_USUAL = {"images", "data", *_SPLITS}
_YEAR = re.compile(r"\d+$")
OUTSIDE = "left out images outside of the data folder, which --data.limits.outside takes"
_MISSING = "left out images whose file is missing"
_TASK_PREFIX = re.compile(r"^[0-9a-f]{8}-(?=.)")  # what Label Studio puts in front of the names of uploaded files


@dataclass(frozen=True)
class Place:
    """Where an image lies: its path in a folder, and how many parts in front of its name are not in it."""

    path: str
    dropped: int
    how: str = ""
    """In words, where it is not as written."""


@dataclass(frozen=True)
class Finder:
    """Finds files by what is written of them, within `root`; every folder is listed once.

    With links followed they lie in the root, in a folder with one of the usual names that is linked into it or one
    deeper, in the folder that is asked about, which may be a link itself, or in one of `also`; with `outside` they lie
    anywhere.
    """

    root: Path
    outside: bool = False
    also: tuple[Path, ...] = ()
    _names: dict[str, frozenset[str]] = field(default_factory=dict)
    _alike: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    _real: dict[str, str] = field(default_factory=dict)

    def exactly(self, folder: str, written: str) -> bool:
        """Whether the path is there as it is written, and does not lead out."""
        parent, name = os.path.split(os.path.join(folder, written))
        return name in self._listed(parent) and self.stays(folder, written)

    def places(self, folder: str, written: str) -> list[Place]:
        """Where in the folder the longest end of the path is; several where only capitals or accents tell them apart.

        Compared are Unicode's NFC forms, regardless of capitals and with %20 and the like decoded.
        """
        if self.exactly(folder, written):
            return [Place(written, 0)]
        parts = parts_of(written)
        shorter = (*parts[:-1], _TASK_PREFIX.sub("", parts[-1], count=1)) if parts else ()
        for path in dict.fromkeys((parts, shorter)):
            for dropped in range(max(0, len(path) - _DEEPEST), len(path)):
                found = [each for each in self._follow(folder, path[dropped:]) if self.stays(folder, each)]
                if found:
                    return [Place(each, dropped, _how(written, path, dropped, each)) for each in found]
        return []

    def _follow(self, folder: str, parts: Sequence[str]) -> list[str]:
        paths = [folder]
        for part in parts:
            paths = [os.path.join(path, name) for path in paths for name in self._named(path, part)][:_ALIKE]
        return [os.path.relpath(path, folder) for path in paths]

    def _named(self, folder: str, name: str) -> list[str]:
        """The names in a folder that are this one; where none is, those that are alike."""
        if name in self._listed(folder):
            return [name]
        if folder not in self._alike:
            self._alike[folder] = {}
            for each in sorted(self._listed(folder)):
                self._alike[folder].setdefault(_plain(each), []).append(each)
        return self._alike[folder].get(_plain(name), [])

    def _listed(self, folder: str) -> frozenset[str]:
        if folder not in self._names:
            try:
                self._names[folder] = frozenset(os.listdir(folder))
            except (OSError, ValueError):  # no folder, or no path at all
                self._names[folder] = frozenset()
        return self._names[folder]

    def stays(self, folder: str, path: str) -> bool:
        """Whether the path in the folder leads to where files may lie."""
        if self.outside:
            return True
        path = os.path.join(folder, path)
        parent = self._real_of(os.path.dirname(path))
        place = os.path.realpath(path) if os.path.islink(path) else os.path.join(parent, os.path.basename(path))
        homes = (str(home) for home in (self.root, folder, *self.also))
        return any(_within(place, home) for home in (*map(self._real_of, homes), *self._linked))

    @cached_property
    def _linked(self) -> tuple[str, ...]:
        """The folders that are linked into the root, or one deeper, and are called images, train, val2017 and such."""
        folders = [entry for entry in _entries(str(self.root)) if entry.is_dir()]
        deeper = [entry for folder in folders if not folder.is_symlink() for entry in _entries(folder.path)]
        links = [entry for entry in (*folders, *deeper) if entry.is_symlink() and entry.is_dir()]
        return tuple(os.path.realpath(link.path) for link in links if _YEAR.sub("", link.name.lower()) in _USUAL)

    def leads_out(self, path: str) -> bool:
        """Whether an existing path lies outside of the root as it is written."""
        return not _within(self._real_of(os.path.dirname(path)), self._real_of(str(self.root)))

    def _real_of(self, folder: str) -> str:
        if folder not in self._real:
            self._real[folder] = os.path.realpath(folder)
        return self._real[folder]


def _entries(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError:
        return []


def _within(path: str, folder: str) -> bool:
    return path.startswith(os.path.join(folder, ""))


def parts_of(written: str) -> tuple[str, ...]:
    """The folders and the name in a path of any system or a URL, without drive, `.` and `..`."""
    text = written
    if "://" in text or "?d=" in text:
        try:
            url = urlsplit(text)
            text = parse_qs(url.query).get("d", [url.path])[0]  # ?d= is how Label Studio names local files
        except ValueError:  # brackets that are no address
            pass
    parts = re.split(r"[\\/]+", re.sub("^[A-Za-z]:", "", text))
    return tuple(part for part in parts if part not in ("", ".", ".."))


def find_folder(
    root: Path, split: str, listing: Path, written: Sequence[str], tally: Tally, *, outside: bool = False
) -> Path:
    """The folder of the images that `listing` has written so: the first usual one with most of those looked for.

    Where it is none of these, any other in the root, or one deeper. Names are first taken as they are written, and only
    then as `Finder.places` reads them. That another folder has them as well is counted.

    Raises:
        DataError: they are nowhere.
    """
    probes = written[:: max(1, len(written) // _PROBES)]
    usual = [root / pattern.format(name) for name in aliases(split) for pattern in FOLDERS]
    usual = [folder for folder in usual if folder.is_dir()]
    whole = all(os.path.isabs(name) and os.path.isfile(name) for name in probes)  # which no folder is needed for
    finder = Finder(root, outside)

    def as_written(folder: Path, name: str) -> int:
        return int(os.path.isfile(folder / name) and finder.exactly(str(folder), name))

    def ends(folder: Path, name: str) -> int:
        return max((len(parts_of(name)) - place.dropped for place in finder.places(str(folder), name)), default=0)

    asked: tuple[Callable[[Path, str], int], ...] = (as_written, ends)
    for parts_found in asked:
        for folders in (dict.fromkeys([*usual, listing.parent]), *_others(root, split)):
            found = {folder: [parts_found(folder, name) for name in probes] for folder in folders}
            best = max((_count(each) for each in found.values()), default=0)
            if best:
                good = [folder for folder in found if 2 * _count(found[folder]) >= best]
                chosen = max(good, key=lambda folder: sum(found[folder]) / _count(found[folder]))
                others = [each for each in good if found[each] == found[chosen] and not each.samefile(chosen)]
                if others and not whole:
                    kind = "took images from the first of several folders that have them"
                    tally.add(kind, f"{chosen}, not {others[0]}")
                return chosen
    there = ", ".join(f"{pattern.format(split)}/" for pattern in FOLDERS[:-1])
    raise DataError(
        f"the images of {listing} are not found: looked for {_short(probes[0])} in {root} and in {there} and every "
        f"other folder there. {what_is(probes[0])}Put them there, or correct file_name in {listing.name}."
    )


def what_is(written: str) -> str:
    """What else than the name of a file this is, as a sentence; "" where it is one."""
    if os.path.isabs(written) and os.path.isfile(written):
        return "It is there, but outside of the data folder: --data.limits.outside takes it. "
    if written.startswith("data:"):
        return "It is a picture written out as text: save it as a file. "
    if "://" in written:
        return "It is a URL, and nothing is downloaded here: save the images, under the last part of their URLs. "
    if "\\" in written or written.startswith("/"):
        return "It is a path of another machine, of which the end is looked for as well. "
    return ""


def found_images(finder: Finder, folder: Path, written: Sequence[str], tally: Tally) -> Iterator[tuple[int, str]]:
    """The (place in `written`, path in the folder) of the images that are there; each kind of difference is counted.

    Names of one file give one path, the first. Where names that are not alike end at one file, nobody knows whose it
    is: unless one is written whole, none has it.
    """
    inside, owners = str(folder), dict[str, list[tuple[str, int, Place]]]()
    anywhere = replace(finder, outside=True)
    for number, name in enumerate(written):
        places = finder.places(inside, name)
        if len(places) == 1:
            owners.setdefault(os.path.normpath(places[0].path), []).append((name, number, places[0]))
        elif places:
            example = f"{_short(name)} may be {' or '.join(place.path for place in places[:2])}"
            tally.add("left out images whose name fits several files", example)
        else:
            tally.add(OUTSIDE if anywhere.exactly(inside, name) else _MISSING, _short(os.path.join(folder, name)))
    for path, named in owners.items():
        whole = [(number, place) for _, number, place in named if not place.dropped]
        if not whole and len({_plain("/".join(parts_of(name))) for name, _, _ in named}) > 1:
            example = f"{' and '.join(_short(name) for name, _, _ in named[:2])} at {path}"
            tally.add("left out images of which several end at one file", example, len(named))
            continue
        kept = (whole or [(number, place) for _, number, place in named])[0][1]
        for name, number, place in named:
            if whole and place.dropped:
                tally.add(_MISSING, _short(os.path.join(folder, name)))
                continue
            if place.how:
                tally.add(place.how, f"{_short(name)} is {place.path}")
            elif finder.outside and finder.leads_out(os.path.join(inside, place.path)):
                tally.add("took images from outside of the data folder", place.path)
            yield number, kept.path


def _how(written: str, parts: tuple[str, ...], dropped: int, path: str) -> str:
    """In what the path that is there differs from the one that is written, in words."""
    if dropped:
        return "found images by the end of their file_name"
    tail = "/".join(parts)
    if path == tail:
        return "read \\ in file names as /" if "\\" in written else "read file names without what is no path in them"
    if unicodedata.normalize("NFC", path) == unicodedata.normalize("NFC", tail):
        return "found images whose names have their accents in another form (NFC, NFD)"
    if path.casefold() == tail.casefold():
        return "found images whose names differ in capitals"
    return "found images whose names are written differently"


def _others(root: Path, split: str) -> Iterator[list[Path]]:
    """The folders in the root, and then those one deeper; first those called as the split, last those as another."""

    def order(folder: Path) -> tuple[int, str]:
        words = set(re.split(r"[^a-z]+", folder.relative_to(root).as_posix().lower()))
        own, other = words & set(aliases(split)), words & (_SPLITS - set(aliases(split)))
        return (0 if own else 2 if other else 1), str(folder)

    first = _folders(root)
    yield sorted(first, key=order)
    yield sorted((deeper for folder in first for deeper in _folders(folder)), key=order)


def _folders(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as entries:
            return [Path(entry.path) for entry in entries if entry.is_dir()]
    except OSError:
        return []


def _count(found: Sequence[int]) -> int:
    return sum(map(bool, found))


def _plain(name: str) -> str:
    """The form in which names are compared."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", unquote(name)).casefold())


def _short(name: str) -> str:
    return in_one_line(name if len(name) <= 200 else f"{name[:200]}...")
