"""Masks: DETR with its mask head, the parts of the head, the losses of masks, and what becomes of them."""

from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from vitjax.backbones.resnet import ResNet
from vitjax.data.label_names import is_thing
from vitjax.detection.matcher import match
from vitjax.detection.postprocess import BestClass
from vitjax.families.mask_detr import NAMES as MASK_DETR
from vitjax.formats.tables import from_published
from vitjax.segmentation.detr_masks import MaskDETR
from vitjax.segmentation.mask_head import MaskAttention, MaskHead
from vitjax.segmentation.mask_loss import MaskLoss
from vitjax.segmentation.masks import Masks, object_masks
from vitjax.segmentation.panoptic import panoptic
from vitjax.structs import ANSWER, Feature

from .comparison import Results
from .golden import Case, GoldenError
from .losses import MASKS, loss_of, predictions_of, run_loss, targets_of
from .models import detr_of, inner_values, predicted, shapes_of


def run_mask_detr(case: Case) -> Results:
    """What `run_detr` gives, the mask logits, their statistics, and the attention maps under them."""
    if case.config["masks"] is not True:
        raise GoldenError(f"{case.id}: the runner knows models with masks only")
    model = MaskDETR(detr_of({**case.config, "masks": False}))
    case.config.read |= case.config.keys()
    variables = from_published(case.weights(), like=shapes_of(model), table=MASK_DETR)
    (answer, state) = _forward(model)(variables, case.images())
    sown = state["intermediates"]
    inside = sown["detr"]
    names = ("projected", "positions", "memory", "queries")
    seen = {name: inside[name][0] for name in names} | {"feature": inside["backbone"]["__call__"][0][-1]}
    inner = inner_values(seen)
    masks = np.asarray(answer.masks)
    rows = masks.reshape(*masks.shape[:2], -1).astype(np.float64)
    values = {"pred_masks": masks, "bbox_mask": sown["mask_attention"]["attention"][0]}
    values |= {"pred_masks.qmean": rows.mean(-1), "pred_masks.qstd": rows.std(-1)}
    return Results(predicted(answer.predictions) | dict(inner.values) | values, inner.padding)


@cache
def _forward(model: MaskDETR) -> Callable:
    """The compiled model, which also returns what it sows, and the feature maps of its backbone."""
    options = {"mutable": ["intermediates"], "capture_intermediates": lambda module, _: isinstance(module, ResNet)}
    return jax.jit(lambda variables, images: model.apply(variables, images, train=False, **options))


def run_mask_head(case: Case) -> Results:
    """The convolutions on the map of each query, queries fastest."""
    settings, inputs = case.settings, case.inputs()
    maps = {name: jnp.moveaxis(x, 1, -1) for name, x in inputs.items() if name != "bbox_mask"}
    known = {"output": "(N*queries, 1, H, W), queries fastest", "context_dim": maps["x"].shape[-1]}
    known["dim"] = known["context_dim"] + inputs["bbox_mask"].shape[2]
    known["fpn_dims"] = [maps[f"fpn{level}"].shape[-1] for level in range(3)]
    _require(case, known)
    finer = tuple(_feature(maps[f"fpn{level}"]) for level in range(3))
    module = MaskHead(groups=settings["group_norm_groups"])
    x = _feature(maps["x"])
    arguments = (x.values, inputs["bbox_mask"], x.valid, finer)
    masks = _applied(case, module, "mask_head", "mask_head", arguments)
    return Results({"masks": np.asarray(masks).reshape(-1, 1, *masks.shape[2:])})


def run_mask_attention(case: Case) -> Results:
    """Attention maps, normalised over all heads."""
    _require(case, {"output": "(N, queries, heads, H, W)", "hidden": case.inputs()["q"].shape[-1]})
    inputs = case.inputs()
    module = MaskAttention(case.settings["nheads"])
    arguments = (inputs["q"], jnp.moveaxis(inputs["k"], 1, -1), ~inputs["mask"])
    return Results({"weights": _applied(case, module, "bbox_attention", "mask_attention", arguments)})


def _feature(x: jax.Array) -> Feature:
    return Feature(x, jnp.ones(x.shape[:3], bool))


