"""Residual attention networks, affine grids with their sampler, and Swin's window attention."""

import re
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vitjax.attention.relative_position import RelativePositionBias, pairs
from vitjax.attention.residual_attention import PreactivationBlock, ResidualAttention
from vitjax.attention.window import WindowAttention
from vitjax.backbones.residual_attention import (
    ResidualAttentionNetwork,
    ran_56,
    ran_92,
    ran_92_cifar,
)
from vitjax.ops.affine import affine_grid, sample
from vitjax.structs import Images

from .comparison import Results
from .golden import Case, GoldenError
from .models import channel_statistics
from .zoo import channels_first, channels_last, config_of, cotangents_of, inputs_of, run_module

DEPTHS = {"stage0": 4, "stage1": 3, "stage2": 2, "stage3": 1, "stage1_cifar": 2, "stage2_cifar": 1, "stage3_cifar": 0}
NORM = {
    "weight": "params/{}/scale",
    "bias": "params/{}/bias",
    "running_mean": "batch_stats/{}/mean",
    "running_var": "batch_stats/{}/var",
}
HEAD = {"0": "mask_norm_1", "2": "mask_conv_1", "3": "mask_norm_2", "5": "mask_conv_2"}
ran_92_cifar_pool = partial(ran_92_cifar, stem="cifar_pool")
ran_448 = partial(ran_92, attention_modules=(1, 1, 2, 3), depths=(4, 3, 2, 1), channels=(128, 256, 512, 1024, 2048))
NETWORKS = {"ran92_cifar": ran_92_cifar, "ran92_cifar_pool": ran_92_cifar_pool}
CLASSES = {
    "ResidualAttentionModel_92_32input_update": ran_92_cifar,
    "ResidualAttentionModel_92_32input": ran_92_cifar_pool,
    "ResidualAttentionModel_56": ran_56,
    "ResidualAttentionModel_92": ran_92,
    "ResidualAttentionModel_448input": ran_448,
}


def require_known(config: dict[str, Any], known: set[str]) -> None:
    """Raises a GoldenError for an option that the runner does not know."""
    if unknown := config.keys() - known - {"reference", "layout", "outputs", "input", "provenance"}:
        raise GoldenError(f"the runner does not know the options {sorted(unknown)}")


def within(part: str, place: str | None) -> str | None:
    """A place among the variables of a module, as seen from the module that calls it `part`."""
    return place and place.replace("/", f"/{part}/", 1)


def layer_place(layer: str, leaf: str) -> str:
    """Where a tensor of a norm or a convolution lives in ours."""
    return f"params/{layer}/kernel" if "conv" in layer else NORM[leaf].format(layer)


def block_place(name: str, *, shortcut: bool) -> str | None:
    """Where a tensor of a residual block lives; `conv4` of a block with a plain shortcut is never used."""
    layer, _, leaf = name.partition(".")
    if layer == "conv4":
        return "params/shortcut_conv/kernel" if shortcut else None
    return layer_place(re.sub(r"^bn", "norm_", re.sub(r"^conv", "conv_", layer)), leaf)


def attention_place(name: str, depth: int) -> str | None:
    """Where a tensor of an attention module lives, after either of the two naming schemes."""
    part, _, rest = name.partition(".")
    inner, _, leaf = rest.partition(".")
    stages = {"first_residual_blocks": "first", "last_blocks": "last"}
    numbered = {"trunk_branches": "trunk", "middle_2r_blocks": "middle"}
    if match := re.fullmatch(r"softmax(\d)_blocks", part):
        n = int(match[1])
        stages |= {part: f"down_{n}" if n < depth else f"up_{2 * depth - n}"}
        numbered |= {part: "middle"} if n == depth else {}
        part = "conv1_1_blocks" if n == 2 * depth else part
    elif match := re.fullmatch(r"(down|up)_residual_blocks(\d)|(skip)(\d)_connection_residual_block", part):
        stages[part] = f"{match[1] or match[3]}_{match[2] or match[4]}"
    if part == "conv1_1_blocks":
        return layer_place(HEAD[inner], leaf)
    if part in numbered:
        return within(f"{numbered[part]}_{int(inner) + 1}", block_place(leaf, shortcut=False))
    return within(stages[part], block_place(rest, shortcut=False))


def network_place(name: str, model: ResidualAttentionNetwork) -> str | None:
    """Where a tensor of a whole network lives; the head is beside the backbone."""
    part, _, rest = name.partition(".")
    if part == "fc":
        return f"params/head/{'kernel' if rest == 'weight' else 'bias'}"
    if part in ("conv1", "mpool2"):
        layer = {"conv1.0": "stem_conv", "conv1.1": "stem_norm", "mpool2.0": "last_norm"}[f"{part}.{rest[0]}"]
        return within("backbone", layer_place(layer, rest[2:]))
    ours = dict(blocks_of(model))[part]
    if "attention" in ours:
        stage = int(ours.split("_")[1])
        return within("backbone", within(ours, attention_place(rest, model.depths[stage - 1])))
    shortcut = part not in [f"residual_block{len(model.depths) + i}" for i in range(2, model.last_blocks + 1)]
    return within("backbone", within(ours, block_place(rest, shortcut=shortcut)))


