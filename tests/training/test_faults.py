"""What goes wrong on the way: steps that are not finite, images that cannot be read, and disks that are full."""

import json
import resource

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from inference.test_sweep import Coloured

from vitjax.checkpoints.store import NoRoom, Store
from vitjax.placement import data_mesh, place_batch, place_state
from vitjax.runs.optimizer import AdamW
from vitjax.structs import Batch, Mean, Targets
from vitjax.tasks.objective import Evaluated, Objective
from vitjax.training.company import Company
from vitjax.training.faults import (
    TooManyUnreadable,
    note_unanswered,
    note_unreadable,
    summary,
    unreadable_records,
    watched,
)
from vitjax.training.outcome import Outcome
from vitjax.training.report import MetricsLog, read_metrics
from vitjax.training.state import initial_state
from vitjax.training.steps import make_train_step
from vitjax.training.watch import NonFiniteLoss, Watch

SOURCE = Coloured(records=6, broken=(2, 4))


def batch_of(scale, records=(0, 1), broken=(-1, -1)):
    """Two rows whose boxes are the numbers of a problem."""
    boxes = np.full((2, 1, 4), scale, np.float32)
    targets = Targets(boxes, np.zeros((2, 1), np.int32), np.ones((2, 1), bool))
    sizes = np.full((2, 2), 8, np.int32)
    numbers = [np.array(each, np.int32) for each in (records, broken)]
    return Batch(np.zeros((2, 8, 8, 3), np.uint8), sizes, targets, numbers[0], sizes, numbers[1])


def evaluate(variables, batch, key):
    wide = batch.targets.boxes @ variables["params"]["kernel"] + variables["batch_stats"]["mean"]
    changed = {"batch_stats": {"mean": 0.9 * variables["batch_stats"]["mean"] + wide.mean()}}
    return Evaluated({"box": Mean(jnp.sum(wide**2)[None], jnp.float32(8.0)[None])}, changed)


@pytest.fixture(scope="module")
def stepped():
    """The states after steps on batches of these scales, as steps are left out and as they are not."""
    optimizer, mesh = AdamW(learning_rate=1e-2, clip_norm=None), data_mesh(jax.devices()[:1])
    variables = {"params": {"kernel": jnp.arange(4.0)[:, None]}, "batch_stats": {"mean": jnp.zeros(1)}}
    trainable, _ = optimizer.partition(variables["params"])
    transformation = optimizer.transformation(trainable, 10, 5)
    objective = Objective(evaluate, lambda answer, batch: {}, lambda terms: terms["box"].value[-1])
    makers = {
        skips: make_train_step(objective, optimizer, transformation, mesh, average=0.9, skips=skips)
        for skips in (False, True)
    }

    def step(scales, skips, parts=1):
        fresh = jax.tree.map(jnp.copy, variables)
        state = place_state(initial_state(fresh, optimizer, transformation, 0, average=True), mesh)
        for scale in scales:
            state, metrics = makers[skips](state, [place_batch(batch_of(scale), mesh)] * parts)
        return jax.device_get(jax.tree.map(lambda leaf: leaf, (state.trainable, state.optimizer, state.average))), (
            jax.device_get(state.constants),
            int(state.step),
            metrics,
        )

    return step


@pytest.mark.parametrize("parts", [1, 2])
def test_where_all_is_finite_leaving_out_steps_changes_no_bit(stepped, parts):
    one, other = (stepped([1.0, 2.0, 3.0], skips, parts) for skips in (False, True))
    assert jax.tree.all(jax.tree.map(lambda a, b: a.tobytes() == b.tobytes(), one[0], other[0]))
    assert one[1][0]["batch_stats"]["mean"].tobytes() == other[1][0]["batch_stats"]["mean"].tobytes()


@pytest.mark.parametrize("parts", [1, 2])
def test_a_step_that_is_left_out_changes_nothing_but_the_number_of_the_step(stepped, parts):
    before, after = stepped([1.0], True, parts), stepped([1.0, np.nan], True, parts)
    assert jax.tree.all(jax.tree.map(np.array_equal, before[0], after[0]))
    assert jax.tree.all(jax.tree.map(np.array_equal, before[1][0], after[1][0]))
    assert after[1][1] == before[1][1] + 1 and not np.isfinite(after[1][2]["loss"])
    assert not jax.tree.all(jax.tree.map(np.array_equal, after[0], stepped([1.0, 2.0], True, parts)[0]))


def test_so_many_steps_in_a_row_are_passed_over_and_are_in_no_mean():
    told = []
    watch = Watch(SOURCE, skips=2, explained=lambda faulty: told.append(faulty) or "see there")
    good, bad = {"loss": 1.0, "class_error": np.nan}, {"loss": np.nan}
    for step, metrics in enumerate([bad, bad, good, bad, bad, good], start=1):
        watch.add(step, [batch_of(1.0)], metrics)
    assert watch.averages()["loss"] == 1.0 and [faulty.step for faulty in told] == [1, 2, 4, 5]
    assert told[0].image_ids == [SOURCE.image_ids[0], SOURCE.image_ids[1]]
    for step in (7, 8, 9):
        watch.add(step, [batch_of(1.0)], bad)
    with pytest.raises(NonFiniteLoss, match=r"^step 9 is not finite in loss; image ids .* see there$"):
        watch.settle()


