"""Training a detector with masks, beside an oracle in float64; and what its task makes of predictions."""

import dataclasses
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from quick import drawn

from tasks import mask_oracle
from vitjax.data.coco_panoptic import CocoPanoptic
from vitjax.data.digit_masks import DigitMasks
from vitjax.data.masks import pack, planes_for
from vitjax.data.source import Classes
from vitjax.data.transforms import Resize
from vitjax.detection.detr import DETR
from vitjax.detection.loss import SetLoss
from vitjax.errors import FieldError
from vitjax.evaluation.panoptic import panoptic_quality
from vitjax.placement import data_mesh, place_batch, place_state
from vitjax.prediction import Prediction
from vitjax.runs.optimizer import AdamW
from vitjax.segmentation.detr_masks import MaskDETR
from vitjax.segmentation.mask_loss import MaskLoss
from vitjax.segmentation.mask_postprocess import BestMasks, TopMasks
from vitjax.segmentation.masks import Masks
from vitjax.structs import (
    ANSWER,
    Assignment,
    Batch,
    Feature,
    Images,
    Inner,
    MaskPredictions,
    Predictions,
    PredictionSet,
    Targets,
)
from vitjax.tasks.masks import MaskDetection, MaskDetector, mask_objective
from vitjax.training.state import initial_state
from vitjax.training.steps import make_train_step

QUERIES, OBJECTS, CHANNELS = 12, 8, 32
SIDES = ((3, 5), (6, 10))  # of the maps, coarsest first; an image has 12 x 20 pixels
RNG = np.random.default_rng(0)


def noise(*shape):
    return RNG.normal(size=shape).astype(np.float32)


GIVEN = {
    "projected": noise(2, *SIDES[0], CHANNELS),
    "memory": noise(2, *SIDES[0], CHANNELS),
    "queries": noise(1, 2, QUERIES, CHANNELS),
    "finer": [noise(2, *side, 3) for side in SIDES[1:]],
}
MATCHED = np.stack([RNG.permutation(QUERIES)[:OBJECTS] for _ in range(2)]).astype(np.int32)
TRUTH = RNG.random((2, OBJECTS, 12, 20)) < 0.4


class Given(nn.Module):
    """A detector whose maps and queries are given, with which nothing is learned but masks."""

    scores: ClassVar[str] = "softmax"

    num_classes: int = 3
    num_queries: int = QUERIES
    channels: int = CHANNELS
    heads: int = 8
    padding: str = "exact"
    dtype: str = "float32"
    backbone: Any = None

    def inner(self, images, *, train):
        maps = [*GIVEN["finer"][::-1], GIVEN["projected"]]
        features = tuple(Feature(jnp.asarray(x), jnp.ones(x.shape[:3], bool)) for x in maps)
        one = PredictionSet(jnp.zeros((1, 2, QUERIES, 4)), jnp.full((1, 2, QUERIES, 4), 0.4))
        arrays = (jnp.asarray(GIVEN[name]) for name in ("projected", "memory", "queries"))
        projected, memory, queries = arrays
        return Inner(Predictions({ANSWER: one}), features, projected, memory, queries)


MODEL = MaskDETR(Given(), finer=1)
RECIPE = AdamW(learning_rate=1e-3, clip_norm=0.1)


def batch_of(counts, truth=TRUTH):
    """Two images with so many objects."""
    valid = np.arange(OBJECTS) < np.array(counts)[:, None]
    planes = np.stack([pack(masks & there[:, None, None]) for masks, there in zip(truth, valid, strict=True)])
    assert planes.shape[-1] == planes_for(OBJECTS)
    return Batch(
        pixels=np.zeros((2, 12, 20, 3), np.uint8),
        sizes=np.int32([[12, 20]] * 2),
        targets=Targets(np.full((2, OBJECTS, 4), 0.5, np.float32), np.zeros((2, OBJECTS), np.int32), valid),
        records=np.arange(2, dtype=np.int32),
        original_sizes=np.int32([[12, 20]] * 2),
        broken=np.full(2, -1, np.int32),
        masks=planes,
    )


