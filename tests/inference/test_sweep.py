"""A task over a source: every record once, the broken ones too, in batches that the devices can share."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from vitjax.classification.postprocess import TopClasses
from vitjax.data.crops import CenterCrop
from vitjax.data.errors import DataError
from vitjax.data.loader import batches
from vitjax.data.source import Classes, Sample
from vitjax.inference.sweep import Sweep, make_predict_step
from vitjax.placement import data_mesh
from vitjax.tasks.classification import ImageClassifier

COLOURS = Classes(("red", "green", "blue"), (0, 1, 2))
BROKEN = 0, 4


class Shade(nn.Module):
    """Takes an image for its colour."""

    def __call__(self, images, *, train):
        return images.pixels.mean((1, 2))


@dataclasses.dataclass
class Coloured:
    """Images of one colour each, with its label; some cannot be read."""

    classes: Classes = COLOURS
    records: int = 7
    broken: tuple[int, ...] = BROKEN
    max_objects: int = 1
    problems: tuple[str, ...] = ()

    @property
    def image_ids(self):
        return range(self.records)

    def __len__(self):
        return self.records

    def __getitem__(self, record):
        if record in self.broken:
            raise DataError("it cannot be read")
        image = np.zeros((8, 8, 3), np.uint8)
        image[..., record % 3] = 255
        return Sample(image, np.array([[0, 0, 8, 8]], np.float32), np.array([record % 3], np.int32))

    def name(self, record):
        return f"{record}.png"


@dataclasses.dataclass(frozen=True)
class Noting(ImageClassifier):
    """Notes the sizes of its batches, of which a device may take only so many images."""

    most: int | None = None
    noted: list[int] = dataclasses.field(default_factory=list)

    @property
    def images_per_device(self) -> Any:
        return self.most

    def plan(self, source, batch_size, *, multiple):
        self.noted.append(batch_size)
        return super().plan(source, batch_size, multiple=multiple)


PARTS = Shade(), CenterCrop(8, 8), TopClasses(1)


@pytest.mark.parametrize("batch_size", [2, 4, 16])
def test_every_record_is_answered_once_with_its_own_truth_and_without_a_prediction_where_it_is_broken(batch_size):
    answers = list(Sweep(ImageClassifier(*PARTS), data_mesh())({}, Coloured(), batch_size=batch_size))
    assert sorted(one.record for one in answers) == list(range(7))
    for one in answers:
        if one.record in BROKEN:
            assert one.prediction is None
        else:
            assert one.truth.tolist() == [one.record % 3] == one.prediction.labels.tolist()
            assert one.prediction.names == (COLOURS.names[one.record % 3],)


def test_nothing_is_answered_of_nothing():
    assert list(Sweep(ImageClassifier(*PARTS), data_mesh())({}, Coloured(records=0), batch_size=4)) == []


@pytest.mark.parametrize(
    ("batch_size", "most", "wanted"), [(1, None, 2), (3, None, 4), (4, None, 4), (8, 1, 2), (1, 9, 2)]
)
def test_a_batch_is_shared_among_the_devices_evenly_and_within_what_each_can_take(batch_size, most, wanted):
    assert jax.device_count() == 2
    task = Noting(*PARTS, most=most)
    assert len(list(Sweep(task, data_mesh())({}, Coloured(), batch_size=batch_size))) == 7
    assert task.noted == [wanted]


def test_a_model_is_asked_as_in_evaluation_with_the_variables_that_are_given():
    class Learned(nn.Module):
        @nn.compact
        def __call__(self, images, *, train):
            assert not train
            return jnp.broadcast_to(self.param("logits", nn.initializers.zeros, (3,)), (len(images.pixels), 3))

    sweep = Sweep(ImageClassifier(Learned(), *PARTS[1:]), data_mesh())
    for label in (2, 1):
        variables = {"params": {"logits": jax.nn.one_hot(label, 3)}}
        (answer,) = sweep(variables, Coloured(records=1, broken=()), batch_size=1)
        assert answer.prediction.labels.tolist() == [label]


@pytest.mark.parametrize("precision", [None, "default", "high", "highest"])
def test_matrix_products_have_the_precision_that_is_asked_for(precision):
    task = ImageClassifier(Dense(), *PARTS[1:])
    batch = next(batches(Coloured(broken=()), task.plan(Coloured(), 2, multiple=32), max_objects=1))
    with jax.default_matmul_precision("high"):
        said = str(jax.make_jaxpr(make_predict_step(task, precision))({"params": {"kernel": np.eye(3)}}, batch))
    wanted = {None: "HIGH", "default": "DEFAULT", "high": "HIGH", "highest": "HIGHEST"}[precision]
    assert f"Precision.{wanted}," in said or f"Precision.{wanted})" in said


class Dense(nn.Module):
    """A matrix product of the image's colour."""

    @nn.compact
    def __call__(self, images, *, train):
        return images.pixels.mean((1, 2)) @ self.param("kernel", nn.initializers.ones, (3, 3))
