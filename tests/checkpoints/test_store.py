"""The store: what comes back is what was saved, what stays is the latest and the best, and damage is never silent."""

import errno
import json
import os
import re
import shutil
import warnings
import zlib
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from flax import struct
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from vitjax.checkpoints.damage import altered, flush_files
from vitjax.checkpoints.folders import RECORD, Entry, read_record
from vitjax.checkpoints.leaves import checksums
from vitjax.checkpoints.store import CheckpointError, CorruptCheckpoint, Store


class Moments(NamedTuple):
    mean: jax.Array
    count: jax.Array


@struct.dataclass
class State:
    step: jax.Array
    params: dict
    optimizer: object
    key: jax.Array


def small_state(value=0.0, head=3):
    """A state with everything that a training state may hold."""
    params = {
        "backbone": {"kernel": jnp.full((4, 5), value), "half": jnp.full((3,), value, jnp.bfloat16)},
        "head": {"kernel": jnp.full((5, head), value)},
    }
    optimizer = (optax.EmptyState(), optax.adam(1e-3).init(params), Moments(jnp.ones(2), jnp.zeros((), jnp.int32)))
    return State(jnp.int32(value), params, optimizer, jax.random.key(7))


def assert_same(found, wanted):
    assert jax.tree.structure(found) == jax.tree.structure(wanted)
    for path, (left, right) in zip(
        [jax.tree_util.keystr(path) for path, _ in jax.tree.leaves_with_path(wanted)],
        zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True),
        strict=True,
    ):
        if jnp.issubdtype(left.dtype, jax.dtypes.prng_key):
            left, right = jax.random.key_data(left), jax.random.key_data(right)
        assert left.dtype == right.dtype, path
        np.testing.assert_array_equal(left, right, err_msg=path)


def data_file(directory, step):
    """The file of the step that holds the arrays."""
    files = [path for path in (directory / str(step) / "arrays").rglob("d/*") if path.is_file()]
    return max(files, key=lambda path: path.stat().st_size)


def flip_a_bit(path, place):
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def random_arrays(seed=0):
    generator = np.random.default_rng(seed)
    return {name: generator.normal(size=(64, 64)).astype(np.float32) for name in ("first", "second")}


def test_a_step_holds_what_has_arrays_and_nothing_else(tmp_path):
    with Store(tmp_path) as store:
        store.save(1, {"trainable": {"head": {"kernel": np.ones(3)}}, "average": None})
        assert store.holds(1, "trainable") and store.holds(1, "trainable/head/kernel")
        assert not store.holds(1, "average") and not store.holds(1, "train")
        with pytest.raises(CheckpointError, match="there is no step 2"):
            store.holds(2, "trainable")


def test_a_state_comes_back_as_it_was_saved(tmp_path):
    state = small_state(2.5)
    with Store(tmp_path) as store:
        assert store.save(3, state, metrics={"AP": 0.5}, notes={"classes": ["cat", "dog"]})
        assert_same(store.restore(3, jax.eval_shape(lambda: small_state())), state)
        assert_same(store.restore(3, small_state()), state)
        assert (store.steps(), store.latest_step(), store.best_step()) == ((3,), 3, 3)
        assert store.metrics(3) == {"AP": 0.5}
        assert store.notes(3) == {"classes": ["cat", "dog"]}


def test_leaves_come_back_as_the_kind_that_is_asked_for(tmp_path):
    state = {
        "array": np.arange(6).reshape(2, 3).T,
        "scalar": np.int64(5),
        "int": 3,
        "float": 0.1,
        "bool": True,
        "empty": np.zeros((0, 4), np.float32),
        "none": None,
    }
    with Store(tmp_path) as store:
        store.save(1, state)
        found = store.restore(1, state)
    assert {name: type(leaf) for name, leaf in found.items()} == {name: type(leaf) for name, leaf in state.items()}
    np.testing.assert_array_equal(found.pop("array"), state.pop("array"))
    assert found.pop("empty").shape == state.pop("empty").shape
    assert found == state