class Root(nn.Module):
    @nn.compact
    def __call__(self, x):
        return jnp.sqrt(x - 2.0)  # of what is below 2 none


class Chain(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.Dense(3, name="first")(x)
        masked = jnp.where(x > 0, x, -jnp.inf)
        x = Root(name="root")(nn.softmax(masked))
        return nn.remat(nn.Dense)(1, name="last")(x)


def test_the_first_module_that_is_not_finite_is_named_and_a_gradient_that_is_not():
    x = jnp.ones((2, 3))
    params = Chain().init(jax.random.key(0), x)
    module, gradients = watched(lambda params, x: Chain().apply(params, x).sum(), params, x)
    assert module == "root" and not np.isfinite(gradients["params"]["first"]["kernel"]).all()
    fine, gradients = watched(lambda params: jnp.sqrt(jnp.abs(params)).sum(), jnp.zeros(2))
    assert fine is None and not np.isfinite(gradients).any()


def test_an_image_that_cannot_be_read_is_told_once_over_all_starts_and_too_many_end_the_run(tmp_path, capsys):
    def note(step, records, missing):
        note_unreadable(tmp_path, SOURCE, records, step, missing=missing, share=0.1)

    def noting(step, records, known):
        watch = Watch(SOURCE, unreadable=note)
        watch.broken |= known
        watch.missing(step, Company().broken([batch_of(1.0, broken=records)]))

    noting(3, (2, -1), set())
    name = SOURCE.name(2)
    assert capsys.readouterr().err.startswith(f"warning: {name} cannot be read, and another image takes its place: ")
    assert unreadable_records(tmp_path, SOURCE) == {2} and summary(tmp_path) == {"unreadable_training_images": 1}
    noting(5, (2, 2), unreadable_records(tmp_path, SOURCE))
    assert capsys.readouterr().err == ""
    with pytest.raises(
        TooManyUnreadable, match=r"^2 of 6 training images .* max_unreadable 0\.1 allows 1; .*unreadable"
    ):
        noting(6, (4, -1), unreadable_records(tmp_path, SOURCE))
    assert [json.loads(line)["step"] for line in (tmp_path / "unreadable.jsonl").read_text().splitlines()] == [3, 6]
    for _ in range(2):
        note_unanswered(tmp_path, [SOURCE.name(2)], 7)  # of another split
    assert capsys.readouterr().err.count(f"warning: {name} cannot be read in the evaluation") == 1
    assert summary(tmp_path) == {"unreadable_training_images": 2, "unreadable_evaluation_images": 1}


@pytest.fixture
def smallest_files():
    """Sets the most bytes that a file may have, as a disk that is full does; Python has its signal ignored."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_metrics_and_events_that_cannot_be_written_are_told_once_and_lines_come_later(tmp_path, smallest_files, capsys):
    with MetricsLog(tmp_path) as log:
        log.write(1, "train", {"loss": 1.0})
        smallest_files(300)
        for step in range(2, 9):
            log.write(step, "train", {"loss": float(step)})
        log.image(8, "x", np.zeros((64, 64, 3), np.uint8))
        assert set(log.unwritten) == {str(tmp_path / name) for name in ("metrics.jsonl", "tensorboard")}
        assert [entry["step"] for entry in read_metrics(tmp_path)] == list(range(1, 7))
        smallest_files(resource.RLIM_INFINITY)
        log.write(9, "train", {"loss": 9.0})
        assert set(log.unwritten) == {str(tmp_path / "tensorboard")}
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 2 and all("cannot be written: File too large; " in line for line in errors)
    assert [entry["step"] for entry in read_metrics(tmp_path)] == list(range(1, 10))


def test_a_checkpoint_that_has_no_room_leaves_the_one_before_and_no_rest(tmp_path, smallest_files, capfd):
    with Store(tmp_path) as store:
        store.save(1, {"kernel": np.arange(10_000.0)})
        store.wait()
        smallest_files(2_000)
        with pytest.raises(NoRoom, match=r"^a checkpoint cannot be written to .*: File too large$") as caught:
            store.save(2, {"kernel": np.arange(10_000.0)})
            store.wait()
        smallest_files(resource.RLIM_INFINITY)
        assert caught.value.exit_code == 74 and [path.name for path in tmp_path.iterdir()] == ["1"]
        store.save(3, {"kernel": np.arange(10_000.0)})
        assert store.latest_step() == 3
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.parametrize(
    ("fields", "code"),
    [({}, 0), ({"stopped_by": 2}, 130), ({"stopped_by": 15}, 143), ({"unwritten": ("report",)}, 74)],
)
def test_the_exit_code_tells_how_a_run_ended(fields, code):
    assert Outcome(4, 4, {}, {}, **fields).exit_code == code
