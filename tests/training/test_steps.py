"""One step of a tiny DETR: on one device and on two, with a part of it frozen, and what it says about itself."""

import dataclasses
import functools
import re
from types import SimpleNamespace

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from quick import drawn

from vitjax.backbones.resnet import ResNet
from vitjax.data.transforms import Resize
from vitjax.detection.detr import DETR
from vitjax.detection.focal_loss import FocalSetLoss
from vitjax.detection.loss import Mean, SetLoss
from vitjax.detection.matcher import match
from vitjax.detection.postprocess import BestClass
from vitjax.inference.sweep import make_predict_step
from vitjax.ops.images import images_of
from vitjax.placement import (
    check_batch_size,
    data_mesh,
    matching_per_device,
    place_batch,
    place_state,
)
from vitjax.runs.optimizer import AdamW
from vitjax.structs import ANSWER, Batch, Images, Predictions, PredictionSet, Targets
from vitjax.tasks.detection import Detector, detection_objective
from vitjax.tasks.objective import Evaluated, Objective
from vitjax.training.state import initial_state
from vitjax.training.steps import divided_rows, make_train_step, metrics_of

MODEL = DETR(
    backbone=ResNet(depth=18, width=8, stage_blocks=(1, 1)),
    num_classes=3,
    num_queries=5,
    channels=16,
    heads=2,
    encoder_layers=1,
    decoder_layers=1,
    feed_forward=32,
    dropout=0.2,
)
STEADY = MODEL.clone(dropout=0.0)
# A large eps keeps the update smooth in the gradient: Adam would turn rounding of a zero gradient into a whole step.
OPTIMIZER = AdamW(learning_rate=1e-2, eps=1e-3, clip_norm=1.0, frozen=("^backbone/stem", "^backbone/stage_1/"))

LOSS = SetLoss()


def batch_of(seed=0):
    """Four images of unlike sizes; one has no objects, one as many as there are places."""
    generator = np.random.default_rng(seed)
    sizes = np.array([[32, 48], [20, 48], [32, 31], [25, 40]], np.int32)
    pixels = generator.integers(0, 256, (4, 32, 48, 3)).astype(np.uint8)
    targets = Targets(
        boxes=generator.uniform(0.2, 0.8, (4, 3, 4)).astype(np.float32),
        labels=generator.integers(0, 3, (4, 3)).astype(np.int32),
        valid=np.arange(3) < np.array([[2], [0], [3], [1]]),
    )
    records = np.arange(4, dtype=np.int32)
    return Batch(pixels, sizes, targets, records, original_sizes=2 * sizes, broken=np.full(4, -1, np.int32))


@functools.cache
def variables():
    images = Images(jnp.zeros((1, 32, 32, 3)), jnp.ones((1, 32, 32), bool))
    return drawn(jax.eval_shape(lambda: MODEL.init(jax.random.key(0), images, train=False)))


def state_of(optimizer=OPTIMIZER, step=0):
    trainable, _ = optimizer.partition(variables()["params"])
    transformation = optimizer.transformation(trainable, total_steps=10, steps_per_epoch=5)
    state = initial_state(jax.tree.map(jnp.array, variables()), optimizer, transformation, seed=0)
    return state.replace(step=jnp.int32(step)), transformation


def step_of(mesh, optimizer=OPTIMIZER, loss=LOSS, model=MODEL):
    """A step that has compiled nothing yet."""
    objective = detection_objective(model, loss, matching_per_device(functools.partial(match, loss.cost), mesh))
    return make_train_step(objective, optimizer, state_of(optimizer)[1], mesh)


def alone():
    """The mesh of one device."""
    return jax.make_mesh((1,), ("data",), axis_types=(AxisType.Auto,), devices=jax.devices()[:1])


@functools.cache
def steady(devices, no_object):
    """The step of the model without dropout, which two tests share, and its mesh."""
    mesh = alone() if devices == 1 else data_mesh()
    return step_of(mesh, loss=SetLoss(no_object=no_object), model=STEADY), mesh


