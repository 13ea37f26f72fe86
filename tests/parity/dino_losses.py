"""DINO's set loss: decoder layers, proposals (`interm`) and denoising queries (`dn`)."""

import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vitjax.detection.denoising import slots_of
from vitjax.detection.dino_loss import DINOCost, DINOLoss
from vitjax.detection.loss import Terms, objects_of_queries
from vitjax.detection.matcher import match
from vitjax.structs import ANSWER, Assignment, Predictions, PredictionSet, Rule, Targets

from .comparison import Results
from .golden import Arrays, Case, GoldenError
from .losses import COSTS, OFFICIAL, cost_matrices, layer_names, matches, targets_of
from .models import denoising_of


def dino_loss_of(case: Case) -> DINOLoss:
    """DINO's loss with the weights of a case, which every layer and set must share."""
    weights = case.settings["weight_dict"]
    for official, weight in weights.items():
        term = re.sub(r"(_dn)?(_\d+|_interm)?$", "", official)
        if term not in OFFICIAL.values() or weight != weights[term]:
            raise GoldenError(f"{case.id}: the runner does not know the weight {official} = {weight} of {weights}")
    case.config.read |= {"weights", "focal_alpha", "matcher"}
    costs = case.config.get("matcher", {"cost_class": 2, "cost_bbox": 5, "cost_giou": 2})
    return DINOLoss(
        **{{"class": "classification"}.get(ours, ours): float(weights[name]) for ours, name in OFFICIAL.items()},
        alpha=float(case.config.get("focal_alpha", 0.25)),
        cost=DINOCost(*(float(costs[name]) for name in COSTS)),
    )


def dino_matches(assignment: Assignment, targets: Targets, prefix: str = "match") -> Arrays:
    """Queries, ascending, and the object of each; those of the proposals under their official name."""
    found = matches(assignment, targets, prefix)
    return {name.replace(f"{prefix}.enc.", f"{prefix}.interm."): value for name, value in found.items()}


def _suffixes(name: str, layers: int) -> list[str]:
    """What official names of a set's terms end in, layer by layer."""
    if name == "proposal":
        return ["_interm"]
    kind = {"denoising": "_dn", ANSWER: ""}[name]
    return [f"{kind}_{i}" for i in range(layers - 1)] + [kind]


def dino_entries(
    loss: DINOLoss, terms: Terms, total: Any, predictions: Predictions, targets: Targets, assignment: Assignment
) -> Arrays:
    """The official loss dictionary, with what is only logged there computed here."""
    values = {"loss.total_weighted": np.asarray(total)}
    for name, one in predictions.sets.items():
        suffixes = _suffixes(name, len(one.logits))
        prefix = "" if name == ANSWER else f"{name}_"
        found = {official: terms[f"{prefix}{ours}"].value for ours, official in OFFICIAL.items()}
        found |= _sides(one, targets, assignment.queries.get(name))
        if one.rule == "given":
            found["cardinality_error"] = _cardinality_of_slots(one, targets)
        else:
            found["cardinality_error"] = terms[f"{prefix}cardinality_error"].value
        values |= {
            f"loss.{official}{suffix}": np.asarray(value)
            for official, row in found.items()
            for suffix, value in zip(suffixes, np.asarray(row), strict=True)
        }
    error = terms["class_error"]
    nothing = np.asarray(error.count)[-1] == 0
    return values | {"loss.class_error": np.float32(100) if nothing else np.asarray(error.value)[-1]}


def _sides(one: PredictionSet, targets: Targets, queries: Any) -> dict[str, Any]:
    """The L1 distance in two parts: of the centres, and of the sizes."""
    if one.rule == "given":
        each = [objects_of_queries(targets, objects) for objects in jnp.asarray(one.objects)]
        wanted, pairs = (np.stack([getattr(one, name) for one in each]) for name in ("boxes", "valid"))
        boxes = np.asarray(one.boxes)
    else:
        wanted, pairs = np.asarray(targets.boxes)[None], np.asarray(targets.valid)[None]
        place = np.maximum(np.asarray(queries), 0)[..., None]
        boxes = np.take_along_axis(np.asarray(one.boxes), place, axis=2)
    distance = np.where(pairs[..., None], np.abs(boxes.astype(np.float64) - wanted), 0)
    count = np.maximum(pairs.sum((1, 2)), 1)
    return {
        "loss_xy": distance[..., :2].sum((1, 2, 3)) / count,
        "loss_hw": distance[..., 2:].sum((1, 2, 3)) / count,
    }