def blocks_of(model: ResidualAttentionNetwork) -> list[tuple[str, str]]:
    """Published and our names of a network's blocks and attention modules, in their order."""
    names = []
    for stage, count in enumerate(model.attention_modules, start=1):
        names.append((f"residual_block{stage}", f"stage_{stage}_block"))
        for i in range(1, count + 1):
            suffix = f"_{i}" if i > 1 else ""
            names.append((f"attention_module{stage}{suffix}", f"stage_{stage}_attention_{i}"))
    last = len(model.attention_modules)
    return names + [(f"residual_block{last + i}", f"last_block_{i}") for i in range(1, model.last_blocks + 1)]


def run_preactivation_block(case: Case) -> Results:
    """A residual block by itself."""
    config = config_of(case)
    require_known(config, {"input_channels", "output_channels", "stride"})
    stride, shortcut = config["stride"], config["stride"] != 1 or config["input_channels"] != config["output_channels"]
    module = PreactivationBlock(config["output_channels"], stride)
    like = jax.eval_shape(module.init, jax.random.key(0), channels_last(inputs_of(case)["x"]))
    return run_module(
        case,
        lambda variables, inputs: {"y": channels_first(module.apply(variables, channels_last(inputs["x"])))},
        lambda name: block_place(name, shortcut=shortcut),
        like=like,
    )


