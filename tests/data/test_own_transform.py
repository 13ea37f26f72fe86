"""A user's own transform: found by name, the same every time, and refused where it gives what cannot be."""

import random
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from painted import Few, painted

from vitjax.data.loader import batches
from vitjax.data.own_transform import found, transformed
from vitjax.data.plan import TrainPlan
from vitjax.data.source import Classes, Sample
from vitjax.data.transforms import Augmentation
from vitjax.errors import FieldError


def mirrored(sample, rng):
    if rng.random() < 0.5:
        return sample
    width = sample.image.shape[1]
    boxes = sample.boxes[:, [2, 1, 0, 3]] * [-1, 1, -1, 1] + [width, 0, width, 0]
    return Sample(np.ascontiguousarray(sample.image[:, ::-1]), boxes, sample.labels)


class Pipeline:
    """What an albumentations.Compose looks like; mirrors images, boxes in its format, and masks."""

    transforms = ()

    def __init__(self, form=None, label_fields=None):
        params = SimpleNamespace(params=SimpleNamespace(format=form, label_fields=label_fields))
        self.processors, self.seeds = {} if form is None else {"bboxes": params}, []
        self.form, self.label_fields = form, label_fields

    def set_random_seed(self, seed):
        self.seeds.append(seed)

    def __call__(self, image, bboxes=(), **others):
        width = image.shape[1]
        assert self.label_fields is None or set(self.label_fields) <= set(others)
        side = 1 if self.form in ("yolo", "albumentations") else width
        moved = []
        for first, top, second, bottom, *label in bboxes:
            corners = (side - first - second, second) if self.form == "coco" else (side - first, second)
            if self.form in ("pascal_voc", "albumentations"):
                corners = side - second, side - first
            moved.append((corners[0], top, corners[1], bottom, *label))
        if "mask" in others:
            others["mask"] = others["mask"][:, ::-1]
        return {"image": image[:, ::-1], "bboxes": moved, **others}


SAMPLE = painted((30, 40), (3, 4, 13, 24), 2, mapped=True)


def through(own, sample=SAMPLE, seed=0, classes=None):
    return transformed(sample, own, "mine", np.random.default_rng(seed), classes)


@pytest.fixture
def config():
    """A config that is loaded."""
    module = ModuleType("vitjax_config_mine")
    sys.modules[module.__name__] = module
    yield module
    del sys.modules[module.__name__]


@pytest.mark.parametrize("form", ["pascal_voc", "coco", "yolo", "albumentations"])
@pytest.mark.parametrize("label_fields", [None, ["labels"], ["kinds"]])
def test_a_pipeline_is_given_boxes_in_its_own_format(form, label_fields):
    pipeline = Pipeline(form, label_fields)
    after = through(pipeline)
    np.testing.assert_allclose(after.boxes, [[27, 4, 37, 24]], rtol=1e-6)
    assert after.labels.tolist() == [2] and np.array_equal(after.image, SAMPLE.image[:, ::-1])
    assert np.array_equal(after.label_map, SAMPLE.label_map[:, ::-1])
    nothing = Sample(SAMPLE.image, np.zeros((0, 4), np.float32), np.zeros(0, np.int32))
    assert through(pipeline, nothing).boxes.shape == (0, 4)
    through(pipeline, seed=1)
    assert pipeline.seeds[0] == pipeline.seeds[1] != pipeline.seeds[2]


def test_a_pipeline_that_knows_no_boxes_is_for_images_without():
    bare = Sample(SAMPLE.image, np.zeros((0, 4), np.float32), np.zeros(0, np.int32), SAMPLE.label_map)
    assert np.array_equal(through(Pipeline(), bare).label_map, SAMPLE.label_map[:, ::-1])
    with pytest.raises(FieldError, match=r"'mine': .* does not move boxes; .* bbox_params=BboxParams"):
        through(Pipeline())


@pytest.mark.parametrize("number", [lambda: np.random.randint(256), lambda: random.randrange(256)])
def test_what_it_draws_is_the_same_again_and_global_generators_go_on_as_before(number):
    def own(sample):
        return Sample(np.full_like(sample.image, number()), sample.boxes, sample.labels, sample.label_map)

    def numbers():
        random.seed(1)
        np.random.seed(1)
        return [number() for _ in range(6)]

    levels, before = [], numbers()
    random.seed(1)
    np.random.seed(1)
    for place, seed in enumerate((0, 0, 1)):
        levels.append(int(through(own, seed=seed).image[0, 0, 0]))
        assert number() == before[place]
    assert levels[0] == levels[1] != levels[2]