def test_a_run_goes_on_as_if_it_had_not_been_cut(tmp_path):
    transformation = optax.adamw(1e-2)

    @partial(jax.jit, donate_argnums=(0, 1, 2))
    def step(params, state, key):
        key, noise = jax.random.split(key)
        gradient = jax.tree.map(lambda p: p + jax.random.normal(noise, p.shape), params)
        updates, state = transformation.update(gradient, state, params)
        return optax.apply_updates(params, updates), state, key

    def start():
        params = {"w": jnp.ones((8, 8))}
        return params, transformation.init(params), jax.random.key(1)

    whole = start()
    for count in range(6):
        whole = step(*whole)
        if count == 2:
            with Store(tmp_path) as store:
                store.save(3, whole)
    with Store(tmp_path) as store:
        latest, state = store.restore_latest(start())
    for _ in range(latest, 6):
        state = step(*state)
    assert_same(state, whole)


def test_a_state_may_be_donated_as_soon_as_save_returns(tmp_path):
    overwrite = jax.jit(lambda state: jax.tree.map(lambda x: x * 0 - 1, state), donate_argnums=0)
    state = {f"array_{i}": jnp.full((400, 500), float(i)) for i in range(8)}
    wanted = jax.tree.map(np.array, state)
    with Store(tmp_path) as store:
        store.save(1, state)
        state = overwrite(state)
        assert_same(store.restore(1, wanted), wanted)
    assert float(state["array_3"][0, 0]) == -1


def test_numpy_arrays_may_be_changed_as_soon_as_save_returns(tmp_path):
    state = random_arrays()
    wanted = jax.tree.map(np.array, state)
    with Store(tmp_path) as store:
        store.save(1, state)
        state["first"][:] = 0
        assert_same(store.restore(1, wanted), wanted)


def test_sharded_arrays_come_back_in_the_sharding_that_is_asked_for(tmp_path):
    devices = jax.devices()
    mesh = jax.make_mesh((len(devices),), ("data",), axis_types=(AxisType.Auto,))
    divided, whole = (NamedSharding(mesh, spec) for spec in (PartitionSpec("data"), PartitionSpec()))
    values = np.random.default_rng(0).normal(size=(2 * len(devices), 3)).astype(np.float32)
    state = {
        "divided": jax.device_put(values, divided),
        "whole": jax.device_put(values, whole),
        "key": jax.random.key(3),
    }
    like = {
        "divided": jax.ShapeDtypeStruct(values.shape, np.float32, sharding=whole),
        "whole": jax.ShapeDtypeStruct(values.shape, np.float32, sharding=divided),
        "key": jax.device_put(jax.random.key(0), whole),
    }
    with Store(tmp_path) as store:
        store.save(1, state)
        found = store.restore(1, like)
    assert_same(found, state)
    for name, leaf in like.items():
        assert found[name].sharding.is_equivalent_to(leaf.sharding, found[name].ndim), name


def test_arrays_bound_to_no_device_come_back_unbound(tmp_path):
    with Store(tmp_path) as store:
        store.save(1, {"free": jnp.ones(2), "bound": jax.device_put(jnp.ones(2), jax.devices()[0])})
        found = store.restore(1, {"free": jnp.zeros(2), "bound": jax.device_put(jnp.zeros(2), jax.devices()[-1])})
    assert not found["free"].committed
    assert found["bound"].devices() == {jax.devices()[-1]}


def test_the_latest_and_the_best_stay(tmp_path):
    with Store(tmp_path, keep_last=1, keep_best=2) as store:
        for step, score in enumerate([0.1, 0.9, 0.2, 0.8, 0.3, 0.4], start=1):
            store.save(step, {"x": np.float32(step)}, metrics={"AP": score, "loss": 1.0})
        assert store.steps() == (2, 4, 6)
        assert (store.best_step(), store.latest_step()) == (2, 6)
    with Store(tmp_path, keep_last=2, keep_best=1) as store:
        store.save(7, {"x": np.float32(7)}, metrics={"AP": 0.5})
        assert store.steps() == (2, 6, 7)


