"""Attention over maps: plain, non-local, dual and criss-cross attention, and the dense heads of the last two."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
from flax.traverse_util import flatten_dict, unflatten_dict

from vitjax.attention.criss_cross import CrissCrossAttention
from vitjax.attention.dual import ChannelAttention, PositionAttention
from vitjax.attention.non_local import NonLocal
from vitjax.attention.self_attention import SelfAttention
from vitjax.segmentation.criss_cross_head import CrissCrossHead
from vitjax.segmentation.dual_head import DualAttentionHead

from .comparison import Results
from .golden import Case, GoldenError
from .zoo import channels_first, channels_last, config_of, inputs_of, run_module, tensors_of

LEAVES = {"weight": "params/{}/kernel", "bias": "params/{}/bias"}
NORM_LEAVES = {
    "weight": "params/{}/scale",
    "bias": "params/{}/bias",
    "running_mean": "batch_stats/{}/mean",
    "running_var": "batch_stats/{}/var",
}
SELF = {
    "linear_q.weight": "params/query/kernel",
    "linear_k.weight": "params/key/kernel",
    "linear_v.weight": "params/value/kernel",
}
DUAL = {"conv5a": "position_in", "conv5c": "channel_in", "conv51": "position_out", "conv52": "channel_out"}
DUAL_CLASSES = {"conv6": "position_classes", "conv7": "channel_classes", "conv8": "classes"}
CRISS_CROSS = {"conva": "reduce", "convb": "gather", "bottleneck": "bottleneck"}


def run_self_attention(case: Case) -> Results:
    """One head without biases, on tokens."""
    config = config_of(case)
    module = SelfAttention(config["dim_k"], config["dim_v"])
    _require(case, dim_in=inputs_of(case)["x"].shape[-1])

    def forward(variables: dict[str, Any], inputs: dict[str, jax.Array]) -> dict[str, jax.Array]:
        y, sown = module.apply(variables, inputs["x"], mutable="intermediates")
        return {"y": y, "attention": sown["intermediates"]["attention"][0]}

    return run_module(case, forward, SELF.get, like=_shapes(module, inputs_of(case)["x"]))


def run_non_local(case: Case) -> Results:
    """A non-local block on one, two or three axes."""
    config = config_of(case)
    x = inputs_of(case)["x"]
    _require(case, in_channels=x.shape[1], dimension=x.ndim - 2)
    norm = "batch" if config["bn_layer"] else "none"
    module = NonLocal(config["variant"], config["sub_sample"], config["inter_channels"], norm)
    return _run_on_maps(case, module, _non_local_place, {"nl_map": ("attention",)})


def run_dual_attention(case: Case) -> Results:
    """Position or channel attention."""
    config = config_of(case)
    _require(case, in_dim=inputs_of(case)["x"].shape[1])
    if config["module"] == "PAM_Module":
        return _run_on_maps(case, PositionAttention(), _query_key_value, {"attention": ("attention",)})
    if config["module"] == "CAM_Module":
        return _run_on_maps(case, ChannelAttention(), _query_key_value, {"attention": ("channel_attention",)})
    raise GoldenError(f"{case.id}: the runner does not know the module {config['module']!r}")


def run_criss_cross(case: Case) -> Results:
    """Criss-cross attention, as many times as the case says."""
    config = config_of(case)
    _require(case, in_dim=inputs_of(case)["x"].shape[1])
    return _run_on_maps(
        case, CrissCrossAttention(config["recurrence"]), _query_key_value, {"attention_{}": ("attention",)}
    )


def run_dual_head(case: Case) -> Results:
    """The head of DANet with its three outputs."""
    config = config_of(case)
    _require(case, in_channels=inputs_of(case)["x"].shape[1], norm_layer="BatchNorm2d")
    maps = {
        "attention_pam": ("position_attention", "attention"),
        "attention_cam": ("channel_attention", "channel_attention"),
    }
    options = {"num_classes": config["out_channels"], "train": False}
    return _run_on_maps(case, DualAttentionHead(), _dual_place, maps, ("y_sum", "y_pam", "y_cam"), **options)


def run_criss_cross_head(case: Case) -> Results:
    """The head of CCNet, and what its attention gives."""
    config = config_of(case)
    _require(case, in_channels=inputs_of(case)["x"].shape[1])
    module = CrissCrossHead(hidden=config["out_channels"], passes=config["recurrence"])
    options = {"num_classes": config["num_classes"], "train": False}
    return _run_on_maps(case, module, _criss_cross_place, {"cca_out": ("attention", "__call__")}, ("y",), **options)


def _require(case: Case, **entries: Any) -> None:
    """Raises a GoldenError where the configuration says something else than these entries."""
    config = config_of(case)
    for name, value in entries.items():
        if config[name] != value:
            raise GoldenError(f"{case.id}: {name} is {config[name]!r}, and the runner knows only {value!r} here")


def _shapes(module: nn.Module, x: jax.Array, **options: Any) -> Any:
    """The shapes of our variables, without what is sown."""
    made = dict(jax.eval_shape(lambda: module.init(jax.random.key(0), x, **options)))
    return {name: made[name] for name in ("params", "batch_stats") if name in made}


def _run_on_maps(
    case: Case,
    module: nn.Module,
    naming: Callable[[str], str],
    maps: Mapping[str, tuple[str, ...]],
    outputs: Sequence[str] = ("y",),
    **options: Any,
) -> Results:
    """A module that takes a map, whose 1x1 convolutions are linear layers here.

    `maps` gives the paths of what is sown by published name, `{}` in a name stands for the place in the row of them.
    """
    shapes = flatten_dict(_shapes(module, channels_last(inputs_of(case)["x"]), **options), sep="/")
    linear = {place for place, leaf in shapes.items() if len(leaf.shape) == 2}
    spaces = {naming(name): (1,) * (tensor.ndim - 2) for name, tensor in tensors_of(case).items()}
    for place in linear:
        shapes[place] = jax.ShapeDtypeStruct(spaces.get(place, ()) + shapes[place].shape, shapes[place].dtype)

    def forward(variables: dict[str, Any], inputs: dict[str, jax.Array]) -> dict[str, jax.Array]:
        found = flatten_dict(variables, sep="/")
        found |= {place: found[place].reshape(found[place].shape[-2:]) for place in linear}
        y, sown = module.apply(
            unflatten_dict(found, sep="/"),
            channels_last(inputs["x"]),
            **options,
            mutable="intermediates",
            capture_intermediates=lambda part, _: part.name == "attention",
        )
        values = dict(zip(outputs, map(channels_first, y if isinstance(y, tuple) else (y,)), strict=True))
        for name, path in maps.items():
            for i, entry in enumerate(flatten_dict(sown["intermediates"])[path]):
                values[name.format(i)] = channels_first(entry) if path[-1] == "__call__" else entry
        return values

    return run_module(case, forward, naming, like=unflatten_dict(shapes, sep="/"))


def _query_key_value(name: str) -> str:
    """Where a tensor of position or criss-cross attention lives in ours."""
    if name == "gamma":
        return "params/gamma"
    layer, leaf = re.fullmatch(r"(query|key|value)_conv\.(\w+)", name).groups()
    return LEAVES[leaf].format(layer)


def _non_local_place(name: str) -> str:
    """Where a tensor of a non-local block lives in ours; the layers have a number if something follows them."""
    layer, number, leaf = re.fullmatch(r"(\w+?)\.(?:(\d)\.)?(\w+)", name).groups()
    if layer == "concat_project":
        return "params/pair"
    if layer == "W" and number == "1":
        return NORM_LEAVES[leaf].format("norm")
    return LEAVES[leaf].format({"theta": "query", "phi": "key", "g": "value", "W": "output"}[layer])


def _dual_place(name: str) -> str:
    """Where a tensor of DANet's head lives in ours."""
    layer, rest = name.split(".", 1)
    if layer in ("sa", "sc"):
        branch = "position_attention" if layer == "sa" else "channel_attention"
        return _query_key_value(rest).replace("params/", f"params/{branch}/")
    number, leaf = rest.split(".")
    if layer in DUAL_CLASSES:
        return LEAVES[leaf].format(DUAL_CLASSES[layer])
    return _conv_norm_place(DUAL[layer], number, leaf)


def _criss_cross_place(name: str) -> str:
    """Where a tensor of CCNet's head lives in ours."""
    layer, rest = name.split(".", 1)
    if layer == "cca":
        return _query_key_value(rest).replace("params/", "params/attention/")
    number, leaf = rest.split(".")
    return LEAVES[leaf].format("classes") if number == "3" else _conv_norm_place(CRISS_CROSS[layer], number, leaf)


def _conv_norm_place(layer: str, number: str, leaf: str) -> str:
    """A tensor of a convolution (0) or of the norm after it (1)."""
    return f"params/{layer}/conv/kernel" if number == "0" else NORM_LEAVES[leaf].format(f"{layer}/norm")
