"""Deformable DETR's parts by themselves: sampling, attention, encoder and decoder layers, input projections."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from vitjax.attention.deformable import DeformableAttention
from vitjax.backbones.resnet import ResNet
from vitjax.detection.deformable_decoder import DeformableDecoderLayer
from vitjax.detection.deformable_detr import DeformableDETR
from vitjax.detection.deformable_encoder import DeformableEncoderLayer, Memory, token_places
from vitjax.detection.levels import project
from vitjax.detection.proposals import Proposals
from vitjax.families.deformable_detr import NAMES as DEFORMABLE_DETR
from vitjax.families.deformable_detr import NAMES_REFINE
from vitjax.formats.tables import from_published, to_published
from vitjax.ops.boxes import inverse_sigmoid
from vitjax.ops.padded_maps import valid_ratio
from vitjax.ops.sampling import Shapes, deformable_sampling
from vitjax.structs import Feature

from .comparison import Results
from .golden import Case, GoldenError, draw
from .models import nchw


def shapes_of_levels(rows: Any) -> Shapes:
    """Static (height, width) of each level."""
    return tuple((int(height), int(width)) for height, width in np.asarray(rows))


def apply_part(
    case: Case, module: nn.Module, arguments: list[Any], static: tuple[Any, ...], *, prefix: str, path: str
) -> np.ndarray:
    """The output of a part of the model, whose drawn weights the whole model has below `prefix` and we below `path`."""
    like = jax.eval_shape(lambda *x: module.init(jax.random.key(0), *x, *static), *arguments)["params"]
    for name in reversed(path.split("/")):
        like = {name: like}
    state = {f"{prefix}.{name}": value for name, value in case.weights().items()}
    params = from_published(state, like={"params": like}, table=DEFORMABLE_DETR)["params"]
    for name in path.split("/"):
        params = params[name]
    return np.asarray(jax.jit(lambda p, *x: module.apply({"params": p}, *x, *static))(params, *arguments))


def run_sampling(case: Case) -> Results:
    """The weighted sum of bilinear samples, and its gradients if there is a cotangent."""
    inputs = case.inputs()
    shapes = shapes_of_levels(inputs["spatial_shapes"])
    names = ("value", "sampling_locations", "attention_weights")

    def sample(value: jax.Array, locations: jax.Array, weights: jax.Array) -> jax.Array:
        out = deformable_sampling(value, shapes, locations, weights)
        return out.reshape(*out.shape[:2], -1)

    arguments = [inputs[name] for name in names]
    if "cotangent" not in inputs:
        return Results({"output": jax.jit(sample)(*arguments)})
    output, pull = jax.vjp(jax.jit(sample), *arguments)
    gradients = pull(inputs["cotangent"])
    return Results({"output": output} | {f"grad_{name}": x for name, x in zip(names, gradients, strict=True)})


def run_attention(case: Case) -> Results:
    """Deformable attention around reference points or boxes."""
    inputs, settings = case.inputs(), case.settings
    if settings["d_model"] != inputs["query"].shape[-1]:
        raise GoldenError(f"{case.id}: queries of {inputs['query'].shape[-1]} channels, not {settings['d_model']}")
    module = DeformableAttention(settings["n_heads"], settings["n_levels"], settings["n_points"])
    padding = inputs.get("padding_mask", jnp.zeros(inputs["input_flatten"].shape[:2], bool))
    arguments = [inputs["query"], inputs["reference_points"], inputs["input_flatten"], ~padding]
    shapes = shapes_of_levels(inputs["spatial_shapes"])
    names = {"prefix": "transformer.encoder.layers.0.self_attn", "path": "encoder/layer_0/self_attention"}
    return Results({"output": apply_part(case, module, arguments, (shapes,), **names)})


def run_deformable_layer(case: Case) -> Results:
    """One encoder or decoder layer."""
    inputs, settings = case.inputs(), case.settings
    if settings.get("activation", "relu") != "relu" or settings["d_model"] != inputs["src"].shape[-1]:
        raise GoldenError(f"{case.id}: the runner does not know a layer like this: {dict(settings)}")
    kind, layer, names = ("encoder", DeformableEncoderLayer, ("src", "pos"))
    if "tgt" in inputs:
        kind, layer, names = ("decoder", DeformableDecoderLayer, ("tgt", "query_pos"))
    module = layer(settings["n_heads"], settings["d_ffn"], levels=settings["n_levels"], points=settings["n_points"])
    padding = inputs.get("padding_mask", jnp.zeros(inputs["src"].shape[:2], bool))
    positionless = {names[1]: jnp.zeros_like(inputs[names[0]])}
    shapes = shapes_of_levels(settings["spatial_shapes"])
    memory = Memory(inputs["src"], ~padding, jnp.ones((len(padding), len(shapes), 2)), shapes)
    x, position, reference = ((positionless | inputs)[name] for name in (*names, "reference_points"))
    arguments = [memory, position, reference] if kind == "encoder" else [x, position, reference, memory]
    static = (False,) if kind == "encoder" else (None, None, False)
    path = {"prefix": f"transformer.{kind}.layers.0", "path": f"{kind}/layer_0"}
    y = apply_part(case, module, arguments, static, **path)
    return Results({"y": y}, {"y": padding[..., None]} if kind == "encoder" else {})


class _Projection(DeformableDETR):
    """The model's own projection of one map, and nothing else of it."""

    stride: int = 1

    @nn.compact
    def __call__(self, feature: Feature) -> Feature:
        return project(self, feature, 0, self.stride)