def test_steps_that_are_to_be_kept_stay_whatever_comes_later(tmp_path):
    with Store(tmp_path, keep_last=1, keep_best=0, keep=(2, 9)) as store:
        for step in range(1, 5):
            store.save(step, {"x": np.float32(step)})
            store.annotate(step, {"AP": 0.1 * step})
        assert store.steps() == (2, 4)


def test_a_metric_that_is_missing_or_not_finite_is_never_best(tmp_path):
    with Store(tmp_path) as store:
        store.save(1, {"x": 1}, metrics={"AP": float("nan")})
        assert store.best_step() is None
        store.save(2, {"x": 2}, metrics={"AP": 0.1})
        store.save(3, {"x": 3}, metrics={"AP": float("nan")})
        store.save(4, {"x": 4}, metrics={"AP": float("inf")})
        store.save(5, {"x": 5}, metrics={"AP50": 0.9})
        store.save(6, {"x": 6})
        assert store.steps() == (2, 6)
        assert store.best_step() == 2
    with Store(tmp_path) as store:
        store.save(7, {"x": 7}, metrics={"AP": float("nan")})
        assert store.steps() == (2, 7)
        assert np.isnan(store.metrics(7)["AP"])


def test_scores_are_put_on_a_step_after_it_was_saved_and_decide_then_what_is_best(tmp_path):
    with Store(tmp_path, keep_last=1, keep_best=1) as store:
        for step, score in enumerate([0.5, 0.2, 0.9, 0.1], start=1):
            assert store.save(step, {"x": np.float32(step)}, notes={"of": step})
            assert store.best_step() == {1: None, 2: 1, 3: 1, 4: 3}[step]
            store.annotate(step, {"AP": score})
            assert store.steps() == {1: (1,), 2: (1, 2), 3: (3,), 4: (3, 4)}[step]
            assert (store.metrics(step), store.notes(step)) == ({"AP": score}, {"of": step})
    with Store(tmp_path) as store:
        assert store.best_step() == 3
        assert store.restore(3, {"x": np.float32(0)}) == {"x": 3}


def test_a_step_without_scores_yet_costs_no_other_step_its_place(tmp_path):
    with Store(tmp_path, keep_last=1, keep_best=1) as store:
        store.save(1, {"x": 1})
        store.annotate(1, {"AP": 0.5})
        store.save(2, {"x": 2})
    with Store(tmp_path, keep_last=1, keep_best=1) as store:  # the run was ended before step 2 had scores
        assert store.steps() == (1, 2)
        store.annotate(2, {"AP": 0.4})
        store.save(3, {"x": 3})
        assert store.steps() == (1, 3)


def test_a_record_that_cannot_be_annotated_stays_as_it_was(tmp_path, monkeypatch):
    def full(_):
        raise OSError("no space left on device")

    with Store(tmp_path) as store:
        store.save(1, {"x": 1}, metrics={"AP": 0.5})
        with monkeypatch.context() as broken:
            store.wait()
            broken.setattr("os.fsync", full)
            with pytest.raises(CheckpointError, match=r"cannot be written to .*: no space left"):
                store.annotate(1, {"AP": 0.9})
        assert (store.metrics(1), store.restore(1, {"x": 0})) == ({"AP": 0.5}, {"x": 1})
        with pytest.raises(CheckpointError, match="there is no step 2"):
            store.annotate(2, {"AP": 0.9})
    assert [path.name for path in (tmp_path / "1" / "record").iterdir() if path.suffix == ".part"] == []


