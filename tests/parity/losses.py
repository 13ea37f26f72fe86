"""The set loss: matching, every entry of the official loss dictionary, gradients."""

import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vitjax.detection.loss import SetLoss, Terms
from vitjax.detection.matcher import SoftmaxCost, match
from vitjax.structs import Assignment, Predictions, Targets

from .comparison import Results
from .golden import Arrays, Case, GoldenError

OFFICIAL = {"class": "loss_ce", "box": "loss_bbox", "giou": "loss_giou"}


def loss_of(case: Case) -> SetLoss:
    """The loss with the weights of a case; every layer must have the same."""
    weights = case.settings["weight_dict"]
    known = {name: float(weights[official]) for name, official in OFFICIAL.items()}
    for official, weight in weights.items():
        term = re.sub(r"_\d+$", "", official)
        if term not in OFFICIAL.values() or weight != weights[term]:
            raise GoldenError(f"{case.id}: the runner does not know the weight {official} = {weight} of {weights}")
    costs = case.config.get("matcher", {"cost_class": 1, "cost_bbox": 5, "cost_giou": 2})
    cost = SoftmaxCost(*(float(costs[name]) for name in ("cost_class", "cost_bbox", "cost_giou")))
    case.config.read |= {"weights"}
    return SetLoss(
        classification=known["class"],
        box=known["box"],
        giou=known["giou"],
        no_object=float(case.config.get("eos_coef", 0.1)),
        cost=cost,
    )


def targets_of(inputs: dict[str, jax.Array], batch: int) -> Targets:
    """The targets of all images, padded to the longest."""
    counts = [len(inputs[f"target{i}.labels"]) for i in range(batch)]
    boxes = np.zeros((batch, max(counts), 4), np.float32)
    labels = np.zeros((batch, max(counts)), np.int32)
    for i, count in enumerate(counts):
        boxes[i, :count] = inputs[f"target{i}.boxes"]
        labels[i, :count] = inputs[f"target{i}.labels"]
    valid = np.arange(max(counts)) < np.array(counts)[:, None]
    return Targets(jnp.asarray(boxes), jnp.asarray(labels), jnp.asarray(valid))


def layer_names(layers: int) -> list[str]:
    """The official names of decoder layers: the last is the main one."""
    return [f"aux{i}" for i in range(layers - 1)] + ["main"]


def loss_entries(terms: Terms, total: Any) -> dict[str, np.ndarray]:
    """The official loss dictionary. Where nothing is to be found it reports a class error of 100, and we none."""
    values = {}
    for name, mean in terms.items():
        *auxiliary, last = np.asarray(mean.value)
        official = f"loss.{OFFICIAL.get(name, name)}"
        if name == "class_error":
            values[official] = np.float32(100) if np.asarray(mean.count)[-1] == 0 else last
            continue
        values |= {official: last} | {f"{official}_{i}": value for i, value in enumerate(auxiliary)}
    return values | {"loss.total_weighted": np.asarray(total)}


def matches(assignment: Assignment, targets: Targets, prefix: str = "match") -> Arrays:
    """Queries, ascending, and the object of each."""
    values = {}
    for name, rows in zip(layer_names(len(assignment.queries)), np.asarray(assignment.queries), strict=True):
        for image, (queries, valid) in enumerate(zip(rows, np.asarray(targets.valid), strict=True)):
            order = np.argsort(queries[valid])
            values |= {f"{prefix}.{name}.{image}.src": queries[valid][order], f"{prefix}.{name}.{image}.tgt": order}
    return values


def run_loss(case: Case) -> Results:
    """Costs, matches, loss entries and the gradients with respect to the predictions."""
    inputs, loss = case.inputs(), loss_of(case)
    prefixes = [f"aux{i}." for i in range(case.settings["aux_layers"])] + [""]
    stacked = [jnp.stack([inputs[f"{prefix}{name}"] for prefix in prefixes]) for name in ("pred_logits", "pred_boxes")]
    predictions = Predictions(*stacked)
    targets = targets_of(inputs, stacked[0].shape[1])

    def objective(predictions: Predictions) -> tuple[jax.Array, tuple[Terms, Assignment, jax.Array]]:
        assignment = match(loss.cost, predictions, targets)
        terms = loss(predictions, targets, assignment)
        costs = jax.vmap(jax.vmap(loss.cost), (0, 0, None, None))(
            predictions.logits, predictions.boxes, targets.boxes, targets.labels
        )
        return loss.total(terms), (terms, assignment, costs)

    (total, (terms, assignment, costs)), gradients = jax.jit(jax.value_and_grad(objective, has_aux=True))(predictions)
    values = loss_entries(terms, total) | matches(assignment, targets) | cost_matrices(costs, targets)
    for prefix, logits, boxes in zip(prefixes, gradients.logits, gradients.boxes, strict=True):
        values |= {f"grad.{prefix}pred_logits": logits, f"grad.{prefix}pred_boxes": boxes}
    return Results(values)


def cost_matrices(costs: jax.Array, targets: Targets) -> Arrays:
    """The cost matrix of every layer and image, without the padded objects."""
    return {
        f"cost.{name}.{image}": matrix[:, valid]
        for name, matrices in zip(layer_names(len(costs)), np.asarray(costs), strict=True)
        for image, (matrix, valid) in enumerate(zip(matrices, np.asarray(targets.valid), strict=True))
    }
