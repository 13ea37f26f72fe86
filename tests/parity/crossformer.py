"""CrossFormer: classifiers, the backbone of detectors and segmenters, and its parts by themselves."""

import re
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vitjax.attention.lsda import LongShortDistanceAttention
from vitjax.attention.relative_position import DynamicPositionBias, offsets, pairs
from vitjax.backbones import crossformer
from vitjax.backbones.crossformer import CrossFormer, CrossFormerBlock
from vitjax.classification.classifier import Classifier
from vitjax.families.crossformer import NAMES as CROSSFORMER
from vitjax.formats.tables import from_published
from vitjax.layers.cross_scale_embedding import CrossScaleEmbedding
from vitjax.ops.groups import Grid, Grouping
from vitjax.structs import Images

from .comparison import Results
from .golden import Arrays, Case, GoldenError, Record

PUBLISHED = r"crossformer_(?P<backbone>det_|seg_)?(?P<size>(pp_)?(tiny|small|base|large|huge))(_v1branch)?"

# What the runner knows one value of; the published systems have no other.
ONLY: dict[str, tuple[Any, ...]] = {
    "in_chans": (3,),
    "qkv_bias": (True,),
    "qk_scale": (None,),
    "drop_rate": (0.0,),
    "attn_drop_rate": (0.0,),
    "drop": (0.0,),
    "attn_drop": (0.0,),
    "ape": (False,),
    "patch_norm": (True,),
    "use_cpe": (False,),
    "group_type": ("constant",),
}


def only_one(values: Any) -> Any:
    """The entry that all entries of a list are equal to, or the value that is no list.

    Raises: GoldenError where entries differ.
    """
    entries = list(values) if isinstance(values, (list, tuple)) else [values]
    if any(entry != entries[0] for entry in entries):
        raise GoldenError(f"the runner knows one value for all stages, not {values}")
    return entries[0]


def require_known(settings: Mapping[str, Any]) -> None:
    """Raises a GoldenError for a setting that the project's CrossFormer does not have."""
    for name, known in ONLY.items():
        if settings.get(name, known[0]) not in known:
            raise GoldenError(f"the runner does not know {name}={settings[name]}, only {known}")


def grouping_of(case: Case) -> Grouping:
    """The rules for groups: those of today's classifier or detector, or of either's code of 2021."""
    config, detector = case.config, is_backbone(case)
    if "_v1branch" in case.model:
        return Grouping(long_distance="whole" if detector else "stretched")
    long_distance = "stretched" if config.get("adaptive_interval", False) else "fixed"
    if detector:  # its code takes pad_type and no_mask and does not look at them
        config.read |= {"pad_type", "no_mask"}
        return Grouping(long_distance, small_maps="one")
    return Grouping(long_distance, pad=pad_of(config), masked=not config.get("no_mask", False))


def pad_of(settings: Mapping[str, Any]) -> Any:
    """Where maps are padded to whole groups."""
    pads = {0: "end", 1: "both"}
    if settings.get("pad_type", 0) not in pads:
        raise GoldenError(f"the runner knows pad_type 0 and 1, not {settings['pad_type']}")
    return pads[settings.get("pad_type", 0)]


def is_backbone(case: Case) -> bool:
    """Whether a case is about the network of detectors and segmenters, which differs in small ways."""
    return re.match(r"crossformer_(det|seg)_", case.model) is not None


def crossformer_of(case: Case) -> CrossFormer:
    """The CrossFormer that a manifest's `config` describes."""
    config = case.config
    require_known(config)
    stages = len(config["depths"])
    intervals = config["crs_interval"] if "crs_interval" in config else [1] * stages
    merges = config["merge_size"]
    if len(merges) not in (stages, stages - 1):
        raise GoldenError(f"{case.id}: {len(merges)} merges of {stages} stages")
    group_sizes = config["group_size"]
    return CrossFormer(
        channels=config["embed_dim"],
        depths=tuple(config["depths"]),
        heads=tuple(config["num_heads"]),
        group_sizes=tuple(group_sizes) if isinstance(group_sizes, list) else (group_sizes,) * stages,
        intervals=tuple(intervals),
        patch_kernels=tuple(config["patch_size"]),
        merge_kernels=tuple(only_one(merges)),
        expansion=float(only_one(config.get("mlp_ratio", 4.0))),
        drop_path=float(config.get("drop_path_rate", 0.0)),
        cooling=config.get("use_acl", False),
        grouping=grouping_of(case),
    )


