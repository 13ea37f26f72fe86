"""Sizes that come later are compiled while steps are made, once each, and are the programs that the steps call."""

import types
from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vitjax.batch import Batch, Targets
from vitjax.placement import data_mesh, place_batch, place_state
from vitjax.runs.optimizer import AdamW
from vitjax.structs import Mean
from vitjax.tasks.objective import Evaluated, Objective
from vitjax.training import sizes
from vitjax.training.company import Company
from vitjax.training.sizes import Sizes
from vitjax.training.state import initial_state
from vitjax.training.steps import divided_rows, make_train_step

LADDER = [(32, 32), (32, 64), (64, 64)]
ORDER = [0, 0, 2, 1, 0, 2]


def batch_of(size):
    """Four images of a (height, width) with places for two objects."""
    targets = Targets(np.zeros((4, 2, 4), np.float32), np.zeros((4, 2), np.int32), np.zeros((4, 2), bool))
    numbers = [np.zeros((4, 2), np.int32), np.zeros(4, np.int32), np.zeros((4, 2), np.int32), np.zeros(4, np.int32)]
    return Batch(np.ones((4, *size, 3), np.uint8), numbers[0], targets, *numbers[1:])


@pytest.fixture
def run():
    """A run of six steps of three sizes, whose model is one number."""

    def evaluate(variables, batch, key):
        scaled = variables["params"]["scale"] * batch.pixels.astype(jnp.float32).mean((1, 2, 3))
        return Evaluated({"mean": Mean(scaled.sum()[None], jnp.float32(len(scaled))[None])}, {})

    mesh, optimizer, variables = data_mesh(), AdamW(), {"params": {"scale": jnp.ones(())}}
    transformation = optimizer.transformation(variables["params"], total_steps=10, steps_per_epoch=3)
    objective = Objective(evaluate, lambda answer, batch: {}, lambda terms: terms["mean"].value.sum())
    state = place_state(initial_state(variables, optimizer, transformation, seed=0), mesh)
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding), state)

    class Plan:
        parts, buckets, steps_per_epoch = 1, LADDER, 3

        def __call__(self, part):
            return types.SimpleNamespace(bucket=LADDER[ORDER[part]])

    step = make_train_step(objective, optimizer, transformation, mesh)
    return types.SimpleNamespace(train_step=step, plan=Plan(), mesh=mesh, shapes=shapes, total_steps=6, state=state)


@pytest.fixture
def joined(monkeypatch):
    """The work that is done beside, which a test lets run where it wants to."""
    works = []
    monkeypatch.setattr(sizes, "beside", works.append)
    return works


@pytest.mark.parametrize("parts", [1, 2])
def test_what_is_compiled_ahead_is_told_in_the_plans_order_and_called(run, joined, parts):
    compiled, told = Counter(), []

    def listen(event, *_, fun_name="", **__):
        compiled[fun_name] += "backend_compile" in event

    jax.monitoring.register_event_duration_secs_listener(listen)
    own, state = Sizes(run, told.append, Company().compile), run.state
    for step, rung in enumerate(ORDER):
        placed = [place_batch(part, run.mesh) for part in divided_rows(batch_of(LADDER[rung]), parts)]
        assert own.are_new(placed) == (step in (0, 2, 3))
        if own.are_new(placed):
            own.compile(state, placed, step)
        if step == 0:
            joined.pop()()
            before = compiled["jit(whole)"], compiled["jit(add)"]
        state, _ = run.train_step(state, placed)
    ahead = ["compiling 2 of 3 sizes ahead, 64 x 64", "compiling 3 of 3 sizes ahead, 32 x 64"]
    assert told == ["compiling 1 of 3 sizes", *ahead]
    assert not joined and sum(before) and (compiled["jit(whole)"], compiled["jit(add)"]) == before


def test_the_loop_compiles_itself_what_the_thread_has_not_begun_or_could_not(run, joined):
    told = []
    own = Sizes(run, told.append, Company().compile)
    own.compile(run.state, [place_batch(batch_of(LADDER[0]), run.mesh)], 0)
    run.train_step = types.SimpleNamespace(lowered=lambda *_: 1 / 0)
    joined.pop()()  # ends at the error, and leaves nobody waiting
    assert told[-1] == "compiling 2 of 3 sizes ahead, 64 x 64"
    lowered = []
    run.train_step = types.SimpleNamespace(lowered=lambda state, parts: lowered.append(parts) or [])
    for rung in (2, 1):
        own.compile(run.state, [place_batch(batch_of(LADDER[rung]), run.mesh)], 2)
    assert len(lowered) == 2 and told[-1] == "compiling 3 of 3 sizes"


def test_after_the_end_nothing_more_is_begun(run, joined):
    told = []
    own = Sizes(run, told.append, Company().compile)
    own.compile(run.state, [place_batch(batch_of(LADDER[0]), run.mesh)], 0)
    own.close()
    joined.pop()()
    assert len(told) == 1


def test_one_size_needs_no_thread(run, joined):
    run.plan.buckets = LADDER[:1]
    Sizes(run, print, Company().compile).compile(run.state, [place_batch(batch_of(LADDER[0]), run.mesh)], 0)
    assert not joined