def objective(matched=MATCHED[None]):
    return mask_objective(MODEL, SetLoss(), MaskLoss(), lambda *_: Assignment({ANSWER: jnp.asarray(matched)}))


@pytest.fixture(scope="module")
def first():
    """Variables, and the state that training starts from, anew each time."""
    images = Images(jnp.zeros((2, 12, 20, 3)), jnp.ones((2, 12, 20), bool))
    variables = drawn(jax.eval_shape(lambda: MODEL.init(jax.random.key(0), images, train=False)))
    trainable, _ = RECIPE.partition(variables["params"])
    transformation = RECIPE.transformation(trainable, 100, 10)

    def state():
        copied = jax.tree.map(jnp.array, variables)
        return place_state(initial_state(copied, RECIPE, transformation, 0), data_mesh())

    return variables, state, make_train_step(objective(), RECIPE, transformation, data_mesh())


def test_training_the_head_goes_as_in_float64(first):
    variables, state, step = first
    state, told = state(), []
    counts = (8, 2)
    for _ in range(4):
        state, metrics = step(state, [place_batch(batch_of(counts), data_mesh())])
        told.append([float(metrics[name]) for name in ("mask", "dice", "gradient_norm")])
    with jax.enable_x64(True):
        double = jax.tree.map(np.float64, (variables["params"], GIVEN))
        params, given = double
        images = [
            (queries[MATCHED[i, :count]], TRUTH[i, :count], given["memory"][i], given["projected"][i], finer)
            for i, (count, queries, *finer) in enumerate(zip(counts, given["queries"][0], *given["finer"], strict=True))
        ]
        wanted = mask_oracle.trajectory(params, images, 4, rate=1e-3, clip=0.1, count=sum(counts))
    np.testing.assert_allclose(told, wanted, rtol=2e-5)
    assert wanted[-1, 0] < wanted[0, 0]


@pytest.mark.parametrize(
    ("counts", "empty"), [((8, 0), False), ((0, 0), False), ((3, 1), True)], ids=["image", "batch", "mask"]
)
def test_without_objects_or_with_an_empty_mask_all_stays_finite(first, counts, empty):
    _, state, step = first
    before = state()
    kept = jax.tree.map(np.array, before.trainable)
    truth = TRUTH & (not empty)
    after, metrics = step(before, [place_batch(batch_of(counts, truth), data_mesh())])
    assert all(np.isfinite(value).all() for value in metrics.values() if value is not metrics["class_error"])
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(after.trainable))
    assert (metrics["gradient_norm"] > 0) == (sum(counts) > 0)
    assert kept.keys() == after.trainable.keys()
    if not sum(counts):
        assert metrics["mask"] == metrics["dice"] == 0


def test_in_evaluation_the_loss_of_masks_is_that_of_objects_whose_query_has_one():
    batch = jax.tree.map(jnp.asarray, batch_of((2, 1)))
    batch = dataclasses.replace(batch, targets=jax.tree.map(lambda x: x[:, :2], batch.targets))
    queries = jnp.array([[0, 2, 5, 7], [1, 2, 3, 4]])
    chosen = np.array([[5, 9], [4, 0]], np.int32)  # of the first image the second is not among them
    masks = jnp.asarray(noise(2, 4, 6, 10))
    one = PredictionSet(jnp.zeros((1, 2, QUERIES, 4)), jnp.full((1, 2, QUERIES, 4), 0.4))
    answer = MaskPredictions(Predictions({ANSWER: one}), masks, jnp.ones((2, 6, 10), bool), queries)
    terms = jax.jit(objective(chosen[None]).validate)(answer, batch)
    own = MaskLoss().of_each(masks[jnp.arange(2), jnp.array([2, 3])][:, None], jnp.asarray(TRUTH[:, :1]))
    for name in ("mask", "dice"):
        assert terms[name].count == 2
        np.testing.assert_allclose(terms[name].total[0], own[name].sum(), rtol=1e-5)


CLASSES = Classes(("one", "two", "ground"), (1, 2, 3), (2,))