def test_it_may_draw_from_the_generator_that_it_is_given():
    ways = {through(mirrored, painted((30, 40), (3, 4, 13, 24)), seed).boxes[0, 0] for seed in range(9)}
    assert ways == {3.0, 27.0}


def test_batches_are_the_same_for_workers_and_after_a_restart(config):
    config.mirrored = mirrored
    source = Few(painted((30, 40 + record), (3, 4, 13, 24), record % 3) for record in range(6))
    augmentation = Augmentation(sizes=(), crop=0.0, flip=0.0, own="mirrored")
    whole = [
        batch.pixels for batch in batches(source, TrainPlan(source.sizes, 2, augmentation), max_objects=1, steps=4)
    ]
    del config.mirrored  # which a worker process does not have
    plan = TrainPlan(source.sizes, 2, Augmentation(sizes=(), crop=0.0, flip=0.0, own="test_own_transform.mirrored"))
    rest = batches(source, plan, max_objects=1, start_step=2, steps=2, workers=1)
    assert all(np.array_equal(one, other.pixels) for one, other in zip(whole[2:], rest, strict=True))


def test_names_are_found_in_configs_and_modules(config):
    config.turned, config.pipeline = mirrored, Pipeline("coco")
    assert (
        found("turned") is mirrored and found("pipeline") is config.pipeline and found("random.random") is random.random
    )


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere", "'nowhere': there is no such thing"),
        ("no_such_module.own", "No module named 'no_such_module'"),
        ("random.nowhere", "'random.nowhere': there is no such thing"),
        ("sys.path", "'sys.path': it is"),
        ("random.Random", "it is <class 'random.Random'>"),
        ("mine.py:own", "no dotted name"),
        ("", "no dotted name"),
    ],
)
def test_a_name_of_nothing_that_can_be_called_is_refused_at_the_start(name, message):
    with pytest.raises(FieldError, match=message):
        TrainPlan(np.array([[30, 40]]), 1, Augmentation(own=name))


def with_(**parts):
    values = {"image": SAMPLE.image, "boxes": SAMPLE.boxes, "labels": SAMPLE.labels, "label_map": SAMPLE.label_map}
    made = Sample.__new__(Sample)  # unchecked, as a user's process makes it
    for name, value in {**values, **parts}.items():
        object.__setattr__(made, name, value)
    return made


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (None, "NoneType; give a Sample"),
        (with_(image=SAMPLE.image[:20]), r"image uint8 of shape \(20, 40, 3\); give uint8 of shape \(30, 40, 3\)"),
        (with_(image=SAMPLE.image / 255), "image float64 of shape"),
        (with_(label_map=None), "label_map NoneType; give uint8"),
        (with_(boxes=np.full((1, 4), np.nan)), "boxes of shape"),
        (with_(labels=np.array([1, 2])), r"labels of shape \(2,\)"),
        (with_(labels=np.array([5])), "the label 5; labels are whole numbers from 0 to 2"),
        (with_(labels=np.array([-1])), "the label -1"),
        (with_(labels=np.array([0.5])), "the label 0.5"),
    ],
)
def test_an_answer_that_cannot_be_is_refused(answer, message):
    with pytest.raises(FieldError, match=f"augmentation.own 'mine' gave .*{message}"):
        through(lambda sample: answer, classes=Classes(("a", "b", "c"), (1, 2, 3)))


def test_what_is_changed_in_place_stays_in_the_source():
    whole = painted((30, 40), (3, 4, 13, 24))
    whole.image.flags.writeable = False  # as Pillow gives them

    def blackened(sample):
        sample.image[...], sample.boxes[...] = 0, [0, 0, 9, 9]
        return sample

    after = through(blackened, whole)
    assert not after.image.any() and after.boxes.tolist() == [[0, 0, 9, 9]]
    assert whole.image.any() and whole.boxes.tolist() == [[3, 4, 13, 24]]


def test_boxes_end_at_the_rim_and_those_beyond_are_left_out():
    boxes = np.array([[-5, 2, 12, 50], [40, 0, 60, 9], [7, 8, 7, 9]], np.float64)
    after = through(lambda sample: with_(boxes=boxes, labels=np.array([2, 1, 0])))
    assert after.boxes.tolist() == [[0, 2, 12, 30]] and after.labels.tolist() == [2]
