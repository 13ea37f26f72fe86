"""Training trajectories of CrossFormer classifiers: model, loss and optimizer, step by step on one batch."""

from collections.abc import Callable
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from vitjax.classification.classifier import Classifier
from vitjax.classification.loss import CrossEntropy
from vitjax.families.crossformer import NAMES as CROSSFORMER
from vitjax.formats.tables import to_published
from vitjax.runs.optimizer import AdamW, StepSchedule
from vitjax.structs import ClassTargets, Images, Terms

from .comparison import Results
from .crossformer import classifier_of, crossformer_variables
from .golden import Case, GoldenError
from .training import length, moved

OPTIMIZER = "AdamW betas (0.9, 0.999) eps 1e-8; no weight decay for 1-D tensors and biases"


def recipe_of(case: Case) -> AdamW:
    """The official recipe: biases and norms do not decay, the learning rate stays.

    Raises: GoldenError where the case has another recipe.
    """
    settings = case.settings
    known = {"loss": "mean cross entropy", "optimizer": OPTIMIZER}
    if any(settings[name] != words for name, words in known.items()) or case.config.get("drop_path_rate", 0.0):
        raise GoldenError(
            f"{case.id}: the runner does not know this recipe: {settings['loss']}, {settings['optimizer']}"
        )
    return AdamW(
        learning_rate=float(settings["lr"]),
        weight_decay=float(settings["weight_decay"]),
        decay_vectors=False,
        clip_norm=float(settings["clip_grad_norm"]),
        schedule=StepSchedule(drop_epochs=()),
    )


@cache
def gradient_step(model: Classifier) -> Callable:
    """The compiled function from parameters and batch to loss terms, logits and gradients."""
    loss = CrossEntropy(smoothing=0.0)

    def objective(params: Any, images: Images, targets: ClassTargets) -> tuple[jax.Array, tuple[Terms, jax.Array]]:
        logits = model.apply({"params": params}, images, train=True)
        terms = loss(logits, targets)
        return loss.total(terms), (terms, logits)

    return jax.jit(jax.value_and_grad(objective, has_aux=True))


def norms(case: Case, tree: Any) -> np.ndarray:
    """The norm of every tensor, in the manifest's order; fails unless the tensors are the same."""
    published = to_published({"params": tree}, table=CROSSFORMER)
    wanted = case.settings["trainable"]
    if sorted(published) != sorted(wanted):
        raise GoldenError(f"{case.id}: trained here or there only: {sorted(published.keys() ^ set(wanted))}")
    return np.array([np.linalg.norm(published[name].astype(np.float64)) for name in wanted])


def run_classifier_training(case: Case) -> Results:
    """Loss and gradient norm of every step, and the model after the last step."""
    model, optimizer, images = classifier_of(case), recipe_of(case), case.images()
    labels = np.asarray(case.inputs()["labels"])
    targets = ClassTargets(jax.nn.one_hot(labels, model.num_classes), jnp.ones(len(labels), bool))
    first = jax.tree.map(jnp.asarray, crossformer_variables(case, model)["params"])
    steps = case.settings["steps"]
    transformation = optimizer.transformation(first, total_steps=steps, steps_per_epoch=1)
    step = gradient_step(model)

    @jax.jit
    def following(gradients: Any, state: Any, params: Any) -> tuple[Any, Any]:
        updates, state = transformation.update(gradients, state, params)
        return optax.apply_updates(params, updates), state

    params, state = first, jax.jit(transformation.init)(first)
    values: dict[str, Any] = {}
    entropies, lengths = [], []
    for i in range(steps):
        (total, (_, logits)), gradients = step(params, images, targets)
        values[f"step{i}.logits"] = logits
        entropies.append(np.asarray(total))
        lengths.append(length(gradients))
        if i == 0:
            values["grad0_norm_per_tensor"] = norms(case, gradients)
        params, state = following(gradients, state, params)
    values |= {"loss.ce": np.stack(entropies), "grad_norm": np.stack(lengths)}
    values["update_norm_per_tensor"] = norms(case, moved(params, first))
    (total, (_, logits)), _ = step(params, images, targets)
    return Results(values | {"final.logits": logits, "final.loss": total})
