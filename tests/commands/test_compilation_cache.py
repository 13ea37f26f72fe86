"""What a command compiles is kept for the next, unless somebody has set JAX up otherwise."""

import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from vitjax.commands import compilation_cache
from vitjax.commands.compilation_cache import OFF, _forget_oldest, keeping_programs
from vitjax.commands.main import main

DIR = "JAX_COMPILATION_CACHE_DIR"
PROGRAM = """
import sys
from vitjax.commands.compilation_cache import keeping_programs
keeping_programs("train", [])
import jax
hits = []
jax.monitoring.register_event_listener(lambda event, **_: hits.append(event.rpartition("/")[2]))
print(float(jax.jit(lambda x: (x @ x).sum())(jax.numpy.ones((8, 8)))), hits.count("cache_hits"))
"""
DIVIDED = """
from jax.experimental.custom_partitioning import custom_partitioning

divided = custom_partitioning(lambda x: x + 1)
divided.def_partition(
    lambda mesh, given, gives: (mesh, lambda x: x + 1, gives.sharding, tuple(one.sharding for one in given)),
    sharding_rule="a -> a",
)
mesh = jax.make_mesh((2,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
halves = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
ones = jax.device_put(jax.numpy.ones(2), halves)
hits.clear()
twos = jax.block_until_ready(jax.jit(divided)(ones))
print(hits.count("cache_hits"), *twos.tolist())
"""


@pytest.fixture
def fresh(monkeypatch, tmp_path):
    """A process in which nobody has set JAX up, and a cache folder of its own."""
    monkeypatch.delitem(sys.modules, "jax")
    for name in (
        DIR,
        "JAX_ENABLE_COMPILATION_CACHE",
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS",
        "JAX_REMOVE_CUSTOM_PARTITIONING_PTR_FROM_CACHE_KEY",
    ):
        monkeypatch.setenv(name, "")  # so that what the code sets is taken back
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    return tmp_path


def test_a_command_that_compiles_keeps_programs_in_the_users_cache_folder_alone(fresh):
    assert keeping_programs("train", ["quickstart", "--epochs", "1"]) == ["quickstart", "--epochs", "1"]
    folder = Path(os.environ[DIR])
    assert folder.is_relative_to(fresh / "vitjax") and folder.is_dir() and not list(folder.iterdir())
    assert folder.stat().st_mode & 0o777 == 0o700


def test_a_command_that_compiles_nothing_makes_no_folder(fresh):
    keeping_programs("doctor", ["data"])
    assert DIR not in os.environ and not list(fresh.iterdir())


@pytest.mark.parametrize("name, value", [(DIR, "mine"), (DIR, ""), ("JAX_ENABLE_COMPILATION_CACHE", "0")])
def test_what_the_environment_says_is_kept(fresh, monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    keeping_programs("train", [])
    assert os.environ[name] == value and not list(fresh.iterdir())


def test_a_word_turns_it_off_also_where_the_environment_names_a_folder(fresh, monkeypatch):
    monkeypatch.setenv(DIR, "mine")
    assert keeping_programs("train", ["quickstart", OFF]) == ["quickstart"]
    assert os.environ["JAX_ENABLE_COMPILATION_CACHE"] == "false" and not list(fresh.iterdir())


def test_a_program_that_has_imported_jax_keeps_its_own_setting(fresh, monkeypatch):
    monkeypatch.setitem(sys.modules, "jax", sys)
    keeping_programs("train", [])
    assert DIR not in os.environ and not list(fresh.iterdir())


def test_the_word_is_taken_by_every_command(fresh, capsys):
    assert main(["doctor", OFF, str(fresh / "nothing")]) != 0
    assert "nothing" in capsys.readouterr().out


def test_a_folder_that_cannot_be_made_is_told_and_done_without(fresh, monkeypatch, capsys):
    (fresh / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(fresh / "file"))
    keeping_programs("train", [])
    assert DIR not in os.environ
    told = capsys.readouterr().err
    assert told.startswith("note: compiled programs are not kept: ") and "cannot be written: Not a directory" in told
    assert told.count("\n") == 1


def test_a_folder_that_others_may_write_is_not_trusted(fresh, capsys):
    keeping_programs("train", [])
    Path(os.environ.pop(DIR)).chmod(0o777)
    keeping_programs("train", [])
    assert DIR not in os.environ and "others may write there" in capsys.readouterr().err


def test_a_relative_cache_home_is_ignored_as_the_convention_says(fresh, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "cache")
    monkeypatch.setenv("HOME", str(fresh))
    keeping_programs("train", [])
    assert Path(os.environ[DIR]).is_relative_to(fresh) and not Path("cache").exists()


def test_what_was_used_longest_ago_goes_where_there_is_no_more_room(tmp_path):
    for age, name in enumerate("abcd"):
        path = tmp_path / name / "program" if name == "b" else tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(bytes(10))
        os.utime(path, (1e9 - age, 1e9 - age))
    _forget_oldest(tmp_path, room=20)
    assert {path.name for path in tmp_path.rglob("*") if path.is_file()} == {"a", "program"}


def test_programs_for_other_processors_and_of_other_kernels_have_a_folder_of_their_own(fresh, monkeypatch):
    def folder():
        os.environ.pop(DIR, None)
        keeping_programs("train", [])
        return os.environ[DIR]

    first = folder()
    assert folder() == first
    monkeypatch.setattr(compilation_cache, "processors", lambda: 96)
    more = folder()
    (fresh / "kernel.py").write_text("another")
    monkeypatch.setattr(compilation_cache, "_KERNELS", fresh)
    assert len({first, more, folder()}) == 3


def test_the_next_process_reads_what_is_divided_among_devices_by_a_function(tmp_path):
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    environment["XLA_FLAGS"] = "--xla_force_host_platform_device_count=2"
    del environment[DIR]

    def said():
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM + DIVIDED], env=environment, capture_output=True, text=True
        )
        return done.stdout.splitlines()[1]

    assert [said(), said()] == ["0 2.0 2.0", "1 2.0 2.0"]


def test_the_next_process_reads_the_program_and_a_damaged_one_is_told_once_and_mended(tmp_path):
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    del environment[DIR]

    def said():
        done = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True)
        return done.stdout.split()[0], int(done.stdout.split()[1]), done.stderr

    assert said() == ("512.0", 0, "")
    for path in tmp_path.rglob("jit__lambda*-cache"):
        path.write_bytes(path.read_bytes()[:100])
    result, hits, told = said()
    assert result == "512.0" and "was damaged; jit__lambda is compiled anew" in told and told.count("\n") == 1
    assert said() == ("512.0", hits + 1, "")
