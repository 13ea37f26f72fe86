"""Training trajectories: the project's model, loss and optimizer, step by step on one batch."""

from collections.abc import Callable
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from vitjax.detection.loss import Loss
from vitjax.detection.matcher import match
from vitjax.formats.tables import to_published
from vitjax.runs.optimizer import AdamW, StepSchedule
from vitjax.structs import Images, Targets

from .comparison import Results
from .golden import Arrays, Case, GoldenError
from .losses import loss_entries, loss_of, matches, targets_of
from .models import Detector, detector_of, forward, predicted, table_for, variables_of

ALWAYS_FROZEN = ("^backbone/stem_conv/", "^backbone/stage_1/")


def multipliers_of(case: Case) -> dict[str, float]:
    """Learning rates by parameter path, as factors of the main one; without those of a frozen backbone.

    Raises: GoldenError where the groups of the case have other learning rates.
    """
    settings, config = case.settings, case.config
    backbone = settings["lr_backbone"] / settings["lr"]
    multipliers = {"^backbone/": backbone} if backbone > 0 else {}
    if "lr_linear_proj_mult" in settings:
        slow = ("sampling_offsets/",) if config["two_stage"] else ("sampling_offsets/", "^reference_points/")
        multipliers |= dict.fromkeys(slow, float(settings["lr_linear_proj_mult"]))
    elif config.get("position_embedding") == "learned":
        # Officially a part of the backbone's group, yet never frozen: a rate of 0 still lets it count for clipping.
        multipliers["^position/"] = backbone or 1e-30
    wanted = {1.0, backbone, float(settings.get("lr_linear_proj_mult", 1.0))}
    groups = [group["lr"] / settings["lr"] for group in settings["param_groups"]]
    if not np.allclose(sorted(set(groups)), sorted(wanted)):
        raise GoldenError(f"{case.id}: learning rates {groups} of the main one, where {wanted} are expected")
    return multipliers


def optimizer_of(case: Case) -> AdamW:
    """The official recipe: two or three learning rates; the stem and the first stage never train."""
    settings = case.settings
    group, *others = settings["param_groups"]
    if any(other[key] != group[key] for other in others for key in ("weight_decay", "betas", "eps")):
        raise GoldenError(f"{case.id}: groups that differ in more than the learning rate: {settings['param_groups']}")
    return AdamW(
        learning_rate=float(settings["lr"]),
        weight_decay=float(settings["weight_decay"]),
        b1=group["betas"][0],
        b2=group["betas"][1],
        eps=group["eps"],
        clip_norm=float(settings["clip_max_norm"]) if settings["clip_max_norm"] > 0 else None,
        multipliers=multipliers_of(case),
        frozen=ALWAYS_FROZEN if settings["lr_backbone"] > 0 else ("^backbone/",),
        schedule=StepSchedule(drop_epochs=()),
    )


@cache
def gradient_step(model: Detector, loss: Loss, auxiliary: bool) -> Callable:
    """The compiled function from parameters and batch to gradients, loss, matching and predictions.

    Without auxiliary losses neither the earlier layers nor the proposals of the encoder are trained.
    """

    def objective(trainable: Any, frozen: Any, constants: Any, images: Images, targets: Targets) -> tuple:
        variables = {"params": AdamW.merge(trainable, frozen), **constants}
        rngs = {"dropout": jax.random.key(0)}
        every = model.apply(variables, images, train=True, rngs=rngs)
        last = jax.tree.map(lambda x: x[-1:], every)
        predictions = every if auxiliary else last
        assignment = match(loss.cost, predictions, targets)
        terms = loss(predictions, targets, assignment)
        weighted = {name: term for name, term in terms.items() if auxiliary or not name.startswith("proposal_")}
        return loss.total(weighted), (terms, assignment, every)

    return jax.jit(jax.value_and_grad(objective, has_aux=True))


def per_tensor(case: Case, model: Detector, tree: Any) -> Arrays:
    """The trainable tensors by published name, in the manifest's order; fails unless they are the same."""
    table = table_for(model)
    published = to_published({"params": tree}, table=table)
    wanted = [table.primary(name) for name in case.settings["trainable"]]
    if sorted(published) != sorted(wanted):
        raise GoldenError(f"{case.id}: trained here or there only: {sorted(published.keys() ^ set(wanted))}")
    return {name: published[name] for name in wanted}


def norms(case: Case, model: Detector, tree: Any) -> np.ndarray:
    """The norm of every trainable tensor, in the manifest's order."""
    return np.array([np.linalg.norm(value.astype(np.float64)) for value in per_tensor(case, model, tree).values()])


def length(tree: Any) -> np.floating:
    """The norm of all arrays together; by NumPy, since JAX would compile programs for every shape."""
    return np.sqrt(sum(np.square(np.asarray(leaf)).sum(dtype=np.float64) for leaf in jax.tree.leaves(tree)))


def moved(last: Any, first: Any) -> Any:
    """How far every array has gone; by NumPy for the same reason."""
    return jax.tree.map(lambda a, b: np.asarray(a) - np.asarray(b), last, first)


def run_training(case: Case) -> Results:
    """Loss entries and gradient norms of every step, matches, and the model after the last step."""
    settings, model, loss = case.settings, detector_of(case.config), loss_of(case)
    settings.read |= {"group_rule"}
    optimizer, images = optimizer_of(case), case.images()
    targets = targets_of(case.inputs(), len(settings["image_sizes"]))
    variables = jax.tree.map(jnp.asarray, variables_of(case, model))
    constants = {name: tree for name, tree in variables.items() if name != "params"}
    first, frozen = optimizer.partition(variables["params"])
    transformation = optimizer.transformation(first, total_steps=settings["steps"], steps_per_epoch=1)
    step = gradient_step(model, loss, auxiliary=case.config.get("aux_loss", True))
    apply = jax.jit(lambda g, s, p: updated(transformation, g, s, p))

    trainable, state = first, jax.jit(transformation.init)(first)
    values: dict[str, Any] = {}
    history: list[dict[str, Any]] = []
    for i in range(settings["steps"]):
        seen, gradients = step(trainable, frozen, constants, images, targets)
        total, (terms, assignment, predictions) = seen
        values |= matches(assignment, targets, f"match.step{i}") | predicted(predictions, f"step{i}.")
        history.append(loss_entries(terms, total) | {"grad_norm": length(gradients)})
        if i == 0:
            values["grad0_norm_per_tensor"] = norms(case, model, gradients)
        trainable, state = apply(gradients, state, trainable)
    values |= {name: np.stack([np.asarray(entry[name]) for entry in history]) for name in history[0]}
    values["update_norm_per_tensor"] = norms(case, model, moved(trainable, first))
    last = {"params": AdamW.merge(trainable, frozen), **constants}
    return Results(values | predicted(forward(model)(last, images), "final."))


def updated(
    transformation: optax.GradientTransformation, gradients: Any, state: Any, trainable: Any
) -> tuple[Any, Any]:
    updates, state = transformation.update(gradients, state, trainable)
    return optax.apply_updates(trainable, updates), state
