"""Whole models through the project's own modules: backbones, DETR, Deformable DETR and DINO."""

import re
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vitjax.backbones.crossformer import CrossFormer
from vitjax.backbones.resnet import ResNet
from vitjax.classification.classifier import Classifier
from vitjax.detection.deformable_detr import DeformableDETR
from vitjax.detection.detr import DETR
from vitjax.detection.dino import DINO
from vitjax.families import crossformer, deformable_detr, detr, dino, mask_detr
from vitjax.formats.tables import Table, from_published
from vitjax.segmentation.detr_masks import MaskDETR
from vitjax.structs import Images, Predictions

from .comparison import Results
from .crossformer import crossformer_shapes, published_crossformer
from .golden import Case, GoldenError

Detector = DETR | DeformableDETR | MaskDETR | DINO
Network = Detector | ResNet | CrossFormer | Classifier

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


def deformable_of(config: Mapping[str, Any]) -> DeformableDETR:
    """The Deformable DETR that a manifest's `config` describes, with padding as the official code has it."""
    levels, classes = config["num_feature_levels"], config["num_classes"]
    ordinary = config.get("position_embedding", "sine") == "sine" and config.get("num_class_logits", classes) == classes
    if config.get("masks") or not ordinary or levels not in (1, 3, 4, 5, 6):
        raise GoldenError(f"the runner does not know a Deformable DETR like this: {dict(config)}")
    return DeformableDETR(
        backbone=backbone_of(config),
        num_classes=classes,
        num_queries=config["num_queries"],
        channels=config["hidden_dim"],
        heads=config["nheads"],
        encoder_layers=config["enc_layers"],
        decoder_layers=config["dec_layers"],
        feed_forward=config["dim_feedforward"],
        dropout=config.get("dropout", 0.0),
        levels=levels,
        backbone_levels=min(levels, 3),
        encoder_points=config["enc_n_points"],
        decoder_points=config["dec_n_points"],
        refine=config["with_box_refine"],
        two_stage=config["two_stage"],
        padding="reference",
    )


def denoising_of(number: int) -> dict[str, int | None]:
    """Our fields for an official `dn_number`: below 50 that is half the number of groups, else of objects in them."""
    return {"denoising": number, "denoising_groups": 2 * number if 0 < number < 50 else None}


def dino_of(config: Mapping[str, Any], *, images: int) -> DINO:
    """The DINO that a manifest's `config` describes, with padding as the official code has it.

    So many `images` have groups of denoising queries of one size.
    """
    classes, channels, levels = config["num_classes"], config["hidden_dim"], config["num_feature_levels"]
    maps = len(config.get("return_interm_indices", [1, 2, 3]))
    ordinary = {
        "position_embedding": "sine", "pe_temperatureH": 20, "pe_temperatureW": 20, "num_class_logits": classes,
        "query_dim": 4, "two_stage_type": "standard", "two_stage_bbox_embed_share": False, "pre_norm": False,
        "two_stage_class_embed_share": False, "dec_pred_bbox_embed_share": True, "dec_pred_class_embed_share": True,
        "decoder_sa_type": "sa", "decoder_module_seq": ["sa", "ca", "ffn"], "transformer_activation": "relu",
        "box_sine_feats_per_coordinate": channels // 2,
    }  # fmt: skip
    other = {name: config[name] for name, value in ordinary.items() if config.get(name, value) != value}
    if other:
        raise GoldenError(f"the runner does not know a DINO like this: {other}")
    labels = config.get("dn_labelbook_size", classes)
    return DINO(
        backbone=backbone_of({"dilation": False, **config}),
        num_classes=classes,
        num_queries=config["num_queries"],
        channels=channels,
        heads=config["nheads"],
        encoder_layers=config["enc_layers"],
        decoder_layers=config["dec_layers"],
        feed_forward=config["dim_feedforward"],
        dropout=config.get("dropout", 0.0),
        levels=levels,
        backbone_levels=maps,
        encoder_points=config["enc_n_points"],
        decoder_points=config["dec_n_points"],
        mixed_selection=config.get("embed_init_tgt", True),
        look_forward_twice=not config.get("use_detached_boxes_dec_out", False),
        **denoising_of(config.get("dn_number", 100)),
        denoising_images=images,
        label_noise=config.get("dn_label_noise_ratio", 0.5),
        box_noise=config.get("dn_box_noise_scale", 1.0),
        labels=None if labels == classes else labels,
        padding="reference",
    )


def detector_of(config: Mapping[str, Any]) -> Detector:
    """The detector that a manifest's `config` describes; Deformable DETR is told by its feature levels."""
    return deformable_of(config) if "num_feature_levels" in config else detr_of(config)


def published_of(name: str) -> Network:
    """The published network of a list of names: `deformable_detr_r50_refine_two_stage`, `crossformer_pp_huge`."""
    if name.startswith("crossformer"):
        return published_crossformer(name)
    if scales := re.fullmatch(r"dino_r(\d+)_([45])scale", name):
        levels = int(scales[2])
        return DINO(backbone=ResNet(depth=int(scales[1])), num_classes=91, levels=levels, backbone_levels=levels - 1)
    match = re.fullmatch(r"(deformable_)?detr_r(\d+)(_single_scale)?(_dc5)?(_refine)?(_two_stage)?(_panoptic)?", name)
    if match is None:
        raise GoldenError(f"the runner does not know a published detector of this name: {name}")
    deformable, depth, single, dilated, refine, two_stage, segments = match.groups()
    backbone = ResNet(depth=int(depth), dilation=dilated is not None)
    if not deformable:
        return MaskDETR(DETR(backbone, num_classes=250)) if segments else DETR(backbone, num_classes=91)
    levels = {"levels": 1, "backbone_levels": 1} if single else {}
    variant = {"refine": refine is not None, "two_stage": two_stage is not None}
    return DeformableDETR(backbone=backbone, num_classes=91, **levels, **variant)


