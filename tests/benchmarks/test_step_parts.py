import pytest

from benchmarks.step_parts import UNNAMED, by_part, names_of, own_times, table

PROGRAM = """
HloModule jit_whole

ENTRY %main (p: f32[2]) -> f32[2] {
  %p = f32[2]{0} parameter(0), metadata={op_name="state"}
  %dot.1 = f32[2]{0} dot(%p, %p), metadata={op_type="x" op_name="jit(whole)/jvp(DETR.inner)/backbone/stage_1/dot" id=1}
  dot.2 = f32[2]{0} dot(%p), metadata={op_name="jit(whole)/transpose(jvp(DETR.inner))/encoder/layer_0/decoder/dot"}
  %while.3 = f32[2]{0} while(%p), metadata={op_name="jit(whole)/vmap(jit(matching))/while"}
  %copy.4 = f32[2]{0} copy(%p)
  ROOT %fusion.5 = f32[2]{0} fusion(%p), calls=%f, metadata={op_name="jit(whole)/jvp(loss)/mul"}
}
"""


def event(name: str, start: float, duration: float, thread: int = 1) -> dict:
    return {"ph": "X", "pid": 7, "tid": thread, "ts": start, "dur": duration, "args": {"hlo_op": name}}


def test_operations_have_the_names_of_their_metadata() -> None:
    names = names_of(PROGRAM)
    assert names["dot.1"] == "jit(whole)/jvp(DETR.inner)/backbone/stage_1/dot"
    assert names["fusion.5"] == "jit(whole)/jvp(loss)/mul" and "dot.2" in names and "copy.4" not in names


def test_what_runs_inside_an_operation_is_not_counted_twice() -> None:
    nested = [event("while.3", 0, 100), event("dot.1", 10, 30), event("dot.1", 50, 20), event("fusion.5", 100, 5)]
    aside = [event("dot.2", 0, 40, thread=2), {"ph": "M", "name": "thread"}, {"ph": "X", "ts": 0, "dur": 9, "args": {}}]
    assert own_times(nested[::-1] + aside) == {"while.3": 50, "dot.1": 50, "fusion.5": 5, "dot.2": 40}


def test_parts_are_the_outermost_scopes_with_both_passes_apart() -> None:
    spent = own_times(event(name, 10 * i, i + 1) for i, name in enumerate(("dot.1", "dot.2", "while.3", "copy.4")))
    parts = by_part(spent, names_of(PROGRAM))
    assert list(parts) == [UNNAMED, "matching", "encoder", "backbone"]
    assert (parts["encoder"].forward, parts["encoder"].backward) == (0, 2)
    assert (parts["backbone"].forward, parts["matching"].forward) == (1, 3)
    assert list(by_part(spent, names_of(PROGRAM), split="backbone"))[-1] == "backbone/stage_1"


def test_shares_add_up() -> None:
    parts = by_part(own_times([event("dot.1", 0, 3000), event("dot.2", 4000, 1000)]), names_of(PROGRAM))
    assert table("t", parts).splitlines()[2:] == [
        "| backbone | 3.0 | 0.0 | 75.0% |",
        "| encoder | 0.0 | 1.0 | 25.0% |",
        "| all | 3.0 | 1.0 | 100.0% |",
    ]
    assert pytest.approx(sum(part.forward + part.backward for part in parts.values())) == 4000