@pytest.fixture(scope="module")
def train():
    """By number of devices: a fresh state and batch through one compiled step, and what comes out."""
    meshes = {1: alone(), 2: data_mesh()}
    steps = {count: step_of(mesh) for count, mesh in meshes.items()}

    def run(devices, *, step=0, seed=0):
        mesh = meshes[devices]
        state, metrics = steps[devices](place_state(state_of(step=step)[0], mesh), [place_batch(batch_of(seed), mesh)])
        return SimpleNamespace(state=state, metrics={name: float(value) for name, value in metrics.items()})

    run.steps, run.meshes = steps, meshes
    yield run


def test_a_step_asks_the_host_for_nothing_and_is_compiled_once_for_a_size(train):
    train(2)
    mesh, step = train.meshes[2], train.steps[2]
    state, batches = place_state(state_of()[0], mesh), [[place_batch(batch_of(seed), mesh)] for seed in range(3)]
    (program,) = step.lowered(state, batches[0])
    assert not re.search("callback|infeed|outfeed|SendToHost|RecvFromHost", program.as_text())
    compiled = []
    jax.monitoring.register_event_duration_secs_listener(lambda name, *_, **__: compiled.append(name))
    with jax.transfer_guard("disallow"):
        for batch in batches:
            state, _ = step(state, batch)
    assert not [name for name in compiled if "compile" in name]
    jax.jit(lambda x: x + 3)(1.0)  # which is told, so what is counted is what is compiled
    assert [name for name in compiled if "compile" in name]


def test_one_step_is_the_same_on_one_device_and_on_two(train):
    one, two = train(1), train(2)
    assert len(two.state.step.sharding.device_set) == 2
    assert one.metrics == pytest.approx(two.metrics, rel=1e-5)
    for field in ("step", "trainable", "frozen", "constants", "optimizer"):
        pairs = zip(jax.tree.leaves(getattr(one.state, field)), jax.tree.leaves(getattr(two.state, field)), strict=True)
        for a, b in pairs:
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-5)
    moved = jax.tree.map(lambda a, b: np.abs(a - b).max(), one.state.trainable, state_of()[0].trainable)
    assert max(jax.tree.leaves(moved)) > 1e-3


def test_matching_needs_no_exchange_between_devices():
    mesh, matching = data_mesh(), functools.partial(match, SetLoss().cost)
    shape = jax.ShapeDtypeStruct((1, 4, 5, 4), jnp.float32)
    predictions = Predictions({ANSWER: PredictionSet(shape, shape)})
    placement = (NamedSharding(mesh, PartitionSpec(None, "data")), NamedSharding(mesh, PartitionSpec("data")))

    def exchanges(matching):
        lowered = jax.jit(matching, in_shardings=placement).lower(predictions, batch_of().targets)
        return len(re.findall(r"all-reduce|all-gather|collective-permute|all-to-all", lowered.compile().as_text()))

    assert exchanges(matching_per_device(matching, mesh)) == 0 < exchanges(matching)


def test_frozen_parameters_and_statistics_are_untouched_and_have_no_optimizer_state(train):
    before, after = state_of()[0], train(1).state
    for field in ("frozen", "constants"):
        jax.tree.map(np.testing.assert_array_equal, getattr(after, field), getattr(before, field))
    assert set(before.frozen["backbone"]) == {"stem_conv", "stage_1"}
    assert set(before.trainable["backbone"]) == {"stage_2"} and set(before.frozen) == {"backbone"}
    moments = after.optimizer[1]
    assert jax.tree.structure(moments.mu) == jax.tree.structure(after.trainable)
    assert int(after.step) == 1 and int(moments.count) == 1
    changed = jax.tree.map(lambda a, b: not np.array_equal(a, b), after.trainable, before.trainable)
    assert all(jax.tree.leaves(changed))


