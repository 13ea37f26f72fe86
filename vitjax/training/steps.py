"""One training step and one prediction step, as pure functions; `parallel` compiles them."""

import dataclasses
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax import Array

from vitjax.detection.loss import Loss, Terms
from vitjax.detection.matcher import match
from vitjax.detection.postprocess import Postprocess
from vitjax.ops.images import normalize, valid_pixels
from vitjax.structs import Assignment, Batch, Detections, Images, Predictions, Targets
from vitjax.training.optimizer import AdamW
from vitjax.training.state import TrainState

Match = Callable[[Predictions, Targets], Assignment]


def images_of(batch: Batch) -> Images:
    """The batch as the model takes it."""
    valid = valid_pixels(batch.sizes, *batch.pixels.shape[1:3])
    return Images(normalize(batch.pixels, valid), valid)


def metrics_of(terms: Terms) -> dict[str, Array]:
    """One scalar per term: `box` for the last decoder layer, `box_0`, `box_1`, ... for those before it."""
    metrics = {}
    for name, mean in terms.items():
        *auxiliary, last = mean.value
        metrics[name] = last
        if name not in ("class_error", "cardinality_error"):
            metrics |= {f"{name}_{layer}": value for layer, value in enumerate(auxiliary)}
    return metrics


def make_train_step(
    model: nn.Module,
    loss: Loss,
    optimizer: AdamW,
    transformation: optax.GradientTransformation,
    matching: Match | None = None,
) -> Callable[[TrainState, Batch], tuple[TrainState, dict[str, Array]]]:
    """The function from (state, batch) to (next state, scalar metrics); gradients of the trainable subset only."""
    matching = matching or (lambda predictions, targets: match(loss.cost, predictions, targets))

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, dict[str, Array]]:
        images = images_of(batch)
        dropout = jax.random.fold_in(state.key, state.step)

        def objective(trainable: Any) -> tuple[Array, Terms]:
            variables = {"params": optimizer.merge(trainable, state.frozen), **state.constants}
            predictions: Any = model.apply(variables, images, train=True, rngs={"dropout": dropout})
            terms = loss(predictions, batch.targets, matching(predictions, batch.targets))
            return loss.total(terms), terms

        (total, terms), gradients = jax.value_and_grad(objective, has_aux=True)(state.trainable)
        updates, optimizer_state = transformation.update(gradients, state.optimizer, state.trainable)
        metrics = {"loss": total, **metrics_of(terms), "gradient_norm": optax.tree.norm(gradients)}
        following = dataclasses.replace(
            state,
            step=state.step + 1,
            trainable=optax.apply_updates(state.trainable, updates),
            optimizer=optimizer_state,
        )
        return following, metrics

    return step


def make_predict_step(model: nn.Module, postprocess: Postprocess) -> Callable[[dict[str, Any], Batch], Detections]:
    """The function from (variables, batch) to detections in pixels of the original images."""

    def step(variables: dict[str, Any], batch: Batch) -> Detections:
        predictions = model.apply(variables, images_of(batch), train=False)
        last = jax.tree.map(lambda x: x[-1].astype(jnp.float32), predictions)
        return postprocess(last.logits, last.boxes, batch.original_sizes)

    return step