def test_the_best_step_is_known_to_be_damaged_when_it_is_read_and_the_next_best_takes_its_place(tmp_path):
    states = {step: random_arrays(step) for step in (1, 2, 3)}
    with Store(tmp_path, keep_last=3, keep_best=3) as store:
        for step, score in ((1, 0.3), (2, 0.5), (3, 0.9)):
            store.save(step, states[step], metrics={"AP": score})
    flip_a_bit(data_file(tmp_path, 3), 9000)
    with Store(tmp_path) as store:
        assert store.best_step() == 3  # nobody has read it
        with pytest.warns(UserWarning, match="passing over step 3"):
            step, arrays = store.read_best(lambda step: store.restore_subtree(step, ""))
        assert step == store.best_step() == 2
        assert_same(arrays, states[2])
        assert (store.latest_step(), store.steps()) == (2, (1, 2))


def test_after_a_resume_that_passed_over_a_step_it_is_not_the_best(tmp_path):
    with Store(tmp_path, keep_last=2) as store:
        for step in (1, 2):
            store.save(step, random_arrays(step), metrics={"AP": step / 10})
    flip_a_bit(data_file(tmp_path, 2), 9000)
    with Store(tmp_path) as store:
        with pytest.warns(UserWarning, match="passing over step 2"):
            assert store.restore_latest(random_arrays())[0] == 1
        assert store.best_step() == 1


def test_where_no_step_has_a_score_the_latest_that_is_intact_is_read(tmp_path):
    with Store(tmp_path, keep_last=3) as store:
        with pytest.raises(CheckpointError, match="there is no checkpoint"):
            store.read_best(lambda step: step)
        for step in (1, 2, 3):
            store.save(step, {"x": step})
        assert store.read_best(lambda step: step) == (3, 3)


def test_a_store_is_empty_until_a_step_has_a_folder_be_it_damaged(tmp_path):
    with Store(tmp_path) as store:
        assert store.is_empty
        store.save(1, {"x": 1})
        assert not store.is_empty
        damage_record(tmp_path / "1")
        (tmp_path / "1" / "record" / "record.json").unlink()
        assert store.steps() == () and not store.is_empty


def test_of_equal_scores_the_later_is_best(tmp_path):
    with Store(tmp_path, keep_last=1, keep_best=1) as store:
        for step in (1, 2):
            store.save(step, {"x": step}, metrics={"AP": 0.0})
        assert store.steps() == (2,)


def test_an_empty_store_has_no_steps_and_makes_no_folder(tmp_path):
    with Store(tmp_path / "absent") as store:
        assert (store.steps(), store.latest_step(), store.best_step()) == ((), None, None)
        with pytest.raises(CheckpointError, match=r"there is no checkpoint in .*absent"):
            store.restore_latest({"x": 1})
        with pytest.raises(CheckpointError, match=r"there is no step 5 in .*absent"):
            store.restore(5, {"x": 1})
    assert not (tmp_path / "absent").exists()


