"""Whatever becomes of the files of checkpoints: a state comes back as it was saved, or a line says why none does."""

import os
import shutil
import tempfile
import warnings
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vitjax.checkpoints.store import Store
from vitjax.errors import VitjaxError

STEPS = (1, 2, 3)
QUIET = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]


def state_of(step):
    """A small state with whatever a state may hold, of the same shapes for all steps."""
    random = np.random.default_rng(step)
    return {
        "params": {"kernel": random.normal(size=(6, 4)).astype(np.float32), "turned": random.normal(size=(4, 6))},
        "half": jnp.asarray(random.normal(size=(3,)), jnp.bfloat16),
        "frozen": np.arange(64.0, dtype=np.float32),  # alike in all steps
        "zeros": np.zeros((4, 4), np.float32),
        "empty": np.zeros((0, 4), np.float32),
        "key": jax.random.key(step),
        "step": step,
    }


def bits(state):
    """Shape, dtype and bytes of every leaf by its path."""
    plain = jax.tree.map(
        lambda leaf: (
            jax.random.key_data(leaf) if jnp.issubdtype(jnp.asarray(leaf).dtype, jax.dtypes.prng_key) else leaf
        ),
        state,
    )
    leaves = jax.tree.leaves_with_path(plain)
    return {
        jax.tree_util.keystr(path): (np.shape(leaf), np.asarray(leaf).dtype, np.asarray(leaf).tobytes())
        for path, leaf in leaves
    }


WANTED = {step: bits(state_of(step)) for step in (*STEPS, 4)}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved") / "checkpoints"
    with Store(folder, keep_last=len(STEPS)) as store:
        for step in STEPS:
            store.save(step, state_of(step), metrics={"AP": step / 10})
    return folder


def flip(path, number):
    if path.is_file() and (content := bytearray(path.read_bytes())):
        content[number % len(content)] ^= 1 << (number >> 20) % 8
        path.write_bytes(content)


def overwrite(path, number):
    if path.is_file() and (content := bytearray(path.read_bytes())):
        random = np.random.default_rng(number)
        for place in random.integers(0, len(content), 4):
            content[place] = random.integers(256)
        path.write_bytes(content)


def cut(path, number):
    if path.is_file():
        os.truncate(path, number % (path.stat().st_size + 1))


def delete(path, _):
    shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)


def make_folder(path, _):
    delete(path, 0)
    path.mkdir()


def make_file(path, number):
    delete(path, 0)
    path.write_bytes(np.random.default_rng(number).bytes(number % 64))


def make_link(path, number):
    delete(path, 0)
    path.symlink_to(("/nowhere", path.parent, "/dev/null", path)[number % 4])


def swap(path, number):
    """Puts what has the same place in another step there, and the other way round; or links to it, or copies it."""
    root = next(parent for parent in path.parents if parent.name == "checkpoints")
    step, *rest = path.relative_to(root).parts
    others = [other for other in STEPS if str(other) != step]
    other = root.joinpath(str(others[number % 2]), *rest)
    if not other.exists() or not path.exists() or path.is_symlink():
        return
    if number >> 1 & 1:
        beside = root / "beside"
        path.rename(beside), other.rename(path), beside.rename(other)
        return
    delete(path, 0)
    if number >> 2 & 1:
        path.symlink_to(other)
    else:
        shutil.copytree(other, path) if other.is_dir() else shutil.copy(other, path)


DAMAGES = {each.__name__: each for each in (flip, overwrite, cut, delete, make_folder, make_file, make_link, swap)}
DAMAGE = st.tuples(st.sampled_from(sorted(DAMAGES)), st.integers(0, 2**20), st.integers(0, 2**24))


def places(folder):
    """Whatever there is in a folder of checkpoints, the newest steps first."""
    return sorted(folder.rglob("*"), key=str, reverse=True)


def is_restored_or_told(saved, damages):
    """Whether all that is read is as it was saved, whatever was damaged, and what is saved next is there afterwards."""
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root, "checkpoints")
        shutil.copytree(saved, folder)
        for name, place, number in damages:
            if there := places(folder):
                DAMAGES[name](there[place % len(there)], number)
        newest = folder / str(STEPS[-1])
        is_there = newest.is_dir()
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            found = restored(folder)
        assert found == STEPS[-1] or told or not is_there
    return True


def restored(folder):
    """The step that was gone on from, None where the store says that there is none."""
    like, found = state_of(1), None
    try:
        with Store(folder, keep_last=2, keep_best=1) as store:
            for read in (store.restore_latest, lambda like: store.read_best(lambda best: store.restore(best, like))):
                try:
                    step, state = read(like)
                    assert bits(state) == WANTED[step], f"step {step} is not as it was saved"
                    found = max(found or 0, step)
                except VitjaxError as error:
                    assert str(error).encode()
            if found is None:
                return None
            for new in range(found + 1, 5):
                assert store.save(new, state_of(new), metrics={"AP": new / 10})
                store.annotate(new, {"AP": new / 10})
        with Store(folder) as store:
            step, state = store.restore_latest(like)
            assert step == store.best_step() == 4 and bits(state) == WANTED[4]
    except VitjaxError as error:
        assert str(error).encode() and found is None, error  # what can be gone on from can be saved to
    return found


@settings(max_examples=8, deadline=None, derandomize=True, suppress_health_check=QUIET)
@given(damages=st.lists(DAMAGE, min_size=1, max_size=3))
def test_damaged_checkpoints_are_passed_over_or_told(saved, damages):
    assert is_restored_or_told(saved, damages)


@pytest.mark.long
@settings(max_examples=1_000, deadline=None, suppress_health_check=QUIET)
@given(damages=st.lists(DAMAGE, min_size=1, max_size=4))
def test_checkpoints_damaged_in_many_ways_are_passed_over_or_told(saved, damages):
    assert is_restored_or_told(saved, damages)
