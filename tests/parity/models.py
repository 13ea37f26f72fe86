"""Whole models through the project's own modules: backbones and DETR."""

import re
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vitjax.backbones.resnet import ResNet
from vitjax.checkpoints.published import from_published
from vitjax.detection.detr import DETR
from vitjax.structs import Images, Predictions

from .comparison import Results
from .golden import Case, GoldenError

INNER = {"hs", "memory", "src_proj", "mask_last", "pos_last"}


def backbone_of(config: Mapping[str, Any]) -> ResNet:
    """The backbone that a manifest's `config` describes."""
    depth = re.fullmatch(r"resnet(\d+)", config["backbone"])
    if depth is None or config.get("frozen_bn_eps", 1e-5) != 1e-5:
        raise GoldenError(f"the runner does not know a backbone like this: {dict(config)}")
    return ResNet(depth=int(depth[1]), dilation=config["dilation"])


def detr_of(config: Mapping[str, Any]) -> DETR:
    """The DETR that a manifest's `config` describes, with padding as the official code has it."""
    with_no_object = config["num_classes"] + 1
    if config.get("masks") or config.get("num_class_logits", with_no_object) != with_no_object:
        raise GoldenError(f"the runner does not know a DETR like this: {dict(config)}")
    return DETR(
        backbone=backbone_of(config),
        num_classes=config["num_classes"],
        num_queries=config["num_queries"],
        channels=config["hidden_dim"],
        heads=config["nheads"],
        encoder_layers=config["enc_layers"],
        decoder_layers=config["dec_layers"],
        feed_forward=config["dim_feedforward"],
        dropout=config.get("dropout", 0.0),
        pre_norm=config["pre_norm"],
        position=config["position_embedding"],
        padding="reference",
    )


def nchw(x: Any) -> np.ndarray:
    """A map with its channels second, as the official code has them."""
    return np.moveaxis(np.asarray(x), -1, 1)


@cache
def shapes_of(model: DETR | ResNet) -> dict[str, Any]:
    """The model's variables without their numbers."""
    images = Images(jnp.zeros((1, 64, 64, 3)), jnp.ones((1, 64, 64), bool))
    train = {"train": False} if isinstance(model, DETR) else {}
    return jax.eval_shape(lambda: model.init(jax.random.key(0), images, **train))


def variables_of(case: Case, model: DETR | ResNet) -> dict[str, Any]:
    """The drawn weights in the model's own tree; complete, and of its shapes."""
    if isinstance(model, DETR):
        return from_published(case.weights(), like=shapes_of(model))
    like = {collection: {"backbone": tree} for collection, tree in shapes_of(model).items()}
    variables = from_published(case.weights(), like=like)
    return {collection: tree["backbone"] for collection, tree in variables.items()}


@cache
def backbone_forward(model: ResNet) -> Callable:
    """The compiled backbone; compiled once per image size."""
    return jax.jit(lambda variables, images: model.apply(variables, images, padding="reference"))


@cache
def detr_forward(model: DETR, inner: bool = False) -> Callable:
    """The compiled model, which also returns what it sows if `inner` is set."""

    def run(variables: Any, images: Images) -> tuple[Predictions, dict[str, Any]]:
        predictions = model.apply(variables, images, train=False)
        if not inner:
            return predictions, {}
        # A second pass, because a model that sows attention weights computes them another way; XLA shares the backbone.
        options = {"mutable": ["intermediates"], "capture_intermediates": lambda module, _: isinstance(module, ResNet)}
        sown = model.apply(variables, images, train=False, **options)[1]["intermediates"]
        names = ("projected", "positions", "memory", "queries")
        return predictions, {name: sown[name][0] for name in names} | {"feature": sown["backbone"]["__call__"][0][-1]}

    return jax.jit(run)


def run_backbone(case: Case) -> Results:
    """Every stage's map, its mean and deviation per channel, and the resized pixel masks."""
    model = backbone_of(case.config)
    features = backbone_forward(model)(variables_of(case, model), case.images())
    values, padding = {}, {}
    for stage, feature in enumerate(features, start=1):
        mask = ~np.asarray(feature.valid)
        maps = nchw(feature.values)
        values |= {f"layer{stage}": maps, f"mask{stage}": mask} | channel_statistics(f"layer{stage}", maps)
        padding[f"layer{stage}"] = mask[:, None]
    return Results(values, padding)


def channel_statistics(name: str, maps: np.ndarray) -> dict[str, np.ndarray]:
    """Mean and standard deviation per channel of [batch, channels, height, width]."""
    rows = maps.astype(np.float64)
    return {f"{name}.chmean": rows.mean((0, 2, 3)), f"{name}.chstd": rows.std((0, 2, 3))}


def predicted(predictions: Predictions, prefix: str = "") -> dict[str, np.ndarray]:
    """Logits and boxes under the official names: the last layer, and the auxiliary ones stacked."""
    logits, boxes = np.asarray(predictions.logits), np.asarray(predictions.boxes)
    last = {"pred_logits": logits[-1], "pred_boxes": boxes[-1]}
    auxiliary = {"aux_logits": logits[:-1], "aux_boxes": boxes[:-1]}
    return {prefix + name: value for name, value in (last | auxiliary).items()}


def run_detr(case: Case) -> Results:
    """Predictions of every layer, and what the transformer sees and makes on the way."""
    model = detr_of(case.config)
    forward = detr_forward(model, inner=bool(INNER & set(case.outputs)))
    predictions, sown = forward(variables_of(case, model), case.images())
    values = predicted(predictions)
    if not sown:
        return Results(values)
    mask = ~np.asarray(sown["feature"].valid)
    maps = {"src_proj": sown["projected"], "memory": sown["memory"].reshape(sown["projected"].shape)}
    maps |= {"pos_last": sown["positions"]}
    values |= {name: nchw(value) for name, value in maps.items()} | {"hs": sown["queries"], "mask_last": mask}
    return Results(values, dict.fromkeys(maps, mask[:, None]))