def _require(case: Case, known: Mapping[str, Any]) -> None:
    for name, value in known.items():
        if case.settings.get(name, value) != value:
            raise GoldenError(f"{case.id}: the runner wants {name}={value!r}, not {case.settings[name]!r}")


def _applied(case: Case, module: nn.Module, published: str, ours: str, arguments: tuple[Any, ...]) -> jax.Array:
    """The module on its arguments, with the drawn weights."""
    like = jax.eval_shape(lambda: module.init(jax.random.key(0), *arguments))
    tensors = {f"{published}.{name}": value for name, value in case.weights().items()}
    params = from_published(tensors, like={"params": {ours: like["params"]}}, table=MASK_DETR)["params"][ours]
    return jax.jit(module.apply)({"params": params}, *arguments)


def run_mask_loss(case: Case) -> Results:
    """What `run_loss` gives, and the two losses of the masks with the gradient to the logits."""
    without = dict(run_loss(case).values)
    inputs, weights = case.inputs(), case.settings["weight_dict"]
    predictions = predictions_of(inputs, case.settings["aux_layers"])
    targets = targets_of(inputs, predictions.logits.shape[1])
    queries = jax.jit(partial(match, loss_of(case).cost))(predictions, targets).queries[ANSWER][-1]
    given = [np.asarray(inputs[f"target{i}.masks"]) for i in range(len(queries))]
    height, width = np.max([masks.shape[1:] for masks in given], axis=0)
    truth = np.zeros((*targets.labels.shape, height, width), bool)
    for whole, masks in zip(truth, given, strict=True):
        whole[: masks.shape[0], : masks.shape[1], : masks.shape[2]] = masks
    loss = MaskLoss(**{name: float(weights[official]) for name, official in MASKS.items()})

    def objective(masks: jax.Array) -> tuple[jax.Array, Any]:
        terms = loss(masks, targets, jnp.asarray(truth), queries)
        return loss.total(terms), terms

    (total, terms), gradient = jax.jit(jax.value_and_grad(objective, has_aux=True))(inputs["pred_masks"])
    values = {f"loss.{official}": np.asarray(terms[name].value)[-1] for name, official in MASKS.items()}
    values["loss.total_weighted"] = without["loss.total_weighted"] + np.asarray(total)
    return Results(without | values | {"grad.pred_masks": gradient})


def run_object_masks(case: Case) -> Results:
    """The mask of every query in pixels of the original images."""
    inputs = {name: np.asarray(value) for name, value in case.inputs().items()}
    _require(case, {"sizes_order": "height, width"})
    sizes, frame = inputs["max_target_sizes"].tolist(), tuple(inputs["max_target_sizes"].max(0).tolist())
    threshold = case.config.get("segm_threshold", 0.5)
    each = zip(inputs["pred_masks"], sizes, inputs["orig_target_sizes"].tolist(), strict=True)
    found = [object_masks(logits, frame, tuple(seen), tuple(size), threshold) for logits, seen, size in each]
    return Results({f"masks{i}": masks[:, None].astype(np.uint8) for i, masks in enumerate(found)})


def run_panoptic(case: Case) -> Results:
    """The segment of every pixel, and the segments."""
    inputs = {name: np.asarray(value) for name, value in case.inputs().items()}
    columns = ["id", "isthing", "category_id", "area"]
    _require(case, {"sizes_order": "height, width", "is_thing": "class id <= 90", "columns": columns})
    values = {}
    best = BestClass()(*(jnp.asarray(inputs[name]) for name in ("pred_logits", "pred_boxes", "target_sizes")))
    threshold = case.settings.get("threshold", 0.85)
    for i, logits in enumerate(inputs["pred_masks"]):
        sizes = (tuple(inputs[name][i].tolist()) for name in ("processed_sizes", "target_sizes"))
        queries = (np.asarray(best.scores[i]), np.asarray(best.labels[i]), Masks(logits, *sizes))
        found = panoptic(*queries, is_thing=is_thing, threshold=threshold)
        segments = np.array(found.segments, np.int64).reshape(-1, len(columns))
        values |= {f"ids{i}": found.ids, f"segments{i}": segments}
    return Results(values)
