"""Steps of a classifier: erasing and mixing inside them, micro-batches, averaged parameters, statistics."""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType

from vitjax.classification.erasing import Erasing
from vitjax.classification.loss import CrossEntropy
from vitjax.classification.mixing import Mixing
from vitjax.classification.postprocess import TopClasses
from vitjax.data.crops import CenterCrop
from vitjax.inference.sweep import make_predict_step
from vitjax.placement import data_mesh, place_batch, place_state
from vitjax.runs.optimizer import AdamW
from vitjax.structs import Batch, Images, Targets
from vitjax.tasks.classification import ImageClassifier, class_targets_of, classification_objective
from vitjax.tasks.objective import STATISTICS
from vitjax.training.state import initial_state, variables_of
from vitjax.training.steps import divided_rows, make_train_step

OPTIMIZER = AdamW(learning_rate=1e-2, eps=1e-3, clip_norm=1.0)
OFF = (Mixing(probability=0.0), Erasing(probability=0.0))


class Quarters(nn.Module):
    """A linear classifier of the four quarters' colours that counts its training batches."""

    num_classes: int = 3

    @nn.compact
    def __call__(self, images, *, train):
        seen = self.variable(STATISTICS, "seen", jnp.zeros, ())
        if train and not self.is_initializing():
            seen.value += 1
        x = jax.image.resize(images.pixels, (len(images.pixels), 2, 2, 3), "linear").reshape(-1, 12)
        return nn.Dense(self.num_classes)(x)


MODEL = Quarters()


def batch_of(images=8):
    generator = np.random.default_rng(0)
    sizes = np.full((images, 2), 16, np.int32)
    targets = Targets(
        boxes=np.tile(np.array([0.5, 0.5, 1, 1], np.float32), (images, 1, 1)),
        labels=generator.integers(0, 3, (images, 1)).astype(np.int32),
        valid=np.ones((images, 1), bool),
    )
    pixels = generator.integers(0, 256, (images, 16, 16, 3)).astype(np.uint8)
    records = np.arange(images, dtype=np.int32)
    return Batch(pixels, sizes, targets, records, sizes, np.full(images, -1, np.int32))


@functools.cache
def variables():
    images = Images(jnp.zeros((1, 16, 16, 3)), jnp.ones((1, 16, 16), bool))
    return jax.jit(functools.partial(MODEL.init, train=False))(jax.random.key(0), images)


@functools.cache
def step_of(devices, mixing, erasing, average):
    """Compiled once for all tests, with the mesh and the transformation that it is for."""
    alone = jax.make_mesh((1,), ("data",), axis_types=(AxisType.Auto,), devices=jax.devices()[:1])
    mesh = data_mesh() if devices == 2 else alone
    transformation = OPTIMIZER.transformation(variables()["params"], total_steps=10, steps_per_epoch=5)
    objective = classification_objective(MODEL, CrossEntropy(), mixing, erasing)
    return make_train_step(objective, OPTIMIZER, transformation, mesh, average=average), mesh, transformation


def trained(*, devices=1, steps=1, mixing=OFF[0], erasing=OFF[1], micro_batches=1, average=None):
    """The state after some steps on one batch, and the metrics of the last."""
    step, mesh, transformation = step_of(devices, mixing, erasing, average)
    first = jax.tree.map(jnp.array, variables())
    state = place_state(initial_state(first, OPTIMIZER, transformation, 0, average=average is not None), mesh)
    for _ in range(steps):
        state, metrics = step(state, [place_batch(part, mesh) for part in divided_rows(batch_of(), micro_batches)])
    return state, {name: float(value) for name, value in metrics.items()}


def assert_close(one, other):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), one, other)


def test_erased_and_mixed_images_are_the_same_on_one_device_and_on_two():
    (one, metrics), (two, others) = (
        trained(devices=devices, mixing=Mixing(), erasing=Erasing(probability=1.0)) for devices in (1, 2)
    )
    assert metrics == pytest.approx(others, rel=1e-5)
    assert_close(one.trainable, two.trainable)
    plain, _ = trained()
    assert np.abs(plain.trainable["Dense_0"]["kernel"] - one.trainable["Dense_0"]["kernel"]).max() > 1e-4


@pytest.mark.parametrize("devices", [1, 2])
def test_micro_batches_change_nothing_but_the_memory(devices):
    (whole, metrics), (parts, others) = trained(), trained(devices=devices, micro_batches=4)
    assert metrics == pytest.approx(others, rel=1e-5)
    assert_close(whole.trainable, parts.trainable)


def test_statistics_are_carried_from_step_to_step_and_from_part_to_part():
    assert trained(steps=2)[0].constants[STATISTICS]["seen"] == 2
    assert trained(steps=2, micro_batches=2)[0].constants[STATISTICS]["seen"] == 4


def test_the_average_follows_the_parameters_and_is_what_predicts():
    kernel = variables()["params"]["Dense_0"]["kernel"]
    path = [trained(steps=steps)[0].trainable["Dense_0"]["kernel"] for steps in (1, 2)]
    wanted = kernel
    for step, new in enumerate(path):
        keep = min(0.15, (1 + step) / (10 + step))
        wanted = keep * wanted + (1 - keep) * new
    state, _ = trained(steps=2, average=0.15)
    np.testing.assert_allclose(state.average["Dense_0"]["kernel"], wanted, rtol=1e-5)
    np.testing.assert_array_equal(state.trainable["Dense_0"]["kernel"], path[-1])
    assert variables_of(state, OPTIMIZER)["params"]["Dense_0"]["kernel"] is state.average["Dense_0"]["kernel"]


def test_an_image_without_a_label_does_not_count():
    batch = jax.tree.map(jnp.asarray, batch_of())
    targets = dataclasses.replace(batch.targets, valid=batch.targets.valid.at[3].set(False))
    batch = dataclasses.replace(batch, targets=targets)
    targets = class_targets_of(batch, 3)
    assert targets.valid.tolist() == [True] * 3 + [False] + [True] * 4
    assert (targets.probabilities.argmax(-1) == batch.targets.labels[:, 0]).all()


def test_ranks_are_the_best_classes_with_their_probabilities():
    batch = jax.tree.map(jnp.asarray, batch_of())
    ranking, terms = make_predict_step(ImageClassifier(MODEL, CenterCrop(), TopClasses(2)))(variables(), batch)
    assert terms == {}
    assert ranking.labels.shape == (8, 2) and (ranking.scores[:, 0] >= ranking.scores[:, 1]).all()
    assert ((ranking.scores.sum(1) > 0.5) & (ranking.scores.sum(1) <= 1)).all()