def test_gradients_of_frozen_convolutions_are_not_computed():
    def convolutions(optimizer):
        step, (state, _) = step_of(alone(), optimizer), state_of(optimizer)
        program = jax.jit(step).lower(state, [jax.tree.map(jnp.asarray, batch_of())]).compile()
        return len(re.findall(r" convolution\S*\(", program.as_text()))

    # Five of the stem and two stages forward; back, the gradients of the last stage's two kernels and one between them.
    assert convolutions(AdamW()) > convolutions(OPTIMIZER) == 5 + 2 + 1


def test_dropout_is_drawn_by_step_and_again_alike_for_the_same_step(train):
    first, again, later = train(1), train(1), train(1, step=1)
    assert first.metrics == pytest.approx(again.metrics, rel=1e-6)
    assert abs(first.metrics["loss"] - later.metrics["loss"]) > 1e-3


def test_metrics_name_every_term_and_add_up_to_the_loss(train):
    metrics = train(1).metrics
    assert set(metrics) == {"class", "box", "giou", "class_error", "cardinality_error", "loss", "gradient_norm"}
    assert metrics["loss"] == pytest.approx(metrics["class"] + 5 * metrics["box"] + 2 * metrics["giou"], rel=1e-5)


def test_metrics_are_means_and_the_last_layer_has_the_plain_name():
    terms = {
        "box": Mean(jnp.array([6.0, 8.0, 10.0]), jnp.array([2.0, 2.0, 4.0])),
        "class_error": Mean(jnp.array([0.0, 50.0, 100.0]), jnp.ones(3)),
    }
    found = {name: float(value) for name, value in metrics_of(terms).items()}
    assert found == {"box": 2.5, "box_0": 3.0, "box_1": 4.0, "class_error": 100.0}


def numbers(metrics):
    return {name: float(value) for name, value in metrics.items()}


@pytest.mark.parametrize("no_object", [LOSS.no_object, 1.0])
@pytest.mark.parametrize("devices", [1, 2])
def test_a_step_in_parts_is_the_step_of_the_whole_however_its_objects_are_shared_out(no_object, devices):
    """The parts have 5 objects and 1, so that each by itself would divide by another number."""
    (step, mesh), batch = steady(devices, no_object), batch_of()
    parts = [place_batch(part, mesh) for part in divided_rows(batch, 2)]
    assert [int(part.targets.valid.sum()) for part in parts] == [5, 1]
    whole, metrics = step(place_state(state_of()[0], mesh), [place_batch(batch, mesh)])
    divided, others = step(place_state(state_of()[0], mesh), parts)
    assert numbers(metrics) == pytest.approx(numbers(others), rel=1e-4)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), whole.trainable, divided.trainable)


def test_parts_of_unlike_sizes_make_one_step():
    """The same images with more padding, which cannot be seen."""
    (step, mesh), batch = steady(1, LOSS.no_object), batch_of()
    first, second = divided_rows(batch, 2)
    padded = dataclasses.replace(second, pixels=np.pad(second.pixels, ((0, 0), (0, 16), (0, 32), (0, 0))))
    one, metrics = step(place_state(state_of()[0], mesh), [first, second])
    other, others = step(place_state(state_of()[0], mesh), [first, padded])
    assert numbers(metrics) == pytest.approx(numbers(others), rel=1e-3)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), one.trainable, other.trainable)


def test_nothing_of_the_model_is_computed_to_count_the_objects():
    objective = detection_objective(MODEL, LOSS, functools.partial(match, LOSS.cost))

    def count(variables, batch):
        terms = objective.evaluate(variables, batch, jax.random.key(0)).terms
        return {name: mean.count for name, mean in terms.items() if name in ("class", "box", "giou")}

    program = jax.jit(count).lower(variables(), jax.tree.map(jnp.asarray, batch_of())).compile().as_text()
    assert not re.findall(r"convolution|dot\(|while", program)