def _cardinality_of_slots(one: PredictionSet, targets: Targets) -> np.ndarray:
    used, logits = np.asarray(one.valid), np.asarray(one.logits)
    said = (used & (logits.argmax(-1) != logits.shape[-1] - 1)).sum(-1)
    there = used.any((1, 2))  # without any object there is no such entry but 0
    return np.where(there, np.abs(said - np.asarray(targets.valid.sum(1))).mean(-1), 0)


def _predictions_of(case: Case, inputs: dict[str, jax.Array], targets: Targets) -> tuple[Predictions, int]:
    """The sets of a case, and how many denoising queries it has; more of them are there here, as slots not used."""
    names = [f"aux{i}" for i in range(case.settings["aux_layers"])] + ["pred"]

    def stacked(prefixes: list[str], room: int = 0, **options: Any) -> PredictionSet:
        parts = [
            jnp.stack([inputs[f"{prefix}.{name}"] for prefix in prefixes]) for name in ("pred_logits", "pred_boxes")
        ]
        more = max(room - parts[0].shape[2], 0)
        logits, boxes = (jnp.pad(x, ((0, 0), (0, 0), (0, more), (0, 0)), constant_values=0.5) for x in parts)
        return PredictionSet(logits, boxes, **options)

    rule: Rule = "given"
    sets = {ANSWER: stacked(names), "proposal": stacked(["interm"])}
    images = len(targets.valid)
    slots = slots_of(targets.valid, *denoising_of(case.settings["dn_number"]).values(), images)
    pad = case.settings["dn_meta"]["pad_size"]
    if int(slots.used[0].sum()) != pad:
        raise GoldenError(f"{case.id}: {pad} denoising queries, ours {int(slots.used[0].sum())}")
    used, wanted = (jnp.broadcast_to(x, (len(names), *x.shape)) for x in (slots.used, slots.wanted))
    if pad:
        options = {"valid": used, "objects": wanted, "rule": rule}
        sets["denoising"] = stacked([f"dn.{name}" for name in names], used.shape[2], **options)
    else:
        some = sets[ANSWER]
        logits, boxes = (jnp.full((*used.shape, x.shape[-1]), 0.5) for x in (some.logits, some.boxes))
        sets["denoising"] = PredictionSet(logits, boxes, used, wanted, rule=rule)
    return Predictions(sets), pad


def run_dino_loss(case: Case) -> Results:
    """Costs, matches, loss entries and the gradients with respect to the predictions."""
    inputs, loss = case.inputs(), dino_loss_of(case)
    case.settings.read |= {"num_classes", "num_queries", "boxes_per_image", "single_pad"}
    targets = targets_of(inputs, len(inputs["pred.pred_logits"]))
    predictions, pad = _predictions_of(case, inputs, targets)

    def parts(predictions: Predictions) -> dict[str, Any]:
        return {name: (one.logits, one.boxes) for name, one in predictions.sets.items()}

    def objective(given: dict[str, Any]) -> tuple[jax.Array, tuple[Terms, Assignment]]:
        sets = {
            name: one.replace(logits=given[name][0], boxes=given[name][1]) for name, one in predictions.sets.items()
        }
        every = Predictions(sets)
        assignment = match(loss.cost, every, targets)
        terms = loss(every, targets, assignment)
        return loss.total(terms), (terms, assignment)

    given = parts(predictions)
    (total, (terms, assignment)), gradients = jax.jit(jax.value_and_grad(objective, has_aux=True))(given)
    values = dino_entries(loss, terms, total, predictions, targets, assignment) | dino_matches(assignment, targets)
    matched = Predictions({name: one for name, one in predictions.sets.items() if one.rule != "given"})
    costs = cost_matrices(loss, matched, targets)
    values |= {name.replace("cost.enc.", "cost.interm."): matrix for name, matrix in costs.items()}
    layers = ["pred" if name == "main" else name for name in layer_names(len(predictions.logits))]
    named = {ANSWER: layers, "proposal": ["interm"], "denoising": [f"dn.{name}" for name in layers]}
    for name, both in gradients.items():
        for part, rows in zip(("pred_logits", "pred_boxes"), both, strict=True):
            rows = rows[:, :, :pad] if name == "denoising" else rows
            values |= {f"grad.{layer}.{part}": row for layer, row in zip(named[name], rows, strict=True)}
    return Results(values)
