"""Which room may import what: imports go down the floors only, and heavy packages stay where they belong."""

import ast
import functools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import vitjax

PACKAGE = Path(vitjax.__file__).parent
ORDER = (  # a room imports from rooms before it only, so that there is no way back
    "errors", "batch", "structs", "ops", "layers", "attention", "backbones",
    "detection", "classification", "segmentation",
    "data", "doctor", "prediction", "across_hosts", "placement", "hosts", "checkpoints", "formats", "families", "runs",
    "drawing", "evaluation", "explain", "inference", "tasks", "export", "training", "recipes", "commands",
    "__init__", "__main__",
)  # fmt: skip
MODELS = ("layers", "attention", "backbones", "detection", "classification", "segmentation")
BELOW_MODELS = {"errors", "batch", "ops", "structs"}
NARROW = {  # rooms that know less than the order would let them
    "data": {"errors", "batch"},
    "doctor": {"errors", "batch", "data"},
    "prediction": {"errors", "data"},
    "evaluation": {"errors", "data", "prediction"},
    "checkpoints": {"errors", "structs"},
    "classification": BELOW_MODELS | {"layers", "attention", "backbones"},
}
PLACEMENT = {"NamedSharding", "PartitionSpec", "AxisType", "make_mesh", "device_put", "shard_map", "pmap"}
COLLECTIVES = {"axis_name", "psum", "pmean", "all_gather"}


def sources(room: str = "") -> list[Path]:
    """The Python files of a room, which is a folder or a single file; of the whole package without one."""
    folder = PACKAGE / room
    return sorted(folder.rglob("*.py")) if folder.is_dir() else [folder.with_suffix(".py")]


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


@functools.cache
def tree_of(path: Path) -> ast.Module:
    """What a file says, read once for all tests."""
    return ast.parse(path.read_text())


@functools.cache
def imports(path: Path) -> tuple[str, ...]:
    """Dotted names of everything that a file imports, also inside functions; relative ones begin with a dot."""
    return tuple(_imports(tree_of(path)))


def _imports(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{'.' * node.level}{node.module or ''}.{alias.name}" for alias in node.names)


@functools.cache
def names(path: Path) -> set[str]:
    """Every name that a file uses, imports or passes as keyword."""
    found = set()
    for node in ast.walk(tree_of(path)):
        for field in ("id", "attr", "arg", "name"):
            value = getattr(node, field, None)
            found |= {value.split(".")[-1]} if isinstance(value, str) else set()
    return found


def importing(packages: set[str]) -> set[str]:
    """The files, relative to the package, that import one of these packages."""
    return {
        path.relative_to(PACKAGE).as_posix()
        for path in sources()
        if any(name.split(".")[0] in packages for name in imports(path))
    }


def using(words: set[str]) -> set[str]:
    return {path.relative_to(PACKAGE).as_posix() for path in sources() if names(path) & words}


def closure(*modules: str) -> set[Path]:
    """The files that importing these modules runs: imports inside functions and for types only do not count."""
    seen: set[Path] = set()
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        file = file_of(name)
        if file is None or file in seen:
            continue
        seen.add(file)
        parts = name.split(".")
        waiting += [".".join(parts[:end]) for end in range(1, len(parts))] + list(imports_at_once(file))
    return seen


def file_of(module: str) -> Path | None:
    path = PACKAGE.parent.joinpath(*module.split("."))
    found = [file for file in (path / "__init__.py", path.with_suffix(".py")) if file.is_file()]
    return found[0] if found and module.split(".")[0] == "vitjax" else None


def imports_at_once(path: Path) -> Iterator[str]:
    waiting: list[ast.AST] = list(tree_of(path).body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names))
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            waiting += node.orelse
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            waiting += [child for child in ast.iter_child_nodes(node) if isinstance(child, ast.stmt)]


def lines(files: set[Path]) -> int:
    return sum(len(file.read_text().splitlines()) for file in files)


def test_every_room_has_its_place():
    assert {room_of(path) for path in sources()} == set(ORDER)