def test_a_relative_folder_is_where_the_store_was_made(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with Store("run") as store:
        monkeypatch.chdir("/")
        store.save(1, {"x": 1})
    assert (tmp_path / "run" / "1").is_dir()


def test_a_step_that_is_there_is_left_alone(tmp_path):
    with Store(tmp_path) as store:
        assert store.save(1, {"x": 1}, metrics={"AP": 0.1})
        assert not store.save(1, {"x": 2})
        assert store.restore(1, {"x": 0}) == {"x": 1}
        assert store.metrics(1) == {"AP": 0.1}


def test_saving_before_a_later_step_is_an_error(tmp_path):
    with Store(tmp_path) as store:
        store.save(9, {"x": 1})
        with pytest.raises(CheckpointError, match=r"holds steps later than 4, which is to be saved: \[9\]"):
            store.save(4, {"x": 1})


def test_a_head_of_another_shape_is_an_error_that_lists_every_difference(tmp_path):
    with Store(tmp_path) as store:
        store.save(1, small_state(head=92))
        wanted = small_state(head=4)
        wanted.params["extra"] = jnp.zeros(2)
        wanted.params["backbone"].pop("half")
        wanted.params["backbone"]["kernel"] = jnp.zeros((4, 5), jnp.float16)
        with pytest.raises(CheckpointError) as caught:
            store.restore(1, wanted)
    assert not isinstance(caught.value, CorruptCheckpoint)
    for line in (
        "  params/head/kernel: float32[5, 92] in the checkpoint, float32[5, 4] wanted",
        "  params/extra: nothing in the checkpoint, float32[2] wanted",
        "  params/backbone/half: bfloat16[3] in the checkpoint, nothing wanted",
        "  params/backbone/kernel: float32[4, 5] in the checkpoint, float16[4, 5] wanted",
        "  optimizer/1/0/mu/head/kernel: float32[5, 92] in the checkpoint, float32[5, 4] wanted",
    ):
        assert line in str(caught.value)


def test_a_long_list_of_differences_is_cut(tmp_path):
    with Store(tmp_path) as store:
        store.save(1, {f"array_{i}": np.zeros(2) for i in range(50)})
        with pytest.raises(CheckpointError, match=r"\.\.\. and 30 more$"):
            store.restore(1, {f"array_{i}": np.zeros(3) for i in range(50)})


def test_another_random_generator_is_a_difference(tmp_path):
    with Store(tmp_path) as store:
        store.save(1, {"key": jax.random.key(0)})
        with pytest.raises(CheckpointError, match=r"key: key<fry>\[\] in the checkpoint, key<rbg>\[\] wanted"):
            store.restore(1, {"key": jax.random.key(0, impl="rbg")})


def test_a_part_of_the_state_comes_back_alone(tmp_path):
    state = small_state(1.5)
    with Store(tmp_path) as store:
        store.save(1, state)
        params = store.restore_subtree(1, "params")
        assert isinstance(params["head"]["kernel"], np.ndarray)
        assert_same(params, jax.tree.map(np.asarray, state.params))
        assert_same(store.restore_subtree(1, "params/head", {"kernel": jnp.zeros((5, 3))}), state.params["head"])
        assert_same(store.restore_subtree(1, "params/head/kernel"), np.asarray(state.params["head"]["kernel"]))
        assert_same(
            store.restore_subtree(1, "optimizer/2", Moments(np.zeros(2, np.float32), jnp.int32(0))), state.optimizer[2]
        )
        assert_same(store.restore_subtree(1, "key"), state.key)
        assert store.restore_subtree(1, "optimizer/0") == {}
        with pytest.raises(CheckpointError, match="holds no 'para'; it holds key, optimizer, params, step"):
            store.restore_subtree(1, "para")
        with pytest.raises(CheckpointError, match="at 'params/head':\n  kernel: "):
            store.restore_subtree(1, "params/head", {"kernel": jnp.zeros((5, 4))})


@pytest.mark.parametrize("part", [0.25, 0.5, 0.75], ids="at={}".format)
def test_one_flipped_bit_is_an_error_that_names_step_and_path(tmp_path, part):
    with Store(tmp_path) as store:
        store.save(4, random_arrays())
        store.wait()
        path = data_file(tmp_path, 4)
        flip_a_bit(path, int(path.stat().st_size * part))
        with pytest.raises(CorruptCheckpoint, match=f"{re.escape(str(tmp_path / '4'))} .*(first|second)"):
            store.restore(4, random_arrays())


def test_a_bit_flipped_in_another_part_does_not_matter(tmp_path):
    arrays = random_arrays()
    with Store(tmp_path) as store:
        store.save(4, {"params": arrays["first"], "optimizer": arrays["second"]})
        store.wait()
        path = data_file(tmp_path, 4)
        intact = path.read_bytes()
        readable = []
        for part in (0.25, 0.75):
            path.write_bytes(intact)
            flip_a_bit(path, int(len(intact) * part))
            for key, wanted in (("params", "first"), ("optimizer", "second")):
                try:
                    np.testing.assert_array_equal(store.restore_subtree(4, key), arrays[wanted])
                    readable.append((part, key))
                except CorruptCheckpoint as error:
                    assert key in str(error)
    assert len(readable) == 2


def damage_record(folder):
    record = folder / "record" / "record.json"
    record.write_text(record.read_text().replace('"AP": 0.5', '"AP": 0.9'))


DAMAGE = {
    "empty folder": lambda folder: [shutil.rmtree(folder), folder.mkdir()],
    "no record": lambda folder: (folder / "record" / "record.json").unlink(),
    "cut record": lambda folder: (folder / "record" / "record.json").write_text('{"crc32": 1, "rec'),
    "pipe for a record": lambda folder: [(folder / RECORD).unlink(), os.mkfifo(folder / RECORD)],
    "nested record": lambda folder: (folder / RECORD).write_text("[" * 100_000),
    "another record": lambda folder: (folder / "record" / "record.json").write_text("[]"),
    "changed record": damage_record,
    "no arrays": lambda folder: shutil.rmtree(folder / "arrays"),
    "cut data": lambda folder: data_file(folder.parent, folder.name).write_bytes(b"cut"),
    "no manifest": lambda folder: (folder / "arrays" / "manifest.ocdbt").unlink(),
    "flipped bit": lambda folder: flip_a_bit(data_file(folder.parent, folder.name), 9000),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_a_damaged_latest_step_is_passed_over_with_a_warning_and_the_run_goes_on(tmp_path, damage):
    states = {step: random_arrays(step) for step in (1, 2, 3)}
    with Store(tmp_path, keep_last=2) as store:
        for step in (1, 2):
            store.save(step, states[step], metrics={"AP": 0.5})
    damage(tmp_path / "2")
    with Store(tmp_path, keep_last=1, keep_best=0) as store:
        with pytest.warns(UserWarning, match="passing over step 2"):
            step, state = store.restore_latest(states[1])
        assert step == 1
        assert_same(state, states[1])
        # Training goes from 1 to 2 again, which must take the place of the damaged one.
        assert store.save(2, states[2])
        assert store.steps() == (2,)
        assert_same(store.restore(2, states[1]), states[2])
        assert store.save(3, states[3])
        assert store.steps() == (3,)
    assert (tmp_path / "2.damaged").is_dir()


@pytest.mark.parametrize("put", [lambda path: path.symlink_to("nowhere"), lambda path: path.write_text("x")])
def test_what_has_the_name_of_a_step_and_is_no_folder_is_set_aside(tmp_path, put):
    with Store(tmp_path) as store:
        store.save(1, {"x": 1})
    put(tmp_path / "2")
    with Store(tmp_path) as store:
        assert store.restore_latest({"x": 0}) == (1, {"x": 1})
        assert store.save(2, {"x": 2}) and store.steps() == (2,)
    assert os.path.lexists(tmp_path / "2.damaged")


def test_a_step_that_lies_elsewhere_and_is_linked_stays(tmp_path):
    with Store(tmp_path / "run") as store:
        store.save(1, {"x": 1})
    (tmp_path / "run" / "1").rename(tmp_path / "1")
    (tmp_path / "run" / "1").symlink_to(tmp_path / "1")
    with Store(tmp_path / "run") as store:
        assert store.restore_latest({"x": 0}) == (1, {"x": 1})
        for step in (2, 3):
            store.save(step, {"x": step})
            store.annotate(step, {"AP": step / 10})
        assert store.steps() == (1, 3) and store.restore(1, {"x": 0}) == {"x": 1}


def test_a_damaged_step_is_set_aside_beside_whatever_has_the_name(tmp_path):
    (tmp_path / "2").mkdir()
    (tmp_path / "2.damaged").symlink_to("nowhere")
    with Store(tmp_path) as store:
        assert store.save(2, {"x": 1})
        assert store.restore_latest({"x": 0}) == (2, {"x": 1})
    assert (tmp_path / "2.damaged1").is_dir()


def test_steps_that_have_changed_places_are_passed_over(tmp_path):
    states = {step: random_arrays(step) for step in (1, 2, 3)}
    with Store(tmp_path, keep_last=3) as store:
        for step, state in states.items():
            store.save(step, state)
    (tmp_path / "2").rename(tmp_path / "beside")
    (tmp_path / "3").rename(tmp_path / "2")
    (tmp_path / "beside").rename(tmp_path / "3")
    with Store(tmp_path) as store, pytest.warns(UserWarning, match=r"[23] holds what was saved as step [32]"):
        step, state = store.restore_latest(states[1])
    assert step == 1
    assert_same(state, states[1])


def test_a_record_that_does_not_say_its_step_is_read(tmp_path):
    with Store(tmp_path) as store:
        store.save(1, {"x": 5})
    record = read_record(tmp_path, 1)
    assert record.step == 1
    content = record.to_json()
    del content["record"]["step"]
    content["crc32"] = zlib.crc32(json.dumps(content["record"], sort_keys=True).encode())
    (tmp_path / "1" / RECORD).write_text(json.dumps(content))
    with Store(tmp_path) as store:
        assert store.restore_latest({"x": 0}) == (1, {"x": 5})


@pytest.mark.parametrize("found", [np.zeros((3, 2), np.float32), np.zeros((2, 3), np.int32), np.zeros(6, np.float32)])
def test_the_same_bytes_in_another_shape_are_not_what_was_saved(found):
    wanted = np.zeros((2, 3), np.float32)
    for crc32 in (checksums([wanted])[0], None):
        entries = {"a": Entry((2, 3), "float32", crc32), "b": Entry((2, 3), "float32", crc32)}
        assert altered({"a": wanted, "b": found}, entries) == ["b"]


def test_an_earlier_step_goes_only_when_the_next_one_is_on_the_disk(tmp_path, monkeypatch):
    flushed = []

    def noted(folder):
        there = {path.name for path in folder.rglob("*") if path.is_file()}
        flushed.append(((tmp_path / "1").is_dir(), {"record.json", "manifest.ocdbt", "_METADATA"} <= there))
        flush_files(folder)

    monkeypatch.setattr("vitjax.checkpoints.damage.flush_files", noted)
    with Store(tmp_path, keep_last=1, keep_best=0) as store:
        store.save(1, random_arrays(1))
        store.save(2, random_arrays(2))
        assert store.steps() == (2,)
    assert flushed == [(False, True), (True, True)]


def test_an_incomplete_step_is_not_listed(tmp_path):
    with Store(tmp_path) as store:
        store.save(1, {"x": 1})
        store.wait()
        (tmp_path / "2").mkdir()
        (tmp_path / "3.orbax-checkpoint-tmp").mkdir()
        (tmp_path / "notes").mkdir()
        assert store.latest_step() == 1


def test_when_all_steps_are_damaged_the_error_says_so(tmp_path):
    with Store(tmp_path) as store:
        store.save(1, random_arrays())
        store.wait()
        data_file(tmp_path, 1).unlink()
        with pytest.warns(UserWarning, match="step 1"), pytest.raises(CheckpointError, match=r"all .* damaged: \[1\]"):
            store.restore_latest(random_arrays())


def test_a_state_that_does_not_fit_is_not_passed_over(tmp_path):
    with Store(tmp_path, keep_last=2) as store:
        store.save(1, {"x": np.zeros(2)})
        store.save(2, {"x": np.zeros(3)})
        with pytest.raises(CheckpointError, match=r"float64\[3\] in the checkpoint, float64\[2\] wanted"):
            store.restore_latest({"x": np.zeros(2)})


def test_what_a_killed_run_left_half_written_is_cleared_away(tmp_path):
    left = tmp_path / "7.orbax-checkpoint-tmp"
    left.mkdir()
    (left / "part").write_text("half")
    with Store(tmp_path) as store:
        assert store.steps() == ()
        assert left.exists()
        store.save(8, {"x": 1})
    assert not left.exists()


def test_a_write_that_fails_is_reported_and_leaves_the_earlier_step(tmp_path, monkeypatch):
    async def fail(*_):
        raise OSError("no space left on device")

    state = random_arrays()
    with Store(tmp_path, keep_last=1, keep_best=0) as store:
        store.save(1, state)
        store.wait()
        with monkeypatch.context() as broken:
            broken.setattr(ocp.JsonCheckpointHandler, "_save_fn", fail)
            store.save(2, state)
            with pytest.raises(CheckpointError, match=r"cannot be written to .*: no space left"):
                store.wait()
        assert store.steps() == (1,)
        assert_same(store.restore(1, state), state)
        assert store.save(2, state)
        assert store.steps() == (2,)


def test_a_write_that_fails_is_reported_at_the_latest_by_close(tmp_path, monkeypatch):
    async def fail(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr(ocp.JsonCheckpointHandler, "_save_fn", fail)
    with pytest.raises(CheckpointError, match="no space left"), Store(tmp_path) as store:
        store.save(1, random_arrays())


def test_the_block_waits_for_the_write_also_when_it_raises(tmp_path):
    with pytest.raises(KeyError), Store(tmp_path) as store:
        store.save(1, random_arrays())
        raise KeyError
    with Store(tmp_path) as store:
        assert_same(store.restore(1, random_arrays()), random_arrays())


@pytest.mark.parametrize(
    "state, notes, message",
    [({"a": {"b": "text"}}, {}, "a/b is a str"), ({"a": 1}, {"x": object()}, "not JSON serializable")],
    ids=["leaf", "notes"],
)
def test_what_cannot_be_saved_is_refused_by_name(tmp_path, state, notes, message):
    with Store(tmp_path) as store:
        with pytest.raises(CheckpointError, match=message):
            store.save(1, state, notes=notes)
        assert store.steps() == ()


@pytest.mark.parametrize("wrong", [{"keep_last": 0}, {"keep_best": -1}], ids=str)
def test_wrong_settings_are_refused(tmp_path, wrong):
    with pytest.raises(ValueError, match="keep_last"):
        Store(tmp_path, **wrong)


def test_a_remote_folder_is_refused():
    with pytest.raises(ValueError, match="local or mounted"):
        Store("gs://bucket/run")


@pytest.mark.parametrize(
    "lack",
    [MemoryError(), OSError(errno.EMFILE, "Too many open files"), ValueError("Error: Cannot allocate memory")],
    ids=["memory", "files", "told by TensorStore"],
)
def test_a_step_that_cannot_be_read_for_lack_of_something_is_not_passed_over(tmp_path, lack, monkeypatch):
    def restore(*_, **__):
        raise RuntimeError("reading failed") from lack

    with Store(tmp_path) as store:
        store.save(1, small_state(1.0))
        store.save(2, small_state(2.0))
        with monkeypatch.context() as without:
            without.setattr(ocp.Checkpointer, "restore", restore)
            with pytest.raises(CheckpointError, match=r"2 cannot be read now, .*: reading failed") as told:
                store.restore_latest(small_state(0.0))
        assert not isinstance(told.value, CorruptCheckpoint)
        assert store.restore_latest(small_state(0.0))[0] == 2


def test_only_errors_speak(tmp_path, capfd, caplog):
    caplog.set_level("INFO")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with Store(tmp_path) as store:
            store.save(1, small_state(1.0))
            store.save(2, random_arrays())
            store.restore(2, random_arrays())
            data_file(tmp_path, 2).write_bytes(b"cut")
            with pytest.raises(CorruptCheckpoint, match=r"2 cannot be read: .*(first|second).* size 3$"):
                store.restore(2, random_arrays())
    assert capfd.readouterr() == ("", "")
    assert not caplog.records


def test_the_record_can_be_read_without_us(tmp_path):
    with Store(tmp_path) as store:
        store.save(1, {"params": {"w": np.zeros((2, 3), np.float32)}}, metrics={"AP": 0.5})
    content = json.loads(Path(tmp_path, "1", "record", "record.json").read_text())["record"]
    assert content["metrics"] == {"AP": 0.5}
    assert content["entries"]["params/w"]["shape"] == [2, 3]