def classifier_of(case: Case) -> Classifier:
    """The classifier that a manifest's `config` describes, with padding as the official code has it."""
    case.config.read |= {"img_size"}
    return Classifier(crossformer_of(case), case.config["num_classes"], padding="reference")


def published_crossformer(name: str) -> Classifier | CrossFormer:
    """The published network of a list of names: a classifier, or a backbone alone."""
    match = re.fullmatch(PUBLISHED, name)
    make = match and getattr(crossformer, f"crossformer_{match['size']}", None)
    if not match or make is None:
        raise GoldenError(f"the runner does not know a published CrossFormer of this name: {name}")
    return make() if match["backbone"] else Classifier(make(), num_classes=1000)


@cache
def crossformer_shapes(model: Classifier | CrossFormer) -> dict[str, Any]:
    """The model's variables without their numbers, a lone backbone's as those of a model's backbone."""
    images = Images(jnp.zeros((1, 32, 32, 3)), jnp.ones((1, 32, 32), bool))
    params = jax.eval_shape(lambda: model.init(jax.random.key(0), images, train=False))["params"]
    return {"params": params if isinstance(model, Classifier) else {"backbone": params}}


def crossformer_variables(case: Case, model: Classifier | CrossFormer) -> dict[str, Any]:
    """The drawn weights in the model's own tree; complete, and of its shapes."""
    params = from_published(case.weights(), like=crossformer_shapes(model), table=CROSSFORMER)["params"]
    return {"params": params if isinstance(model, Classifier) else params["backbone"]}


@cache
def classifier_forward(model: Classifier) -> Callable:
    """The compiled classifier, which also returns what embeddings and the last stage give, and what the head sees."""

    def run(variables: Any, images: Images) -> tuple[jax.Array, dict[str, Any]]:
        logits, state = model.apply(
            variables,
            images,
            train=False,
            mutable=["intermediates"],
            capture_intermediates=lambda module, method: (
                method == "__call__" and isinstance(module, (CrossScaleEmbedding, CrossFormer))
            ),
        )
        return logits, state["intermediates"]

    return jax.jit(run)


def tokens(x: Any) -> np.ndarray:
    """A map as a row of tokens."""
    return np.asarray(x).reshape(len(x), -1, np.shape(x)[-1])


def maps(x: jax.Array, height: int, width: int) -> jax.Array:
    """A row of tokens as a map."""
    return x.reshape(len(x), height, width, -1)


def run_classifier(case: Case) -> Results:
    """Logits, and what the stages give; officially a stage ends with the next one's embedding."""
    case.settings.read |= {"img_size"}
    model = classifier_of(case)
    logits, inner = classifier_forward(model)(crossformer_variables(case, model), case.images())
    backbone, stages = inner["backbone"], len(model.backbone.depths)
    embedded = [tokens(backbone[f"stage_{i + 1}"]["embedding"]["__call__"][0]) for i in range(stages)]
    outputs = [*embedded[1:], tokens(backbone["__call__"][0][-1].values)]
    values = {f"stage{i}": output for i, output in enumerate(outputs, start=1)}
    return Results(values | {"logits": logits, "pooled": inner["pooled"][0], "patch_embed": embedded[0]})


@cache
def crossformer_forward(model: CrossFormer) -> Callable:
    """The compiled backbone; compiled once per image size."""
    return jax.jit(lambda variables, images: model.apply(variables, images, padding="reference"))


def run_crossformer_backbone(case: Case) -> Results:
    """Every stage's map, and its mean and deviation per channel."""
    case.config.read |= {"img_size", "num_classes"}
    model = crossformer_of(case)
    values: Arrays = {}
    for stage, feature in enumerate(
        crossformer_forward(model)(crossformer_variables(case, model), case.images()), start=1
    ):
        rows = np.asarray(feature.values, np.float64)
        values[f"stage{stage}"] = np.moveaxis(np.asarray(feature.values), -1, 1)
        values |= {f"stage{stage}.chmean": rows.mean((0, 1, 2)), f"stage{stage}.chstd": rows.std((0, 1, 2))}
    return Results(values)


def variables_of_part(case: Case, published: str, path: str, module: Any, *arguments: Any, **options: Any) -> Any:
    """A part's variables from published tensors without their prefix; complete, and of the part's shapes."""
    like = jax.eval_shape(lambda: module.init(jax.random.key(0), *arguments, **options))["params"]
    for name in reversed(path.split("/")):
        like = {name: like}
    state = {f"{published}.{name}": value for name, value in case.weights().items()}
    params = from_published(state, like={"params": like}, table=CROSSFORMER)["params"]
    for name in path.split("/"):
        params = params[name]
    return {"params": params}