def test_every_import_of_the_house_is_there():
    """A type check that leaves out what other people have not typed would leave these out, too."""
    named = [(path.name, name) for path in sources() for name in imports(path) if name.startswith("vitjax.")]
    assert [
        (file, name) for file, name in named if file_of(name) is None and not stands_in(*name.rpartition(".")[::2])
    ] == []


def stands_in(module: str, name: str) -> bool:
    """Whether a file defines or imports a name at its top level, or its stub does."""
    file = file_of(module)
    stub = file and file.with_suffix(".pyi")
    return any(name in stands(one) for one in (file, stub) if one is not None and one.is_file())


@functools.cache
def stands(path: Path) -> set[str | None]:
    return {getattr(node, "id", None) or getattr(node, "name", None) for node in ast.walk(tree_of(path))}


def test_imports_are_absolute():
    assert not [(path.name, name) for path in sources() for name in imports(path) if name.startswith(".")]


@pytest.mark.parametrize("room", ORDER)
def test_a_room_imports_only_from_rooms_before_it(room):
    allowed = NARROW.get(room, set(ORDER[: ORDER.index(room)])) | {room}
    own = [(path.name, name) for path in sources(room) for name in imports(path) if name.startswith("vitjax.")]
    assert [(file, name) for file, name in own if name.split(".")[1] not in allowed] == []


@pytest.mark.parametrize("room", MODELS)
def test_what_devices_run_knows_nothing_of_the_shell(room):
    own = {name.split(".")[1] for path in sources(room) for name in imports(path) if name.startswith("vitjax.")}
    assert own <= BELOW_MODELS | set(MODELS)


def test_training_a_detr_loads_no_other_task_and_not_all_of_the_house():
    files = closure("vitjax.training.loop", "vitjax.tasks.detection")
    others = ("classification", "segmentation", "explain", "export", "doctor", "commands", "recipes")
    assert {room_of(file) for file in files} & set(others) == set()
    names = {file.relative_to(PACKAGE).as_posix() for file in files}
    attention = {name for name in names if name.startswith("attention/")}
    assert attention == {"attention/__init__.py", "attention/multi_head.py"}
    assert not names & {"backbones/crossformer.py", "detection/deformable_detr.py", "data/image_folder.py"}
    assert len(files) <= 90 and lines(files) <= 9_500, (len(files), lines(files))


def test_a_detr_with_loss_and_matcher_is_a_small_part():
    assert len(closure("vitjax.detection.detr", "vitjax.detection.loss", "vitjax.detection.matcher")) <= 26


def test_nobody_but_families_and_tasks_asks_what_class_a_model_or_a_loss_is():
    parts = {
        node.name
        for room in ("backbones", "detection", "classification", "segmentation")
        for path in sources(room)
        for node in tree_of(path).body
        if isinstance(node, ast.ClassDef)
    }
    asked = [
        (path.relative_to(PACKAGE).as_posix(), name)
        for path in sources()
        if room_of(path) not in ("families", "tasks")
        for call in ast.walk(tree_of(path))
        if isinstance(call, ast.Call) and ast.unparse(call.func) in ("isinstance", "issubclass")
        for name in re.findall(r"\w+", ast.unparse(call.args[1]))
        if name in parts
    ]
    assert asked == []


def test_ops_know_no_flax():
    assert not any(file.startswith("ops/") for file in importing({"flax"}))


def test_only_the_checkpoint_store_knows_orbax():
    assert importing({"orbax"}) == {"checkpoints/store.py"}


def test_only_placement_places_arrays_on_devices():
    assert using(PLACEMENT) == {"placement.py"}


def test_no_model_knows_of_a_mesh_or_of_other_devices():
    below = {file for file in using(COLLECTIVES | {"Mesh", "mesh"}) if room_of(PACKAGE / file) in MODELS}
    assert below == set()


def test_no_file_is_named_after_nothing_in_particular():
    forbidden = {"utils", "util", "misc", "common", "helpers", "base", "core"}
    house = PACKAGE.parent
    files = [path for folder in ("vitjax", "configs", "tests") for path in (house / folder).rglob("*.py")]
    assert not [path for path in files if forbidden & set(path.relative_to(house).with_suffix("").parts)]
