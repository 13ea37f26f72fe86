"""Single layers and operations: encoder and decoder layers, positions, box geometry, post-processing."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vitjax.detection.postprocess import BestClass, TopDetections
from vitjax.detection.transformer import DecoderLayer, EncoderLayer
from vitjax.families.detr import NAMES
from vitjax.formats.tables import from_published
from vitjax.layers.positions import LearnedPosition
from vitjax.ops import boxes
from vitjax.ops.positions import sine

from .comparison import Results
from .golden import Case, GoldenError
from .models import nchw


def run_layer(case: Case) -> Results:
    """One encoder or decoder layer, tokens first as the official code has them."""
    inputs, settings = case.inputs(), case.settings
    if settings.get("activation", "relu") != "relu":
        raise GoldenError(f"{case.id}: the layers know relu, not {settings['activation']}")
    kind, layer, tokens = ("encoder", EncoderLayer, ("src", "pos"))
    if "tgt" in inputs:
        kind, layer, tokens = ("decoder", DecoderLayer, ("tgt", "query_pos", "memory", "pos"))
    module = layer(settings["nheads"], settings["dim_feedforward"], pre_norm=settings["pre_norm"])
    published = {f"transformer.{kind}.layers.0.{name}": value for name, value in case.weights().items()}
    absent = {"pos": jnp.zeros_like(inputs[tokens[-2]]), "query_pos": jnp.zeros_like(inputs[tokens[0]])}
    arguments = [(absent | inputs)[name].swapaxes(0, 1) for name in tokens]
    masked = inputs.get("key_padding_mask", jnp.zeros(arguments[-1].shape[:2], bool))
    like = jax.eval_shape(lambda: module.init(jax.random.key(0), *arguments, ~masked, train=False))
    nested = {"params": {kind: {"layer_0": like["params"]}}}
    params = from_published(published, table=NAMES, like=nested)["params"][kind]["layer_0"]
    y = jax.jit(module.apply, static_argnames="train")({"params": params}, *arguments, ~masked, train=False)
    padding = {} if kind == "decoder" else {"y": masked.T[..., None]}
    return Results({"y": np.asarray(y).swapaxes(0, 1)}, padding)


def run_position(case: Case) -> Results:
    """Sine or learned position embeddings; those of Deformable DETR sit at pixel centres."""
    mask = case.inputs()["mask"]
    options: dict[str, Any] = dict(case.settings["kwargs"])
    channels = 2 * options.pop("num_pos_feats", case.config.get("num_pos_feats"))
    if "state_dict" in case.settings:
        published = {f"backbone.1.{name}": value for name, value in case.weights().items()}
        params = from_published(published, table=NAMES)["params"]["position"]
        position = LearnedPosition(channels, length=len(params["row"])).apply({"params": params}, ~mask)
    else:
        options.setdefault("normalize", False)
        options.setdefault("temperature", case.config.get("temperature", 10000))
        options = {k: float(v) if type(v) is int else v for k, v in options.items() if v is not None}
        options["offset"] = -0.5 if "deformable" in case.model else 0.0
        position = jax.jit(partial(sine, channels=channels, **options))(~mask)
    return Results({"pos": nchw(position)}, {"pos": mask[:, None]})


def run_boxes(case: Case) -> Results:
    """Box formats, IoU and its generalised form of all pairs; what the project has no use for is written out here."""
    return Results(jax.jit(_box_values)(case.inputs()))


def _box_values(inputs: dict[str, jax.Array]) -> dict[str, jax.Array]:
    values, corners = {}, {}
    for name in ("a", "b"):
        if f"boxes_{name}" in inputs:
            corners[name] = boxes.xyxy_from_cxcywh(inputs[f"boxes_{name}"])
            values |= {f"xyxy_{name}": corners[name], f"back_{name}": _cxcywh(corners[name])}
    if len(corners) == 2:
        a, b = corners["a"][:, None], corners["b"]
        values["iou"], values["union"] = boxes.iou(a, b)
        values["giou"] = boxes.generalized_iou(a, b)
    if "masks" in inputs:
        values["mask_boxes"] = _boxes_of_masks(inputs["masks"])
    return values


def _cxcywh(xyxy: jax.Array) -> jax.Array:
    low, high = xyxy[..., :2], xyxy[..., 2:]
    return jnp.concatenate([(low + high) / 2, high - low], axis=-1)


def _boxes_of_masks(masks: jax.Array) -> jax.Array:
    """Tight xyxy boxes in whole pixels; zeros for an empty mask."""
    sides = [masks.any(axis=1), masks.any(axis=2)]
    first = [side.argmax(1) for side in sides]
    last = [side.shape[1] - 1 - side[:, ::-1].argmax(1) for side in sides]
    return jnp.where(masks.any((1, 2))[:, None], jnp.stack([*first, *last], 1), 0).astype(jnp.float32)


def run_postprocess(case: Case) -> Results:
    """One box per query, or the best pairs of query and class, in pixels of the original image."""
    inputs, config = case.inputs(), case.config
    if case.settings.get("target_sizes_order", "height, width") != "height, width":
        raise GoldenError(f"{case.id}: sizes are (height, width), not {case.settings['target_sizes_order']}")
    if config.get("activation") not in (None, "softmax", "sigmoid"):
        raise GoldenError(f"{case.id}: the runner does not know the activation {config['activation']}")
    postprocess = TopDetections(k=config["top_k"]) if "top_k" in config else BestClass()
    detections = jax.jit(postprocess)(*(inputs[name] for name in ("pred_logits", "pred_boxes", "target_sizes")))
    return Results({"scores": detections.scores, "labels": detections.labels, "boxes": detections.boxes})
