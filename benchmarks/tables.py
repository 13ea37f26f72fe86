"""What was timed as Markdown, and its place in a document."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.pairs import Answer, median, ratio
from benchmarks.rows import Row

START, END = "<!-- benchmarks -->", "<!-- end of benchmarks -->"


@dataclasses.dataclass(frozen=True)
class Timed:
    """The answers of a row: ours, those of the other side by its ways, what is known of each, and what failed and why.

    Facts are by the same names as answers, ours under "".
    """

    row: Row
    ours: Sequence[Answer]
    others: Mapping[str, Sequence[Answer]]
    facts: Mapping[str, Mapping[str, float]]
    failed: Mapping[str, str]

    def answers(self) -> list[Sequence[Answer]]:
        """Those of all sides that worked."""
        return [kept for kept in (self.ours, *self.others.values()) if kept]


_COLUMNS = (
    "",
    "vitjax, CPU s",
    "of the ceiling",
    "the other side, CPU s",
    "ratio of CPU (pairs)",
    "of wall (pairs)",
    "from start to first call, CPU s",
    "peak memory, MB",
)
_NONE = "-"


def table(rows: Sequence[Timed], cores: int, ceiling: float) -> str:
    """The rows for so many cores; `ceiling` is floating point operations in a second of CPU, of square products."""
    words = "One core" if cores == 1 else f"{cores} cores"
    lines = [
        f"{words}; the fastest square product in float32 does {ceiling / 1e9:.0f} GFLOP in a second of CPU.",
        "",
        f"| {' | '.join(_COLUMNS)} |",
        "|---" * len(_COLUMNS) + "|",
        *(line(one, cores, ceiling) for one in rows),
    ]
    failed = [f"{one.row.title}, {way}: {why}" for one in rows for way, why in one.failed.items()]
    return "\n".join(lines + (["", "Failed:", "", *(f"- {words}" for words in failed)] if failed else []))


def line(one: Timed, cores: int, ceiling: float) -> str:
    """A row of the table.

    The fastest of the other side is told by seconds of CPU on one core, by the clock on several. Of memory and of what
    comes before the first call, vitjax's is first, and its compiler's plan of memory in brackets.
    """
    clock = "cpu" if cores == 1 else "wall"
    ranked = sorted(one.others, key=lambda way: median(one.others[way], clock))
    if not one.ours:
        return _joined([one.row.title])
    own, cpu = one.facts[""], median(one.ours, "cpu")
    plan = f" ({own['plan'] / 1e6:,.0f})" if "plan" in own else ""
    cells = [one.row.title, _seconds(cpu), f"{own['flops'] / cpu / ceiling:.0%}" if "flops" in own else _NONE]
    memory, first = f"{one.ours[-1].memory / 1e6:,.0f}{plan}", f"{own['built']:.0f}"
    if not ranked:
        return _joined([*cells, _NONE, _NONE, _NONE, first, memory])
    rival = one.others[ranked[0]]
    others = "; ".join(f"{way} {_seconds(median(one.others[way], 'cpu'))}" for way in ranked)
    by_cpu, by_wall = (ratio(one.ours, rival, name) for name in ("cpu", "wall"))
    by_cpu_words = f"**{by_cpu.median:.2f}** ({by_cpu.least:.2f} to {by_cpu.most:.2f}){_per_flop(one, by_cpu.median)}"
    by_wall_words = f"{by_wall.median:.2f} ({by_wall.least:.2f} to {by_wall.most:.2f})"
    first, memory = f"{first}, {one.facts[ranked[0]]['built']:.0f}", f"{memory}, {rival[-1].memory / 1e6:,.0f}"
    return _joined([*cells, others, by_cpu_words, by_wall_words, first, memory])


def _joined(cells: Sequence[str]) -> str:
    return f"| {' | '.join([*cells, *[_NONE] * (len(_COLUMNS) - len(cells))])} |"


def _per_flop(one: Timed, found: float) -> str:
    """The ratio if both sides' models had as many operations, where they differ."""
    if not one.row.per_flop:
        return ""
    own, other = (one.facts[way]["products"] for way in ("", next(iter(one.others))))
    return f", per FLOP {found * own / other:.2f}"


def _seconds(value: float) -> str:
    return f"{value:.3g}" if value < 10 else f"{value:.1f}"


def document(path: Path) -> tuple[str, str]:
    """What stands before and after the place of the tables in a document.

    Raises:
        ValueError: there is no such document or place.
    """
    if not path.is_file():
        raise ValueError(f"--write: there is no file {path}.")
    before, start, rest = path.read_text(encoding="utf-8").partition(START)
    _, end, after = rest.partition(END)
    if not (start and end):
        raise ValueError(f"--write: {path} needs the lines {START} and {END}, between which the tables go.")
    return before + start, end + after


def write(path: Path, text: str) -> None:
    """Puts the text in the place of what a document has between the two lines."""
    before, after = document(path)
    path.write_text(f"{before}\n{text}\n{after}", encoding="utf-8")
