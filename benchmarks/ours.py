"""vitjax's side: functions from the arguments of a row to work that can be timed."""

import tempfile
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.operations import products
from benchmarks.pictures import write_pictures
from benchmarks.rows import CLASSES, CONFIGS, OBJECTS, PLACES, Work
from benchmarks.steps import experiment_of, random_batch
from benchmarks.steps import training as training_of
from vitjax.data.label_names import COCO
from vitjax.data.loader import batches
from vitjax.data.memory import Pictures
from vitjax.data.plan import EvaluationPlan
from vitjax.data.transforms import Resize
from vitjax.detection.matcher import SoftmaxCost, match
from vitjax.ops.images import images_of
from vitjax.structs import ANSWER, Images, Predictions, PredictionSet, Targets
from vitjax.training.allocator import give_back_freed
from vitjax.training.first_weights import first_variables
from vitjax.training.state import init

Shape = tuple[int, int, int]


def forward(model: str, shape: Shape, small: bool) -> Work:
    """The forward pass of a model on normalised images, as in evaluation."""
    network = experiment_of(CONFIGS[model], small=small).model
    pixels = np.random.default_rng(0).normal(size=(*shape, 3)).astype(np.float32)
    images = Images(jnp.asarray(pixels), jnp.ones(tuple(shape), bool))
    variables = first_variables(network, seed=0)
    traced = jax.jit(partial(network.apply, train=False)).trace(variables, images)
    program = traced.lower().compile()
    return Work(lambda: jax.block_until_ready(program(variables, images)), _facts(traced, program))


def training(model: str, shape: Shape, small: bool) -> Work:
    """A training step of a model from raw pixels: matching, loss, gradients, clipping, AdamW."""
    return config(CONFIGS[model], shape, small)


def counted(model: str, shape: Shape, small: bool) -> Work:
    """No work; what is known is the `products` of a model's forward pass."""
    network = experiment_of(CONFIGS[model], small=small).model
    images = jax.eval_shape(lambda: Images(jnp.zeros((*shape, 3)), jnp.ones(tuple(shape), bool)))
    shapes = jax.eval_shape(lambda: init(network, 0))
    traced = jax.make_jaxpr(partial(network.apply, train=False))(shapes, images)
    return Work(lambda: None, {"products": products(traced)})


def config(name: str, shape: Shape, small: bool, way: str = "") -> Work:
    """A training step of a config, or of the one that `way` names."""
    experiment = experiment_of(way or name, small=small)
    turn = training_of(experiment, random_batch(experiment, tuple(shape), OBJECTS, PLACES))
    facts = _facts(turn.traced(), turn.program())
    give_back_freed()  # as a run does
    return Work(turn, facts)


def data(images: int, batch: int) -> Work:
    """JPEGs through the loader of evaluation, normalised by the compiled function that every step begins with."""
    folder = tempfile.TemporaryDirectory()
    source = Pictures(write_pictures(folder.name, images), COCO)
    plan = EvaluationPlan(source.sizes, batch, Resize())
    ready = jax.jit(images_of)

    def call(_: Any = folder) -> None:  # which is there as long as the work is
        for one in batches(source, plan, max_objects=1):
            jax.block_until_ready(ready(one))

    return Work(call)


def matching(queries: int, objects: int, places: int) -> Work:
    """The compiled matching of six layers of four images."""
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(6, 4, queries, CLASSES + 1)).astype(np.float32)
    boxes, wanted = (rng.uniform(0.2, 0.8, size).astype(np.float32) for size in ((6, 4, queries, 4), (4, places, 4)))
    labels = rng.integers(CLASSES, size=(4, places), dtype=np.int32)
    targets = Targets(wanted, labels, np.tile(np.arange(places) < objects, (4, 1)))
    given = jax.device_put((Predictions({ANSWER: PredictionSet(logits, boxes)}), targets))
    program = jax.jit(partial(match, SoftmaxCost())).lower(*given).compile()
    return Work(lambda: jax.block_until_ready(program(*given)))


def square(side: int) -> Work:
    """A float32 product of two squares."""
    one, other = jax.random.normal(jax.random.key(0), (2, side, side))
    product = jax.jit(partial(jnp.matmul, precision="highest"))
    return Work(lambda: jax.block_until_ready(product(one, other)), {"flops": 2.0 * side**3})


def _facts(traced: Any, program: Any) -> dict[str, float]:
    return {"flops": products(traced.jaxpr, "cpu"), "plan": program.memory_analysis().temp_size_in_bytes}