def run_input_projection(case: Case) -> Results:
    """The convolution that brings a map of the backbone, or a coarser one made of it, to the transformer's width."""
    weights, maps = case.weights(), jnp.moveaxis(case.inputs()["x"], 1, -1)
    channels, _, kernel, _ = weights["0.weight"].shape
    if kernel not in (1, 3):
        raise GoldenError(f"{case.id}: the model has no input projection with a kernel of {kernel}")
    module = _Projection(backbone=ResNet(), num_classes=1, channels=channels, stride=(kernel + 1) // 2)
    feature = Feature(maps, jnp.ones(maps.shape[:3], bool))
    like = jax.eval_shape(module.init, jax.random.key(0), feature)
    state = {f"input_proj.0.{name}": value for name, value in weights.items()}
    variables = from_published(state, like=like, table=DEFORMABLE_DETR)
    return Results({"y": nchw(jax.jit(module.apply)(variables, feature).values)})


def run_inverse_sigmoid(case: Case) -> Results:
    """The logit of a number, kept away from both ends."""
    return Results({"y": inverse_sigmoid(case.inputs()["x"], case.settings["eps"])})


def run_encoder_references(case: Case) -> Results:
    """Where every token is looked for on every level."""
    inputs = case.inputs()
    ratios, shapes = inputs["valid_ratios"], shapes_of_levels(inputs["spatial_shapes"])
    places = token_places(ratios, shapes)
    return Results({"reference_points": places[:, :, None] * ratios[:, None]})


def run_proposals(case: Case) -> Results:
    """What the tokens propose from, and the boxes around them before their change, as logits.

    The case says in words which weights it has: those that a two-stage model draws by their names.
    """
    inputs, shapes = case.inputs(), shapes_of_levels(case.settings["spatial_shapes"])
    case.settings.read.add("weights")
    valid = ~inputs.get("padding_mask", jnp.zeros(inputs["memory"].shape[:2], bool))
    ends = np.cumsum([height * width for height, width in shapes])[:-1]
    maps = zip(jnp.split(valid, ends, axis=1), shapes, strict=True)
    ratios = jnp.stack([valid_ratio(level.reshape(-1, *shape)) for level, shape in maps], axis=1)
    memory = Memory(inputs["memory"], valid, ratios, shapes)
    module = _Proposing()
    like = {"params": jax.eval_shape(module.init, jax.random.key(0), memory)["params"]}
    zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), like)
    names = to_published(zeros, table=NAMES_REFINE)
    drawn = {name: draw(name, value.shape) for name, value in names.items()}
    params = from_published(drawn, like=like, table=NAMES_REFINE)
    sown = jax.jit(lambda *x: module.apply(*x, mutable=["intermediates"])[1])(params, memory)["intermediates"]
    tokens, anchors = (np.asarray(sown["proposals"][name][0]) for name in ("tokens", "anchors"))
    infinite = np.isinf(anchors)
    values = {"output_memory": tokens, "proposals_are_inf": infinite}
    return Results(values | {"proposals_unact_inf_as_zero": np.where(infinite, 0, anchors)})


class _Proposing(nn.Module):
    """The model's own proposals, with heads that say nothing."""

    @nn.compact
    def __call__(self, memory: Memory) -> None:
        def nothing(tokens: jax.Array) -> jax.Array:
            return jnp.zeros((*tokens.shape[:2], 4))

        Proposals(1, name="proposals")(memory, nothing, nothing, None)