def test_the_loss_in_evaluation_does_not_count_rows_without_an_image():
    batch, images = batch_of(), 3
    filled = dataclasses.replace(batch, records=np.where(np.arange(4) < images, batch.records, -1))
    valid = filled.targets.valid & (filled.records >= 0)[:, None]
    filled = dataclasses.replace(filled, targets=dataclasses.replace(filled.targets, valid=valid))
    few = jax.tree.map(lambda x: x[:images], filled)
    answer = jax.jit(lambda batch: MODEL.apply(variables(), images_of(batch), train=False))
    answers = [(answer(each), each) for each in (filled, few)]
    for loss in (SetLoss(), FocalSetLoss()):
        validate = jax.jit(detection_objective(MODEL, loss, functools.partial(match, loss.cost)).validate)
        found, wanted = (validate(*each) for each in answers)
        for name in ("class", "box", "giou", "class_error"):
            np.testing.assert_allclose(found[name].value, wanted[name].value, rtol=1e-5)


def test_images_of_a_batch_are_valid_inside_their_sizes_and_zero_outside():
    images = images_of(jax.tree.map(jnp.asarray, batch_of()))
    assert images.valid.sum((1, 2)).tolist() == [32 * 48, 20 * 48, 32 * 31, 25 * 40]
    assert not np.asarray(images.pixels)[~np.asarray(images.valid)].any()


class Answer(nn.Module):
    """Two layers that answer alike for every image; only the last is to be believed."""

    @nn.compact
    def __call__(self, images, *, train):
        boxes = jnp.array([[0.5, 0.5, 0.5, 0.5], [0.5, 0.5, 1.0, 1.0]])[:, None, None]
        logits = jnp.array([[9.0, 0.0, 0.0], [0.0, 9.0, 0.0]])[:, None, None]
        batch = images.pixels.shape[0]
        answer = PredictionSet(*(jnp.broadcast_to(x, (2, batch, 1, x.shape[-1])) for x in (logits, boxes)))
        return Predictions({ANSWER: answer})


def test_predictions_are_those_of_the_last_layer_in_pixels_of_the_original_image():
    found, _ = make_predict_step(Detector(Answer(), Resize(), BestClass()))({}, jax.tree.map(jnp.asarray, batch_of()))
    heights, widths = 2 * batch_of().sizes.T
    np.testing.assert_allclose(found.boxes[:, 0], np.stack([0 * widths, 0 * heights, widths, heights], 1), atol=1e-4)
    assert (found.labels == 1).all()


def test_a_batch_that_cannot_be_divided_among_the_devices_is_refused():
    check_batch_size(4, data_mesh())
    with pytest.raises(ValueError, match="batch_size must be divisible by the 2 devices; got 3"):
        check_batch_size(3, data_mesh())


@pytest.mark.parametrize("parts", [1, 2])
def test_a_step_that_was_compiled_before_compiles_nothing_more_and_is_the_same(parts):
    """The model is a scale of the pixels."""
    seen, events = [], []
    jax.monitoring.register_event_duration_secs_listener(lambda event, *_, **__: events.append(event))

    def evaluate(variables, batch, key):
        seen.append(batch.pixels.shape)
        scaled = variables["params"]["scale"] * batch.pixels.astype(jnp.float32).mean((1, 2, 3))
        return Evaluated({"mean": Mean(scaled.sum()[None], jnp.float32(len(scaled))[None])}, {})

    mesh, params = alone(), {"scale": jnp.ones(())}
    objective = Objective(evaluate, lambda answer, batch: {}, lambda terms: terms["mean"].value.sum())
    transformation = OPTIMIZER.transformation(params, total_steps=10, steps_per_epoch=5)
    optimizer = AdamW()
    divided = [place_batch(part, mesh) for part in divided_rows(batch_of(), parts)]
    outcomes = []
    for ahead in (False, True):
        step = make_train_step(objective, optimizer, transformation, mesh)
        state = place_state(initial_state({"params": {"scale": jnp.ones(())}}, optimizer, transformation, seed=0), mesh)
        if ahead:
            for program in step.lowered(state, divided):
                program.compile()
            seen.clear()
            events.clear()
        outcomes.append(step(state, divided)[1]["loss"])
        assert bool(seen) != ahead
        assert any("backend_compile" in event for event in events) != ahead
    assert outcomes[0] == outcomes[1]
