"""Time vitjax's models beside PyTorch's, each side in a process of its own, asked in turn.

    python -m benchmarks                                   # every row, on one core
    python -m benchmarks --cores 1 2 --without ROW:WAY ... --write docs/performance.md
    python -m benchmarks --rows detr_training crossformer_training --pairs 3
    python -m benchmarks --configs CONFIG CONFIG ...       # training steps of configs beside that of the first

Models have random weights and nothing is fetched. The other side is installed by
`pip install -r requirements-bench.txt`; without it vitjax is timed alone. Ratios are those of the other side to vitjax:
above 1 vitjax is faster.
"""

import argparse
import dataclasses
import datetime
import importlib.util
import json
import platform
import shlex
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from benchmarks.pairs import Side, SideFailed, median, rounds
from benchmarks.rows import CEILING, ROWS, Row, beside_first
from benchmarks.tables import Timed, document, line, table, write
from vitjax.ops.processors import processors

_LIBRARIES = ("vitjax", "jax", "jaxlib", "torch", "torchvision", "transformers", "timm")
_INSTALL = "pip install -r requirements-bench.txt"


def main(words: Sequence[str] | None = None) -> None:
    """Times the rows, and prints or writes their tables; what has been timed is told also when it is interrupted."""
    parser = _parser()
    options = parser.parse_args(words)
    try:
        _check(options)
    except ValueError as error:
        parser.error(str(error))
    rows, ceiling = _rows(options)
    parts: list[str] = []
    try:
        for cores in options.cores:
            _timed_on(cores, rows, ceiling, options.pairs, parts)
    finally:
        text = "\n\n".join([_heading(sys.argv[1:] if words is None else words), *parts])
        if options.write and parts:
            write(options.write, text)
        else:
            print(text)


def _check(options: argparse.Namespace) -> None:
    """Raises a ValueError for what cannot be."""
    if options.pairs < 1:
        raise ValueError(f"--pairs is a number of at least 1; got {options.pairs}.")
    there = processors()
    if not all(1 <= cores <= there for cores in options.cores):
        raise ValueError(f"--cores are at least 1 and at most the {there} that there are; got {options.cores}.")
    pairs = [f"{row.name}:{way}" for row in ROWS for way in row.ways]
    unknown = [pair for pair in options.without if pair not in pairs]
    if unknown:
        raise ValueError(f"--without takes a row and a way of it, one of {', '.join(pairs)}; got {unknown[0]}.")
    if len(options.configs) == 1:
        raise ValueError("--configs takes two names or more, the first of which the others are timed beside.")
    if options.write and options.sizes == "small":
        raise ValueError("--write is for full sizes; small ones say nothing.")
    if options.write:
        document(options.write)


def _rows(options: argparse.Namespace) -> tuple[list[Row], list[Row]]:
    """The rows, and the products that tell the ceiling, with those ways that are asked for and can be gone."""
    rows, ceiling = [row for row in ROWS if row.name in (options.rows or [row.name])], list(CEILING)
    ways = options.ways
    if importlib.util.find_spec("torch") is None:
        ways = []
        ceiling = [dataclasses.replace(row, ways=()) for row in ceiling]
        if not options.configs:
            print(f"PyTorch is not installed, so vitjax is timed alone: {_INSTALL}", file=sys.stderr)

    def kept(row: Row) -> tuple[str, ...]:
        asked = row.ways if ways is None else [way for way in row.ways if way in ways]
        return tuple(way for way in asked if f"{row.name}:{way}" not in options.without)

    rows = [dataclasses.replace(row, ways=kept(row)) for row in rows]
    if options.configs:
        rows = list(beside_first(options.configs, tuple(options.shape)))
    if options.sizes == "small":
        rows, ceiling = [row.smaller() for row in rows], [ceiling[0].smaller()]
    return rows, ceiling


def _timed_on(cores: int, rows: list[Row], products: list[Row], pairs: int, parts: list[str]) -> None:
    """Times the rows on so many cores; the table of those that are done is the last of the parts."""
    ceiling, done, place = _ceiling(cores, products), [], len(parts)
    for row in rows:
        done.append(timed(row, cores, pairs))
        parts[place:] = [table(done, cores, ceiling)]
        print(line(done[-1], cores, ceiling), file=sys.stderr, flush=True)


def timed(row: Row, cores: int, pairs: int) -> Timed:
    """A row, with those ways of the other side that work."""
    facts, failed, sides = {}, {}, {}

    def side(job: str, way: str) -> Side:
        given = json.dumps(row.given | ({"way": way} if way else {}))
        return Side([row.beside if way else "ours", job, given], cores)

    with ExitStack() as stack:
        for way in ("", *row.ways):
            try:
                if row.per_flop:  # in a process of its own, since counting takes memory and time
                    with side("counted", way) as counting:
                        facts[way] = counting.ready()
                working = stack.enter_context(side(row.job, way))
                facts[way] = facts.get(way, {}) | working.ready()
                sides[way] = working
            except SideFailed as error:
                failed[way or "vitjax"] = str(error)
        try:
            answers = rounds(sides, pairs) if "" in sides else {}
        except SideFailed as error:
            answers, failed["one side, later"] = {}, str(error)
    return Timed(row, answers.pop("", []), answers, facts, failed)


def _ceiling(cores: int, products: list[Row]) -> float:
    """Floating point operations in a second of CPU of the fastest of the products, of either side."""
    timings = [timed(row, cores, pairs=3) for row in products]
    return max(one.facts[""]["flops"] / median(kept, "cpu") for one in timings for kept in one.answers())


def _heading(words: Sequence[str]) -> str:
    """The command, the day, the machine and the versions."""
    command = f"python -m benchmarks {shlex.join(words)}".strip()
    libraries = ", ".join(f"{name} {_version(name)}" for name in _LIBRARIES if _version(name))
    return f"`{command}`, {datetime.date.today()}; {_processor()}, Python {platform.python_version()}, {libraries}."


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def _processor() -> str:
    """The name of the processor, as Linux tells it where it does, with the numbers that tell its generation."""
    listed = Path("/proc/cpuinfo")
    lines = listed.read_text().splitlines() if listed.is_file() else []
    said = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    if "model name" not in said:
        return platform.processor() or platform.machine()
    return f"{said['model name']} (family {said.get('cpu family')}, model {said.get('model')})"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = [row.name for row in ROWS]
    ways = list(dict.fromkeys(way for row in ROWS for way in row.ways))
    parser.add_argument("--rows", nargs="+", choices=names, metavar="ROW", help=f"some of {', '.join(names)}")
    parser.add_argument("--configs", nargs="+", default=[], metavar="CONFIG", help="of training steps in their place")
    parser.add_argument("--shape", nargs=3, type=int, default=(1, 480, 640), help="images, height, width of configs")
    parser.add_argument("--pairs", type=int, default=7, help="repetitions of each side (default: %(default)s)")
    parser.add_argument("--cores", nargs="+", type=int, default=[1], help="a table for each number (default: 1)")
    parser.add_argument("--ways", nargs="+", choices=ways, metavar="WAY", help=f"of the other side: {'; '.join(ways)}")
    parser.add_argument("--without", nargs="+", default=[], metavar="ROW:WAY", help="leaves a way out of one row")
    parser.add_argument("--sizes", choices=("full", "small"), default="full", help="small ones show that it works")
    parser.add_argument("--write", type=Path, help="a document with the two lines that the tables go between")
    return parser


if __name__ == "__main__":
    main()