def run_residual_attention(case: Case) -> Results:
    """An attention module by itself, with its mask."""
    config = config_of(case)
    known = {"module", "in_channels", "out_channels", "size"} | {f"size{i}" for i in range(1, 5)}
    require_known(config, known)
    depth = DEPTHS[config["module"].removeprefix("AttentionModule_")]
    x = channels_last(inputs_of(case)["x"])
    for i, name in enumerate(sorted(key for key in config if key.startswith("size"))):
        if config[name] != (wanted := [-(-side // 2**i) for side in x.shape[1:3]]):
            raise GoldenError(f"the runner goes up to {wanted}, the size on the way down, not to {config[name]}")
    if config["in_channels"] != config["out_channels"]:
        raise GoldenError(f"an attention module keeps its channels; got {config}")
    module = ResidualAttention(depth)

    def forward(variables: dict[str, Any], inputs: dict[str, jax.Array]) -> dict[str, jax.Array]:
        y, sown = module.apply(variables, channels_last(inputs["x"]), mutable=["intermediates"])
        return {"y": channels_first(y), "mask": channels_first(sown["intermediates"]["mask"][0])}

    like = jax.eval_shape(module.init, jax.random.key(0), x)
    return run_module(case, forward, lambda name: attention_place(name, depth), like=like)


def run_residual_attention_network(case: Case) -> Results:
    """Logits, and what every block and mask gives; in float64 where the case wants gradients in it."""
    config = config_of(case)
    require_known(config, {"num_classes", "name", "size", "note"})
    if not case.name.endswith("float64"):
        return run_network(case, "float32")
    with jax.enable_x64(True):
        return run_network(case, "float64")


def shapes_of(model: ResidualAttentionNetwork, classes: int) -> dict[str, Any]:
    """Shapes of a network's variables with a linear head beside the backbone."""
    images = Images(jnp.zeros((1, 32, 32, 3)), jnp.ones((1, 32, 32), bool))
    shapes = {name: {"backbone": tree} for name, tree in jax.eval_shape(model.init, jax.random.key(0), images).items()}
    head = {"kernel": (model.channels[-1], classes), "bias": (classes,)}
    shapes["params"]["head"] = {name: jax.ShapeDtypeStruct(shape, jnp.float32) for name, shape in head.items()}
    return shapes


def run_network(case: Case, dtype: str) -> Results:
    """The case in one precision; batch norms have fixed statistics, which are computed in either."""
    model = NETWORKS[case.model.rpartition("/")[2]](norm="frozen_batch", dtype=dtype)
    classes = config_of(case).get("num_classes", 10)

    def forward(variables: dict[str, Any], inputs: dict[str, jax.Array]) -> dict[str, jax.Array]:
        variables = jax.tree.map(lambda leaf: leaf.astype(dtype), variables)
        pixels = channels_last(inputs["x"]).astype(dtype)
        images = Images(pixels, jnp.ones(pixels.shape[:3], bool))
        own = {name: tree["backbone"] for name, tree in variables.items()}
        options = {"mutable": ["intermediates"], "capture_intermediates": lambda *_: True}
        features, state = model.apply(own, images, **options)
        pooled, head = features[-1].values.mean((1, 2)), variables["params"]["head"]
        logits = jnp.dot(pooled, head["kernel"], precision="highest") + head["bias"]
        return {"logits": logits, "pooled": pooled} | inner_maps(model, state["intermediates"])

    def place(name: str) -> str | None:
        found = network_place(name, model)
        return found and re.sub(r"^(batch_stats|params)/(?=.*norm)", "frozen/", found)

    results = run_module(case, forward, place, like=shapes_of(model, classes))
    wanted = {name.rpartition(".")[0] for name in case.outputs if name.endswith((".chmean", ".chstd"))}
    statistics = [channel_statistics(name, results.values[name]) for name in wanted & results.values.keys()]
    return Results({name: value for values in (results.values, *statistics) for name, value in values.items()})


def inner_maps(model: ResidualAttentionNetwork, sown: dict[str, Any]) -> dict[str, jax.Array]:
    """What blocks, stages and masks give, under the published names and by their stage."""
    maps = {}
    for published, ours in blocks_of(model):
        maps[published] = channels_first(sown[ours]["__call__"][0])
        stage = ours.split("_")[1] if ours.startswith("stage") else str(len(model.attention_modules) + 1)
        maps |= {f"stage{stage}": maps[published], f"layer{stage}": maps[published]}
        if "attention" in ours:
            mask = channels_first(sown[ours]["mask"][0])
            maps |= {f"{published}.mask_mean": mask.mean((2, 3))}
            maps |= {f"{published}.mask": mask, f"stage{stage}.mask": mask, f"layer{stage}.mask": mask}
            maps |= {f"mask{stage}": mask, f"stage{stage}.last_mask": mask, f"layer{stage}.last_mask": mask}
    return maps


def run_open_sampler(case: Case) -> Results:
    """Grid and sampler of stn.pytorch, which order coordinates (y, x)."""
    config, inputs, cotangent = config_of(case), inputs_of(case), cotangents_of(case)["y"]
    require_known(config, {"height", "width", "base_grid", "sampler"})
    size = (config["height"], config["width"])

    def grid_of(theta: jax.Array) -> jax.Array:
        return affine_grid(theta[:, ::-1, jnp.array([1, 0, 2])], size, convention="open")[..., ::-1]

    def read(image: jax.Array, grid: jax.Array) -> jax.Array:
        return sample(image, grid[..., ::-1], convention="open")

    grid, by_theta = jax.vjp(grid_of, inputs["theta"])
    y, by_inputs = jax.vjp(read, inputs["image"], grid)
    grad_image, grad_grid = by_inputs(cotangent)
    values = {"grid": grid, "y": y, "grad_image": grad_image, "grad_grid": grad_grid}
    values |= {
        "grad_theta": by_theta(grad_grid)[0],
        "aux_loss": jnp.square(inputs["theta"] - jnp.eye(2, 3)).sum((1, 2)),
    }
    return Results({name: np.asarray(value) for name, value in values.items()})


def run_torch_sampler(case: Case) -> Results:
    """Grid and sampler of torch, in both of its conventions."""
    config, inputs = config_of(case), inputs_of(case)
    require_known(config, {"output_size"})
    cotangent = channels_last(cotangents_of(case)["y"])
    values = {}
    for name, convention in {"align_true": "corners", "align_false": "edges"}.items():

        def read(image: jax.Array, theta: jax.Array, convention: Any = convention) -> tuple[jax.Array, jax.Array]:
            grid = affine_grid(theta, tuple(config["output_size"]), convention=convention)
            return sample(channels_last(image), grid, convention=convention), grid

        y, back, grid = jax.vjp(read, inputs["image"], inputs["theta"], has_aux=True)
        grad_image, grad_theta = back(cotangent)
        found = {"grid": grid, "y": channels_first(y), "grad_image": grad_image, "grad_theta": grad_theta}
        values |= {f"{name}.{key}": np.asarray(value) for key, value in found.items()}
    return Results(values)


def run_window_attention(case: Case) -> Results:
    """Swin's window attention with its bias and its index."""
    config, inputs = config_of(case), inputs_of(case)
    require_known(config, {"dim", "num_heads", "window_size", "mask"})
    window = tuple(config["window_size"])
    module = WindowAttention(config["num_heads"], window)
    if config["mask"] != ("mask" in inputs):
        raise GoldenError(f"{case.id}: config.mask is {config['mask']}, and in.mask tells otherwise")
    names = {"qkv": "qkv", "proj": "output"}

    def place(name: str) -> str:
        layer, _, leaf = name.partition(".")
        if layer == "relative_position_bias_table":
            return "params/position_bias/table"
        return f"params/{names[layer]}/{'kernel' if leaf == 'weight' else 'bias'}"

    def forward(variables: dict[str, Any], inputs: dict[str, jax.Array]) -> dict[str, jax.Array]:
        y, sown = module.apply(variables, inputs["x"], inputs.get("mask"), mutable=["intermediates"])
        bias = RelativePositionBias(config["num_heads"], window)
        table = {"params": variables["params"]["position_bias"]}
        values = {"y": y, "attn": sown["intermediates"]["attention"][0]}
        return values | {"relative_position_bias": bias.apply(table, window, method="of_group")}

    like = jax.eval_shape(module.init, jax.random.key(0), inputs["x"])
    results = run_module(case, forward, place, like=like, tables=("relative_position_bias_table",))
    return Results({**results.values, "relative_position_index": pairs(window)})
