"""The set loss: matching, every entry of the official loss dictionary, gradients."""

import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vitjax.detection.focal_loss import FocalSetLoss
from vitjax.detection.loss import SetLoss, Terms
from vitjax.detection.matcher import FocalCost, SoftmaxCost, match
from vitjax.structs import ANSWER, Assignment, Predictions, PredictionSet, Rule, Targets

from .comparison import Results
from .golden import Arrays, Case, GoldenError

OFFICIAL = {"class": "loss_ce", "box": "loss_bbox", "giou": "loss_giou"}
MASKS = {"mask": "loss_mask", "dice": "loss_dice"}
COSTS = ("cost_class", "cost_bbox", "cost_giou")


def weights_of(case: Case) -> dict[str, float]:
    """The weights of the terms; every layer, and the proposals if they have any, must have the same."""
    weights = case.settings["weight_dict"]
    for official, weight in weights.items():
        term = re.sub(r"_(\d+|enc)$", "", official)
        if term not in {*OFFICIAL.values(), *MASKS.values()} or weight != weights[term]:
            raise GoldenError(f"{case.id}: the runner does not know the weight {official} = {weight} of {weights}")
    case.config.read |= {"weights"}
    names = {"class": "classification"}
    return {names.get(name, name): float(weights[official]) for name, official in OFFICIAL.items()}


def loss_of(case: Case) -> SetLoss | FocalSetLoss:
    """DETR's or Deformable DETR's loss with the weights of a case."""
    if re.match(r"(train|unit)_deformable_", case.id):
        costs = case.config.get("matcher", {"cost_class": 2, "cost_bbox": 5, "cost_giou": 2})
        focal_cost = FocalCost(*(float(costs[name]) for name in COSTS))  # its alpha and gamma are fixed officially
        return FocalSetLoss(**weights_of(case), alpha=float(case.config.get("focal_alpha", 0.25)), cost=focal_cost)
    costs = case.config.get("matcher", {"cost_class": 1, "cost_bbox": 5, "cost_giou": 2})
    cost = SoftmaxCost(*(float(costs[name]) for name in COSTS))
    return SetLoss(**weights_of(case), no_object=float(case.config.get("eos_coef", 0.1)), cost=cost)


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
        term = name.removeprefix("proposal_")
        official = f"loss.{OFFICIAL.get(term, term)}"
        if name == "class_error":
            values[official] = np.float32(100) if np.asarray(mean.count)[-1] == 0 else last
        elif name != term:
            values[f"{official}_enc"] = last
        else:
            values |= {official: last} | {f"{official}_{i}": value for i, value in enumerate(auxiliary)}
    return values | {"loss.total_weighted": np.asarray(total)}


def by_layer(sets: dict[str, Any]) -> Arrays:
    """What there is for every layer of every set, by the layer's official name."""
    layers = np.asarray(sets[ANSWER])
    named = dict(zip(layer_names(len(layers)), layers, strict=True))
    return named | ({"enc": np.asarray(sets["proposal"])[0]} if "proposal" in sets else {})


def matches(assignment: Assignment, targets: Targets, prefix: str = "match") -> Arrays:
    """Queries, ascending, and the object of each."""
    values = {}
    for name, rows in by_layer(assignment.queries).items():
        for image, (queries, valid) in enumerate(zip(rows, np.asarray(targets.valid), strict=True)):
            order = np.argsort(queries[valid])
            values |= {f"{prefix}.{name}.{image}.src": queries[valid][order], f"{prefix}.{name}.{image}.tgt": order}
    return values


def predictions_of(inputs: dict[str, jax.Array], auxiliary: int) -> Predictions:
    """The predictions of all layers, the main one last, and those of the encoder if there are any."""

    def stacked(prefixes: list[str], rule: Rule = "matched") -> PredictionSet:
        names = ("pred_logits", "pred_boxes")
        logits, boxes = (jnp.stack([inputs[f"{prefix}{name}"] for prefix in prefixes]) for name in names)
        return PredictionSet(logits, boxes, rule=rule)

    sets = {ANSWER: stacked([f"aux{i}." for i in range(auxiliary)] + [""])}
    if "enc.pred_logits" in inputs:
        sets["proposal"] = stacked(["enc."], rule="one class")
    return Predictions(sets)


def run_loss(case: Case) -> Results:
    """Costs, matches, loss entries and the gradients with respect to the predictions."""
    inputs, loss = case.inputs(), loss_of(case)
    case.settings.read |= {"num_classes", "num_queries", "boxes_per_image", "enc_proposals"}
    predictions = predictions_of(inputs, case.settings["aux_layers"])
    targets = targets_of(inputs, predictions.logits.shape[1])

    def objective(predictions: Predictions) -> tuple[jax.Array, tuple[Terms, Assignment]]:
        assignment = match(loss.cost, predictions, targets)
        terms = loss(predictions, targets, assignment)
        return loss.total(terms), (terms, assignment)

    (total, (terms, assignment)), gradients = jax.jit(jax.value_and_grad(objective, has_aux=True))(predictions)
    values = loss_entries(terms, total) | matches(assignment, targets) | cost_matrices(loss, predictions, targets)
    for part in ("logits", "boxes"):
        layers = by_layer({name: getattr(one, part) for name, one in gradients.sets.items()})
        values |= {f"grad.{name}.pred_{part}".replace(".main", ""): gradient for name, gradient in layers.items()}
    return Results(values)


def cost_matrices(loss: SetLoss | FocalSetLoss, predictions: Predictions, targets: Targets) -> Arrays:
    """The cost matrix of every layer and image, without the padded objects."""

    def costs(one: PredictionSet) -> jax.Array:
        each = jax.vmap(jax.vmap(loss.cost), (0, 0, None, None))
        labels = jnp.zeros_like(targets.labels) if one.rule == "one class" else targets.labels
        return jax.jit(each)(one.logits, one.boxes, targets.boxes, labels)

    matrices_of = {name: costs(one) for name, one in predictions.sets.items()}
    return {
        f"cost.{name}.{image}": matrix[:, valid]
        for name, matrices in by_layer(matrices_of).items()
        for image, (matrix, valid) in enumerate(zip(matrices, np.asarray(targets.valid), strict=True))
    }