def found(scores, labels, logits):
    masks = Masks(np.asarray(logits, np.float32), (8, 8), (8, 8))
    boxes = np.zeros((len(scores), 4), np.float32)
    return Prediction(boxes, np.float32(scores), np.array(labels), ("",) * len(scores), masks)


def test_segments_are_of_the_best_queries_and_stuff_of_a_class_is_one():
    left, right = np.full((2, 2), -9.0), np.full((2, 2), -9.0)
    left[:, 0], right[:, 1] = 9, 9
    task = MaskDetector(None, Resize(), TopMasks(panoptic_threshold=0.3))
    made = task.panoptic(found([0.9, 0.5, 0.4, 0.2], [0, 2, 1, 1], [left, right, left, right]), CLASSES)
    assert made.labels.tolist() == [0, 2]  # the same pixels as another class, and what is below the threshold, go
    assert (made.owner[:, :4] == 0).all() and (made.owner[:, 4:] == 1).all()
    made = task.panoptic(found([0.9, 0.5], [2, 2], [left, right]), CLASSES)
    assert made.labels.tolist() == [2] and (made.owner == 0).all()
    nothing = task.panoptic(found([0.1, 0.9], [0, 3], [left, right]), CLASSES)  # a class that the data have not
    assert not len(nothing.labels) and (nothing.owner == -1).all()
    assert panoptic_quality([(made, nothing)], CLASSES).all.PQ == 0


def test_detections_of_chosen_queries_have_their_own_masks():
    rng, task = np.random.default_rng(3), MaskDetector(None, Resize(), TopMasks(k=3))
    logits = jnp.asarray(rng.normal(size=(1, 1, 4, 2)).astype(np.float32))
    boxes = jnp.full((1, 1, 4, 4), 0.4)
    masks = jnp.arange(4.0)[None, :, None, None] * jnp.ones((1, 4, 2, 2))
    said = Predictions({ANSWER: PredictionSet(logits, boxes)})
    batch = dataclasses.replace(batch_of((0, 0)), original_sizes=jnp.array([[12, 20]]))
    whole = task.finish(MaskPredictions(said, masks, jnp.ones((1, 2, 2), bool)), batch)
    best = np.argsort(-np.asarray(logits).ravel(), kind="stable")[:3]
    np.testing.assert_array_equal(whole.masks[0, :, 0, 0], best // 2)
    np.testing.assert_array_equal(whole.detections.labels[0], best % 2)
    chosen = jnp.sort(jnp.unique(best // 2))[None]
    some = task.finish(MaskPredictions(said, masks[:, chosen[0]], jnp.ones((1, 2, 2), bool), chosen), batch)
    for mine, theirs in zip(jax.tree.leaves(some), jax.tree.leaves(whole), strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_data_without_masks_and_scores_that_the_data_have_none_of_are_refused():
    digits = DigitMasks(train_images=2, masks=False)
    with pytest.raises(FieldError, match="data that give them"):
        MaskDetection(data=digits).plan(digits.open("train"))

    class Instances:
        has_masks = True

    with pytest.raises(FieldError, match="best='PQ' is a score of panoptic data"):
        MaskDetection(best="PQ").plan(Instances())


def test_a_threshold_that_no_score_can_be_above_is_refused():
    for kind, value in ((BestMasks, 0.4), (BestMasks, 1.5), (TopMasks, -0.1)):
        with pytest.raises(FieldError, match="panoptic_threshold"):
            kind(panoptic_threshold=value)


def test_models_of_coco_are_scored_on_folders_in_its_forms():
    from vitjax.data.label_names import COCO, COCO_PANOPTIC

    assert MaskDetection.data_of(COCO_PANOPTIC) == CocoPanoptic(labels="category_id")
    assert MaskDetection.data_of(COCO).labels == "category_id"
    assert MaskDetection.data_of(CLASSES).labels == "contiguous"


def test_as_many_images_are_seen_at_once_as_make_a_hundred_masks_of_the_published_width():
    models = (MaskDETR(DETR()), MaskDETR(DETR(num_queries=10)), MaskDETR(DETR(channels=128)), MaskDETR(DETR()))
    assert [MaskDetector(model, Resize(), BestMasks()).images_per_device for model in models] == [1, 10, 2, 1]