def nchw(x: Any) -> np.ndarray:
    """A map with its channels second, as the official code has them."""
    return np.moveaxis(np.asarray(x), -1, 1)


@cache
def shapes_of(model: Network) -> dict[str, Any]:
    """The model's variables without their numbers."""
    if isinstance(model, (Classifier, CrossFormer)):
        return crossformer_shapes(model)
    images = Images(jnp.zeros((1, 64, 64, 3)), jnp.ones((1, 64, 64), bool))
    train = {} if isinstance(model, ResNet) else {"train": False}
    return jax.eval_shape(lambda: model.init(jax.random.key(0), images, **train))


def table_for(model: Network) -> Table:
    """The published names of a model's parameters."""
    if isinstance(model, (Classifier, CrossFormer)):
        return crossformer.NAMES
    if isinstance(model, DINO):
        return dino.NAMES
    if isinstance(model, DeformableDETR):
        return deformable_detr.NAMES_REFINE if model.refine else deformable_detr.NAMES
    return mask_detr.NAMES if isinstance(model, MaskDETR) else detr.NAMES


def variables_of(case: Case, model: Detector | ResNet) -> dict[str, Any]:
    """The drawn weights in the model's own tree; complete, and of its shapes."""
    if not isinstance(model, ResNet):
        return from_published(case.weights(), like=shapes_of(model), table=table_for(model))
    like = {collection: {"backbone": tree} for collection, tree in shapes_of(model).items()}
    variables = from_published(case.weights(), like=like, table=table_for(model))
    return {collection: tree["backbone"] for collection, tree in variables.items()}


@cache
def backbone_forward(model: ResNet) -> Callable:
    """The compiled backbone; compiled once per image size."""
    return jax.jit(lambda variables, images: model.apply(variables, images, padding="reference"))


@cache
def forward(model: Detector) -> Callable:
    """The compiled model."""
    return jax.jit(lambda variables, images: model.apply(variables, images, train=False))


@cache
def detr_forward(model: DETR) -> Callable:
    """The compiled model, which also returns what it sows."""

    def run(variables: Any, images: Images) -> tuple[Predictions, dict[str, Any]]:
        predictions = model.apply(variables, images, train=False)
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
    model, images = detr_of(case.config), case.images()
    variables = variables_of(case, model)
    if not INNER & set(case.outputs):
        return Results(predicted(forward(model)(variables, images)))
    predictions, sown = detr_forward(model)(variables, images)
    inner = inner_values(sown)
    return Results(predicted(predictions) | dict(inner.values), inner.padding)


def inner_values(sown: Mapping[str, Any]) -> Results:
    """What the transformer sees and makes, of what a DETR has sown and the backbone's coarsest feature map."""
    mask = ~np.asarray(sown["feature"].valid)
    maps = {"src_proj": sown["projected"], "memory": sown["memory"].reshape(sown["projected"].shape)}
    maps |= {"pos_last": sown["positions"]}
    values = {name: nchw(value) for name, value in maps.items()} | {"hs": sown["queries"], "mask_last": mask}
    return Results(values, dict.fromkeys(maps, mask[:, None]))


@cache
def deformable_forward(model: DeformableDETR) -> Callable:
    """The compiled model, which also returns what it sows."""
    return jax.jit(lambda variables, images: model.apply(variables, images, train=False, mutable=["intermediates"]))


def run_deformable(case: Case) -> Results:
    """Predictions of every layer, and what the encoder and the decoder see and make on the way."""
    model = deformable_of(case.config)
    model = model.clone(num_queries=case.settings.get("num_queries_override", model.num_queries))
    case.settings.read.add("topk_min_gap")  # how sure the order of the proposals is
    predictions, state = deformable_forward(model)(variables_of(case, model), case.images())
    sown = state["intermediates"]
    mask = ~np.asarray(sown["tokens_valid"][0])
    values = {
        "hs": sown["queries"][0],
        "init_reference": sown["initial_reference"][0],
        "inter_references": np.stack(sown["decoder"]["references"]),
        "mask_flatten": mask,
        "valid_ratios": sown["valid_ratios"][0],
        "spatial_shapes": sown["level_shapes"][0],
    }
    tokens = {"memory": "memory", "encoder_input": "encoder_input", "level_pos_embed": "level_positions"}
    values |= {official: sown[name][0] for official, name in tokens.items()}
    padding = dict.fromkeys((*tokens, "enc_logits", "enc_boxes"), mask[..., None])
    if model.two_stage:
        proposals = predictions.sets["proposal"]
        values |= {"enc_logits": proposals.logits[0], "enc_boxes": proposals.boxes[0]}
        values |= {"enc_logits_class0": proposals.logits[0, ..., 0], "topk_proposals": sown["proposals"]["chosen"][0]}
    return Results(predicted(predictions) | values, padding | {"enc_logits_class0": mask})
