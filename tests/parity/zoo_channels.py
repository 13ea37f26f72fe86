"""Squeeze-and-excitation: the gate, residual blocks that have it, and whole SE-ResNets."""

import re
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from vitjax.attention.squeeze_excitation import SqueezeExcitation
from vitjax.backbones.resnet import ResidualBlock, ResNet
from vitjax.classification.classifier import Classifier
from vitjax.structs import Images

from .comparison import Results
from .golden import Case, GoldenError
from .zoo import channels_first, channels_last, config_of, entry_of, inputs_of, run_module

NORM = {
    "weight": "params/{}/scale",
    "bias": "params/{}/bias",
    "running_mean": "batch_stats/{}/mean",
    "running_var": "batch_stats/{}/var",
}
GATE = {"fc.0.weight": "params/squeeze/kernel", "fc.2.weight": "params/excite/kernel"}
MODELS = {  # the reference's constructors
    "se_resnet20": dict(depth=20, stem="small", width=16, attention_stages=(1, 2, 3)),
    "se_resnet32": dict(depth=32, stem="small", width=16, attention_stages=(1, 2, 3)),
    "se_resnet56": dict(depth=56, stem="small", width=16, attention_stages=(1, 2, 3)),
    "se_resnet18": dict(depth=18, attention_stages=(1, 2, 3, 4)),
    "se_resnet34": dict(depth=34, attention_stages=(1, 2, 3, 4)),
    "se_resnet50": dict(depth=50, attention_stages=(1, 2, 3, 4)),
    "se_resnet101": dict(depth=101, attention_stages=(1, 2, 3, 4)),
}


def block_place(name: str) -> str:
    """Where a tensor of a residual block lives in ours."""
    if match := re.fullmatch(r"se\.(fc\.\d\.weight)", name):
        return GATE[match[1]].replace("params/", "params/attention/")
    if match := re.fullmatch(r"conv(\d)\.weight", name):
        return f"params/conv_{match[1]}/kernel"
    if match := re.fullmatch(r"bn(\d)\.(\w+)", name):
        return NORM[match[2]].format(f"norm_{match[1]}")
    if name == "downsample.0.weight":
        return "params/shortcut_conv/kernel"
    return NORM[name.removeprefix("downsample.1.")].format("shortcut_norm")


def model_place(name: str) -> str:
    """Where a tensor of a whole network lives in ours."""
    if match := re.fullmatch(r"layer(\d)\.(\d+)\.(.+)", name):
        return block_place(match[3]).replace("/", f"/backbone/stage_{match[1]}/block_{match[2]}/", 1)
    if name.startswith("fc."):
        return f"params/head/{'kernel' if name.endswith('weight') else 'bias'}"
    if name == "conv1.weight":
        return "params/backbone/stem_conv/kernel"
    return NORM[name.removeprefix("bn1.")].format("backbone/stem_norm")


def run_gate(case: Case) -> Results:
    """Squeeze and excitation by itself."""
    config = config_of(case)
    module = SqueezeExcitation(reduction=config["reduction"])
    x = channels_last(inputs_of(case)["x"])
    if x.shape[-1] != config["channel"]:
        raise GoldenError(f"{case.id}: a map of {x.shape[-1]} channels, not {config['channel']}")

    def forward(variables: dict[str, Any], inputs: dict[str, jax.Array]) -> Mapping[str, jax.Array]:
        y, sown = module.apply(variables, channels_last(inputs["x"]), mutable="intermediates")
        return {"y": channels_first(y), "gate": sown["intermediates"]["gate"][0]}

    like = jax.eval_shape(lambda: module.init(jax.random.key(0), x))
    return run_module(case, forward, GATE.get, like={"params": like["params"]})


def run_residual_block(case: Case) -> Results:
    """A basic block or a bottleneck with its gate; those of CIFAR are basic."""
    config = config_of(case)
    bottleneck = {"SEBottleneck": True, "SEBasicBlock": False}[config.get("block", "SEBasicBlock")]
    gate = SqueezeExcitation(reduction=config["reduction"])
    module = ResidualBlock(config["planes"], bottleneck, config["stride"], norm="batch", attention=gate)
    x = channels_last(inputs_of(case)["x"])
    if x.shape[-1] != config["inplanes"]:
        raise GoldenError(f"{case.id}: a map of {x.shape[-1]} channels, not {config['inplanes']}")
    valid = jnp.ones(x.shape[:3], bool)

    def forward(variables: dict[str, Any], inputs: dict[str, jax.Array]) -> Mapping[str, jax.Array]:
        (y, _), sown = module.apply(variables, channels_last(inputs["x"]), valid, train=False, mutable="intermediates")
        return {"y": channels_first(y), "gate": sown["intermediates"]["attention"]["gate"][0]}

    return run_module(case, forward, block_place, like=_variables(module, x, valid))


def run_se_resnet(case: Case) -> Results:
    """A whole classifier: logits, and per stage the last gate and the mean and deviation of each channel."""
    config = config_of(case)
    name = str(config["reference"]).partition("(")[0]
    if name not in MODELS:
        raise GoldenError(f"{case.id}: the runner knows {', '.join(MODELS)}, not {name}")
    gate = SqueezeExcitation(reduction=config.get("reduction", 16))
    backbone = ResNet(**MODELS[name], norm="batch", attention=gate)
    model = Classifier(backbone, config["num_classes"], norm=False)
    x = channels_last(inputs_of(case)["x"])
    valid = jnp.ones(x.shape[:3], bool)

    def forward(variables: dict[str, Any], inputs: dict[str, jax.Array]) -> Mapping[str, jax.Array]:
        logits, sown = model.apply(
            variables,
            Images(channels_last(inputs["x"]), valid),
            train=False,
            mutable="intermediates",
            capture_intermediates=lambda module, method: isinstance(module, ResNet) and method == "__call__",
        )
        inner = sown["intermediates"]["backbone"]
        values = {"logits": logits}
        for i, feature in enumerate(inner["__call__"][0], start=1):
            blocks = inner[f"stage_{i}"]
            values[f"layer{i}.last_gate"] = blocks[f"block_{len(blocks) - 1}"]["attention"]["gate"][0]
            values[f"layer{i}.chmean"] = feature.values.mean((0, 1, 2))
            values[f"layer{i}.chstd"] = feature.values.std((0, 1, 2))
        return values

    case.settings.read |= {"parameters", "aliases"}
    if (wanted := entry_of(case, "parameters")) is not None:
        shapes = _variables(model, Images(x, valid))["params"]
        found = sum(leaf.size for leaf in jax.tree.leaves(shapes))
        if found != wanted:
            raise GoldenError(f"{case.id}: {found} parameters, not {wanted}")
    return run_module(case, forward, model_place, like=_variables(model, Images(x, valid)))


def _variables(module: Any, *arguments: Any) -> dict[str, Any]:
    """The shapes of a module's parameters and statistics."""
    shapes = jax.eval_shape(lambda: module.init(jax.random.key(0), *arguments, train=False))
    return {name: shapes[name] for name in ("params", "batch_stats")}
