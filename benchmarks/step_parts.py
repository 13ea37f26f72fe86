"""Where the time of a training step goes: a table by part of the model, from a trace of JAX's profiler.

    taskset -c 0 python benchmarks/step_parts.py detr_resnet50_coco crossformer_small_imagenet:8x224x224

CONFIG:IMAGESxHEIGHTxWIDTH; a step is one image of 480 x 640 where that is left out. Times are those of operations of
the compiled program, each without those that run inside it. The names in its text, paths of modules and scopes, tell
what they are part of. What runs on several cores at once counts once, so one core tells most.
"""

import argparse
import dataclasses
import gzip
import json
import re
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

PARTS = ("backbone", "encoder", "decoder", "matching", "loss", "optimizer")
"""The scopes that are told apart; the outermost of them in a name counts."""
REST, UNNAMED = "rest: pixels, projections, proposals, heads", "copies and others without a name"
_NAMED = re.compile(r'^\s*(?:ROOT )?%?(\S+) = .*metadata=\{[^}]*?op_name="([^"]*)"', re.MULTILINE)


@dataclasses.dataclass
class Spent:
    """Microseconds of a part, in the forward and in the backward pass."""

    forward: float = 0.0
    backward: float = 0.0


def names_of(program: str) -> dict[str, str]:
    """The name that every operation of a compiled program's text has by its metadata."""
    return dict(_NAMED.findall(program))


def own_times(events: Iterable[dict[str, Any]]) -> Counter[str]:
    """Microseconds of each operation in a trace's events, without those of operations that run inside it."""
    threads = defaultdict(list)
    for event in events:
        if event.get("ph") == "X" and "hlo_op" in event.get("args", {}):
            threads[event["pid"], event["tid"]].append(event)
    spent: Counter[str] = Counter()
    for thread in threads.values():
        around: list[tuple[float, str]] = []  # end and name of those that have begun and not ended
        for event in sorted(thread, key=lambda one: (one["ts"], -one["dur"])):
            while around and around[-1][0] <= event["ts"]:
                around.pop()
            if around:
                spent[around[-1][1]] -= event["dur"]
            name = event["args"]["hlo_op"]
            spent[name] += event["dur"]
            around.append((event["ts"] + event["dur"], name))
    return spent


def by_part(spent: Counter[str], names: dict[str, str], split: str = "") -> dict[str, Spent]:
    """What the parts take, the most first; the part `split` is told by the module in it."""
    parts: dict[str, Spent] = defaultdict(Spent)
    for operation, time in spent.items():
        name = names.get(operation, "")
        part = parts[_part(name, split)]
        if "transpose(" in name:
            part.backward += time
        else:
            part.forward += time
    return dict(sorted(parts.items(), key=lambda item: -item[1].forward - item[1].backward))


def _part(name: str, split: str) -> str:
    if not name:
        return UNNAMED
    words = [re.findall(r"[\w.]+", component or "-")[-1:] for component in name.split("/")]
    scopes = [word[0] for word in words if word]
    for place, scope in enumerate(scopes):
        if scope in PARTS:
            return "/".join(scopes[place : place + 2]) if scope == split else scope
    return REST


def table(title: str, parts: dict[str, Spent]) -> str:
    """The parts as Markdown, in milliseconds and shares of the step."""
    whole = sum(part.forward + part.backward for part in parts.values())
    lines = [f"| {title} | forward, ms | backward, ms | share |", "|---|---|---|---|"]
    for name, part in parts.items():
        cells = (
            f"{part.forward / 1e3:.1f}",
            f"{part.backward / 1e3:.1f}",
            f"{(part.forward + part.backward) / whole:.1%}",
        )
        lines.append(f"| {name} | {' | '.join(cells)} |")
    forward, backward = (sum(getattr(part, way) for part in parts.values()) / 1e3 for way in ("forward", "backward"))
    return "\n".join([*lines, f"| all | {forward:.1f} | {backward:.1f} | 100.0% |"])


def profiled(name: str, shape: tuple[int, int, int], small: bool, steps: int = 3) -> dict[str, Spent]:
    """The parts of a config's training step, after two that warm up.

    Of each operation the fastest of the steps counts: whatever else runs on the machine only makes it slower.
    """
    from benchmarks.steps import experiment_of, random_batch, training

    experiment = experiment_of(name, small=small)
    turn = training(experiment, random_batch(experiment, shape, objects=10, places=64))
    names = names_of(turn.program().as_text())
    turn()
    turn()
    each = [own_times(traced(turn)) for _ in range(steps)]
    fastest = Counter({operation: min(spent[operation] for spent in each) for operation in each[0]})
    return by_part(fastest, names, split="backbone" if experiment.kind == "classification" else "")


def traced(call: Callable[[], Any]) -> list[dict[str, Any]]:
    """The events of a call, by JAX's profiler."""
    import jax

    options = jax.profiler.ProfileOptions()
    options.python_tracer_level = 0
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder, profiler_options=options):
            call()
        (trace,) = Path(folder).glob("plugins/profile/*/*.trace.json.gz")
        return json.loads(gzip.decompress(trace.read_bytes()))["traceEvents"]


def main() -> None:
    """Prints a table for each config."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("configs", nargs="+", metavar="CONFIG[:NxHxW]", help="names of configs, and shapes of images")
    parser.add_argument("--small", action="store_true", help="models that take no time, to see that it works")
    options = parser.parse_args()
    for word in options.configs:
        name, _, size = word.partition(":")
        images, height, width = map(int, (size or "1x480x640").split("x"))
        print(table(f"`{name}`, {images} x {height} x {width}", profiled(name, (images, height, width), options.small)))
        print(flush=True)


if __name__ == "__main__":
    main()
