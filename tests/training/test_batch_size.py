import types

import jax
import jax.numpy as jnp
import pytest

from vitjax.data.digits import Digits
from vitjax.data.transforms import Augmentation
from vitjax.errors import FieldError
from vitjax.tasks.detection import Detection
from vitjax.training import batch_size
from vitjax.training.batch_size import filling_memory, largest_fitting

SIZES = [2 << power for power in range(8)]


@pytest.mark.parametrize("first", [1, 2, 16, 1000])
@pytest.mark.parametrize(("fixed", "each", "room"), [(0, 1, 300), (50, 1, 67), (900, 3, 1000), (10, 5, 100), (1, 1, 3)])
def test_the_largest_size_that_fits_is_found_with_few_questions(first, fixed, each, room):
    asked = []
    found = largest_fitting(SIZES, first, lambda size: asked.append(size) or fixed + each * size, room)
    wanted = max(size for size in SIZES if fixed + each * size <= room)
    assert found[1] == fixed + each * found[0] <= room
    assert wanted / 2 <= found[0] <= wanted or fixed > room / 2  # never too much; the bound may be careful
    assert len(set(asked)) == len(asked) <= 9


def test_where_nothing_fits_it_is_said():
    with pytest.raises(FieldError, match=r"2 images a step take 2\.00 GiB, and 1\.00 GiB may be used"):
        largest_fitting(SIZES, 16, lambda size: size * 2**30, 2**30)


@pytest.fixture
def machine(monkeypatch):
    """A run whose step only gives the sines of pixels, on a machine of so many bytes."""
    prepared = []

    def prepare(experiment, sources=None):
        source = sources[0] if sources else experiment.data.open("train")
        step = jax.jit(lambda state, parts: [jnp.sin(part.pixels.astype(jnp.float32)) for part in parts])
        lowered = lambda state, parts: [step.lower(state, parts)]  # noqa: E731
        run = types.SimpleNamespace(experiment=experiment, train_source=source, evaluation_source=None, shapes=1.0)
        run.plan, run.train_step = experiment.plan(source), types.SimpleNamespace(lowered=lowered)
        run.max_objects = source.max_objects
        prepared.append(run)
        return run

    monkeypatch.setattr(batch_size, "prepare", prepare)
    return lambda room: monkeypatch.setattr(batch_size, "_room", lambda: (room, "of a test")) or prepared


EXPERIMENT = Detection(
    data=Digits(train_images=300), augmentation=Augmentation(sizes=(64,), max_side=64), batch_size=4, micro_batches=1
)


@pytest.mark.parametrize(("room", "reason"), [(2**40, "fewer than 16 steps"), (2_000_000, "twice as many do not")])
def test_a_new_run_takes_the_largest_that_fits_and_leaves_enough_steps(machine, room, reason, tmp_path, capsys):
    prepared = machine(room)
    run = filling_memory(EXPERIMENT, tmp_path)
    said = capsys.readouterr().out
    size = run.experiment.batch_size
    assert f"batch_size {size}: a step on images of 96 x 96 takes " in said and reason in said
    assert (size == 16) == (room == 2**40) and size % jax.device_count() == 0
    assert "learning rate 0.0001; the recipe has 4 images a step" in said
    assert run.train_source is prepared[0].train_source  # opened once


def test_a_run_that_goes_on_keeps_what_it_had(machine, tmp_path, monkeypatch, capsys):
    machine(2**40)
    stored = types.SimpleNamespace(experiment={"batch_size": 6})
    for name, answer in {"is_run": True, "steps_in": [3], "read_stored": stored}.items():
        monkeypatch.setattr(batch_size, name, lambda *_, answer=answer: answer)
    assert filling_memory(EXPERIMENT, tmp_path).experiment.batch_size == 6
    assert capsys.readouterr().out == f"batch_size 6, as {tmp_path} has it\n"


def test_room_is_that_of_the_machine():
    room, where = batch_size._room()
    assert 0 < room < 2**44 and "host" in where
