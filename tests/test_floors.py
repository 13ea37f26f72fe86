"""Which room may import what: imports go down the floors only, and heavy packages stay where they belong."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import vitjax

PACKAGE = Path(vitjax.__file__).parent
FLOORS = {  # room -> the rooms of vitjax that it may import besides itself
    "structs": set(),
    "ops": set(),
    "layers": {"structs", "ops"},
    "attention": {"structs", "ops", "layers"},
    "backbones": {"structs", "ops", "attention", "layers"},
    "classification": {"structs", "ops", "attention", "layers", "backbones"},
    "detection": {"structs", "ops", "attention", "layers", "backbones"},
    "segmentation": {"structs", "ops", "attention", "layers", "backbones", "detection"},
    "data": {"structs"},
}
TOP = {
    "__init__",
    "__main__",
    "checkpoints",
    "commands",
    "doctor",
    "drawing",
    "evaluation",
    "explain",
    "export",
    "formats",
    "inference",
    "placement",
    "recipes",
    "runs",
    "training",
}
ON_DEVICE = {"jax", "jaxlib", "flax", "optax", "orbax"}
PLACEMENT = {"NamedSharding", "PartitionSpec", "AxisType", "make_mesh", "device_put", "shard_map", "pmap"}
COLLECTIVES = {"axis_name", "psum", "pmean", "all_gather"}


def sources(room: str = "") -> list[Path]:
    """The Python files of a room, which is a folder or a single file; of the whole package without one."""
    folder = PACKAGE / room
    return sorted(folder.rglob("*.py")) if folder.is_dir() else [folder.with_suffix(".py")]


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imports(path: Path) -> Iterator[str]:
    """Dotted names of everything that a file imports, also inside functions; relative ones begin with a dot."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{'.' * node.level}{node.module or ''}.{alias.name}" for alias in node.names)


def names(path: Path) -> set[str]:
    """Every name that a file uses, imports or passes as keyword."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
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


def test_every_room_has_its_floor():
    assert {room_of(path) for path in sources()} <= FLOORS.keys() | TOP


def test_imports_are_absolute():
    assert not [(path.name, name) for path in sources() for name in imports(path) if name.startswith(".")]


@pytest.mark.parametrize("room", FLOORS)
def test_a_room_imports_only_from_floors_below(room):
    own = [(path.name, name) for path in sources(room) for name in imports(path) if name.split(".")[0] == "vitjax"]
    assert [(file, name) for file, name in own if name.split(".")[1] not in FLOORS[room] | {room}] == []


def test_ops_know_no_flax():
    assert not any(file.startswith("ops/") for file in importing({"flax"}))


@pytest.mark.parametrize("room", ["data", "evaluation"])
def test_host_rooms_import_nothing_that_runs_on_devices(room):
    assert not any(file.startswith(f"{room}/") for file in importing(ON_DEVICE))


def test_only_the_checkpoint_store_knows_orbax():
    assert importing({"orbax"}) == {"checkpoints/store.py"}


def test_only_parallel_places_arrays_on_devices():
    assert using(PLACEMENT) == {"placement.py"}


def test_no_floor_below_training_knows_of_a_mesh_or_of_other_devices():
    below = {file for file in using(COLLECTIVES | {"Mesh", "mesh"}) if room_of(PACKAGE / file) in FLOORS}
    assert below == set()


def test_no_file_is_named_after_nothing_in_particular():
    forbidden = {"utils", "util", "misc", "common", "helpers", "base", "core"}
    house = PACKAGE.parent
    files = [path for folder in ("vitjax", "configs", "tests") for path in (house / folder).rglob("*.py")]
    assert not [path for path in files if forbidden & set(path.relative_to(house).with_suffix("").parts)]
