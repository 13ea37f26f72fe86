import importlib.util
import re

import pytest

from benchmarks.__main__ import _parser, _rows, main
from benchmarks.pairs import Answer, Side, SideFailed, ratio, rounds
from benchmarks.rows import CEILING, ROWS, Row
from benchmarks.tables import END, START, Timed, line, table, write


def answers(*seconds: float) -> list[Answer]:
    return [Answer(cpu, 2 * cpu, 5_000_000) for cpu in seconds]


def timed(ours: list[Answer], others: dict[str, list[Answer]], per_flop: bool = False) -> Timed:
    own = {"built": 3.0, "flops": 4e9, "plan": 7e6, "products": 2e9}
    facts = {"": own, **{way: {"built": 1.0, "products": 1e9} for way in others}}
    row = Row("name", "a title", "job", {}, {}, tuple(others), per_flop)
    return Timed(row, ours, others, facts, {"compile": "no compiler"})


def test_sides_are_asked_in_turn_and_the_order_turns_round_every_pair() -> None:
    asked: list[str] = []

    def side(name: str):
        def call() -> Answer:
            asked.append(name)
            return Answer(float(len(asked)), 0.0)

        return call

    found = rounds({name: side(name) for name in "abc"}, pairs=3)
    assert "".join(asked) == "abccbaabccba"
    assert [answer.cpu for answer in found["a"]] == [6.0, 7.0, 12.0]  # the first round warms up


def test_a_ratio_is_of_pairs_and_not_of_medians() -> None:
    found = ratio(answers(1, 2, 4), answers(3, 2, 8), "cpu")
    assert (found.median, found.least, found.most) == (2.0, 1.0, 3.0)


def test_the_fastest_way_of_the_other_side_is_the_rival_and_the_row_says_which() -> None:
    one = timed(answers(1, 1, 1), {"eager": answers(3, 3, 3), "channels_last": answers(2, 4, 2)}, per_flop=True)
    cells = [cell.strip() for cell in line(one, cores=1, ceiling=8e9).strip("|").split("|")]
    assert cells == [
        "a title",
        "1",
        "50%",
        "channels_last 2; eager 3",
        "**2.00** (2.00 to 4.00), per FLOP 4.00",
        "2.00 (2.00 to 4.00)",
        "3, 1",
        "5 (7), 5",
    ]
    assert "a title, compile: no compiler" in table([one], cores=1, ceiling=8e9)


def test_on_several_cores_the_rival_is_the_fastest_by_the_clock() -> None:
    others = {"eager": [Answer(1.0, 3.0)], "compile": [Answer(2.0, 2.0)]}
    assert "compile 2; eager 1" in line(timed([Answer(1.0, 1.0)], others), cores=2, ceiling=1e9)


@pytest.mark.parametrize("ours", [[], answers(1)])
def test_a_row_that_lacks_a_side_has_as_many_cells_as_the_others(ours: list[Answer]) -> None:
    rows = table([timed(ours, {})], cores=1, ceiling=1e9).splitlines()[2:5]
    assert len({row.count("|") for row in rows}) == 1


def test_tables_go_between_two_lines_of_a_document_and_nothing_else_changes(tmp_path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{START}\nold\n{END}\nafter\n")
    write(page, "new")
    assert page.read_text() == f"before\n{START}\nnew\n{END}\nafter\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--write", "page.md"], "needs the lines"),
        (["--write", "none.md"], "no file none.md"),
        (["--write", "page.md", "--sizes", "small"], "full sizes"),
        (["--pairs", "0"], "at least 1; got 0"),
        (["--cores", "1", "999"], "got [1, 999]"),
        (["--configs", "quickstart"], "two names"),
        (["--without", "data:compile"], "data:Pillow, matching:transformers"),
    ],
)
def test_what_cannot_be_is_told_before_anything_is_timed(words, said, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "page.md").write_text(f"{END}\n{START}\n")
    with pytest.raises(SystemExit):
        main(words)
    assert said in capsys.readouterr().err


def test_a_way_can_be_left_out_of_one_row(monkeypatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: True)
    words = ["--ways", "eager", "compile", "--without", "detr_training:compile", "data:Pillow"]
    rows, _ = _rows(_parser().parse_args(words))
    ways = {row.name: row.ways for row in rows}
    assert ways["detr_forward"] == ways["crossformer_training"] == ("eager", "compile")
    assert (ways["detr_training"], ways["data"]) == (("eager",), ())


def test_a_side_that_cannot_do_the_work_says_why() -> None:
    with Side(["rows", "no_job", "{}"], cores=1) as side, pytest.raises(SideFailed, match="no_job"):
        side.ready()


def test_both_sides_have_every_job_with_the_arguments_of_its_rows() -> None:
    """Read, not imported: the other side needs PyTorch."""
    root = importlib.util.find_spec("benchmarks").submodule_search_locations[0]
    for module in ("ours", "rivals"):
        with open(f"{root}/{module}.py", encoding="utf-8") as file:
            heads = dict(re.findall(r"^def (\w+)\((.*?)\) -> Work:", file.read(), re.MULTILINE))
        for row in (*ROWS, *CEILING):
            assert re.findall(r"(\w+):", heads[row.job]) == [*row.given, *(["way"] if module == "rivals" else [])]
            assert row.given.keys() >= row.small.keys()


def test_without_torch_our_side_is_timed_alone(monkeypatch, capsys) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
    main(["--rows", "matching", "--sizes", "small", "--pairs", "1"])
    said = capsys.readouterr()
    assert said.err.startswith("PyTorch is not installed") and "pip install -r requirements-bench.txt" in said.err
    assert re.search(r"does [1-9]\d* GFLOP", said.out)
    (row,) = [row for row in said.out.splitlines() if row.startswith("| matching")]
    assert float(row.split("|")[2]) > 0 and row.split("|")[5].strip() == "-"