def run_embedding(case: Case) -> Results:
    """A cross-scale embedding of an image, or of a map between two stages."""
    settings, x = case.settings, case.inputs()["x"]
    case.settings.read |= {"output"}
    kernels = tuple(settings["patch_size"])
    if "input_resolution" in settings:
        module = CrossScaleEmbedding(2 * settings["dim"], kernels, settings["stride"], norm="before")
        x, published, stage = maps(x, *settings["input_resolution"]), "layers.0.downsample", "stage_2"
    else:
        module = CrossScaleEmbedding(settings["embed_dim"], kernels, settings["stride"], norm="after")
        x, published, stage = jnp.moveaxis(x, 1, -1), "patch_embed", "stage_1"
    variables = variables_of_part(case, published, f"backbone/{stage}/embedding", module, x)
    return Results({"tokens": tokens(jax.jit(module.apply)(variables, x))})


def run_position_bias(case: Case) -> Results:
    """The dynamic position bias of all offsets of a group."""
    settings, given = case.settings, case.inputs()["biases"]
    settings.read |= {"dim"}
    if not np.array_equal(given, offsets(tuple(settings["group"]))):
        raise GoldenError(f"{case.id}: other offsets than those of a group of {settings['group']}")
    module = DynamicPositionBias(settings["num_heads"], settings["hidden"], settings["residual"])
    path = "backbone/stage_1/block_0/attention/position_bias"
    variables = variables_of_part(case, "layers.0.blocks.0.attn.pos", path, module, given)
    return Results({"pos": jax.jit(module.apply)(variables, given)})


def run_group_attention(case: Case) -> Results:
    """Attention in groups that are handed in as such, each as a map of its own."""
    settings, inputs = case.settings, case.inputs()
    settings.read |= {"mask"}
    require_known(settings)
    sides = settings["group_size"]
    group = tuple(sides) if isinstance(sides, list) else (sides, sides)
    x = maps(inputs["x"], *group)
    if settings["dim"] != x.shape[-1]:
        raise GoldenError(f"{case.id}: tokens of {x.shape[-1]} channels, not {settings['dim']}")
    valid = None
    if "mask" in inputs:
        masks = np.asarray(inputs["mask"])
        if not (masks == masks[:, :1]).all():
            raise GoldenError(f"{case.id}: a mask that is not the same for all queries")
        valid = jnp.asarray(np.tile(masks[:, 0] == 0, (len(x) // len(masks), 1)).reshape(x.shape[:3]))
    module, grid = LongShortDistanceAttention(settings["num_heads"]), Grid(*group, group)
    path = "backbone/stage_1/block_0/attention"
    variables = variables_of_part(case, "layers.0.blocks.0.attn", path, module, x, grid, valid)
    y = jax.jit(lambda v, x: module.apply(v, x, grid, valid))(variables, x)
    return Results({"y": tokens(y), "relative_position_index": pairs(group)})


def run_block(case: Case) -> Results:
    """One block of short or long distance attention."""
    settings = Record(case.settings["kwargs"])
    settings.read |= {"drop_path", "num_patch_size"}  # neither makes a difference outside training
    require_known(settings)
    x = maps(case.inputs()["x"], *settings["input_resolution"])
    if settings["dim"] != x.shape[-1]:
        raise GoldenError(f"{case.id}: tokens of {x.shape[-1]} channels, not {settings['dim']}")
    long_distance = "stretched" if settings.get("adaptive_interval", False) else "fixed"
    module = CrossFormerBlock(
        settings["num_heads"],
        settings["group_size"],
        settings["interval"],
        long=settings["lsda_flag"] == 1,
        expansion=float(settings.get("mlp_ratio", 4.0)),
        cooling=settings.get("use_extra_conv", False),
        grouping=Grouping(long_distance, pad=pad_of(settings), masked=not settings.get("no_mask", False)),
    )
    if unknown := settings.unread():
        raise GoldenError(f"{case.id}: the runner does not know {', '.join(unknown)} of a block")
    path = "backbone/stage_1/block_0"
    variables = variables_of_part(case, "layers.0.blocks.0", path, module, x, train=False)
    return Results({"y": tokens(jax.jit(lambda v, x: module.apply(v, x, train=False))(variables, x))})
