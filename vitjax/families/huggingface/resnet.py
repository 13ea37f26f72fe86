"""Residual networks in the settings of the transformers library, which has its own and takes those of timm."""

import re
from typing import Any

from vitjax.backbones.resnet import BLOCKS, ResNet
from vitjax.data.errors import DataError
from vitjax.families.huggingface.form import Backbone, Settings, require
from vitjax.families.parts import resnet_of


def backbone_in(config: Settings) -> tuple[ResNet, int]:
    """The backbone that config.json describes, and how many of its maps, the coarsest, the model takes.

    Raises:
        DataError: it is not a residual network that there is here.
    """
    inner = config.get("backbone_config") or _usual_backbone(config)
    kind = inner.get("model_type")
    if kind not in ("resnet", "timm_backbone"):
        raise DataError(f"config.json has a backbone of model_type={kind!r}; here there are ResNets only.")
    backbone = _own_resnet(inner) if kind == "resnet" else _timm_resnet(inner)
    stages = len(backbone.stage_blocks or BLOCKS[backbone.depth])
    return backbone, _maps(inner, stages)


def _usual_backbone(config: Settings) -> dict[str, Any]:
    """The settings of the backbone where config.json gives its name and some of its options at most."""
    given = config.get("backbone_kwargs") or {}
    if config.get("use_timm_backbone", True) is not False:
        require(given, where="backbone_kwargs", in_chans=3)
        usual = {
            "output_stride": 16 if config.get("dilation") else 32,
            "out_indices": [4] if config.get("num_feature_levels", 4) == 1 else [2, 3, 4],
        }
        return {**usual, **given, "model_type": "timm_backbone", "backbone": config.get("backbone")}
    name = config.get("backbone") or "microsoft/resnet-50"
    match = re.fullmatch(r"microsoft/resnet-(18|34|50|101)", name)
    if match is None:
        raise DataError(f"config.json has backbone={name!r}; here there are microsoft/resnet-18, -34, -50 and -101.")
    return {"model_type": "resnet", **given, **_sizes_of(ResNet(depth=int(match[1])))}


def _maps(inner: Settings, stages: int) -> int:
    """How many maps the backbone gives, which must be its coarsest."""
    indices = inner.get("out_indices")
    if indices is None and inner.get("out_features"):
        indices = [int(name[5:]) if name.startswith(("stage", "layer")) else 0 for name in inner["out_features"]]
    found = sorted(index % (stages + 1) for index in (indices or [stages]))
    if found != list(range(found[0], stages + 1)) or found[0] < 1:
        raise DataError(
            f"config.json has a backbone with out_indices={indices}; here they end with the last, {stages}."
        )
    return len(found)


def _timm_resnet(inner: Settings) -> ResNet:
    name, stride = inner.get("backbone") or "resnet50", inner.get("output_stride") or 32
    match = re.fullmatch(r"resnet(18|34|50|101)(\..*)?", name)
    if match is None:
        raise DataError(
            f"config.json has backbone={name!r}; here there are resnet18, resnet34, resnet50 and resnet101."
        )
    if stride not in (16, 32):
        raise DataError(f"config.json has a backbone with output_stride={stride}; here it is 32, or 16 (DC5).")
    return ResNet(depth=int(match[1]), dilation=stride == 16)


def _own_resnet(inner: Settings) -> ResNet:
    require(inner, where="backbone_config", hidden_act="relu", downsample_in_first_stage=False)
    require(inner, where="backbone_config", downsample_in_bottleneck=False, num_channels=3)
    bottleneck = inner.get("layer_type", "bottleneck") == "bottleneck"
    width = inner.get("embedding_size", 64)
    backbone = resnet_of(tuple(inner.get("depths", BLOCKS[50])), bottleneck=bottleneck, width=width)
    channels = list(inner.get("hidden_sizes", (256, 512, 1024, 2048)))
    if channels != (wanted := _sizes_of(backbone)["hidden_sizes"]):
        raise DataError(
            f"backbone_config has hidden_sizes={channels}; for embedding_size={width} they are {wanted} here."
        )
    return backbone


def _sizes_of(backbone: ResNet) -> dict[str, Any]:
    """The sizes of a residual network in the library's words."""
    blocks, bottleneck = backbone.stage_blocks or BLOCKS[backbone.depth], backbone.depth >= 50
    return {
        "embedding_size": backbone.width,
        "hidden_sizes": [backbone.width * 2**stage * (4 if bottleneck else 1) for stage in range(len(blocks))],
        "depths": list(blocks),
        "layer_type": "bottleneck" if bottleneck else "basic",
    }


def backbone_settings(backbone: Any, maps: int, *, dilated_maps: int) -> tuple[dict[str, Any], Backbone]:
    """What config.json says of a backbone of which a model takes so many maps, and whose ResNet it is.

    It is the library's own; where it is dilated, timm's, of which the library takes `dilated_maps`.

    Raises:
        DataError: the library has no such backbone.
    """
    if not isinstance(backbone, ResNet):
        raise DataError(f"transformers has no such model with a {type(backbone).__name__} for its backbone.")
    if backbone.norm == "group":
        raise DataError("transformers has no ResNet with norm='group', so it cannot be written for it.")
    if backbone.dilation:
        if backbone.width != 64 or backbone.stage_blocks or maps != dilated_maps:
            raise DataError(
                "transformers has ResNets with dilation=True only of the published widths, blocks and maps."
            )
        named = {"use_timm_backbone": True, "backbone": f"resnet{backbone.depth}", "dilation": True}
        return {**named, "use_pretrained_backbone": False}, "timm"
    sizes = _sizes_of(backbone)
    stages = len(sizes["depths"])
    names = [f"stage{stage}" for stage in range(max(1, stages - maps + 1), stages + 1)]
    inner = {"model_type": "resnet", **sizes, "out_features": names}
    own = {"use_timm_backbone": False, "backbone": None, "use_pretrained_backbone": False, "dilation": False}
    return {**own, "backbone_config": inner}, "transformers"
