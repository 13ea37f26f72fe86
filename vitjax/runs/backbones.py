"""Whether the backbone in weights is that of a model: what each looks like, told by the names and shapes of arrays."""

import functools
import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

from vitjax.backbones import crossformer
from vitjax.backbones.efficientnet_lite import SIZES, scaled_stages
from vitjax.backbones.resnet import BLOCKS
from vitjax.data.errors import DataError

Shapes = dict[str, tuple[int, ...]]

_BELOW = re.compile(r"(?:params|frozen|batch_stats)/backbone/(.+)")
_STEM, _EMBEDDING = "stem_conv/kernel", "stage_1/embedding/norm/scale"  # what every ResNet, every CrossFormer has
_DEPTHWISE = "stage_1/block_0/depthwise_conv/kernel"  # what an EfficientNet-Lite has, and a ResNet has not
_DEPTHS = {**BLOCKS, 152: (3, 8, 36, 3)}
_SIZES = {  # the functions of vitjax.backbones, and what people call what they give
    **{size: f"CrossFormer-{size[0].upper()}" for size in ("tiny", "small", "base", "large")},
    **{f"pp_{size}": f"CrossFormer++-{size[0].upper()}" for size in ("small", "base", "large", "huge")},
}


def require_backbone(source: object, given: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Passes where the backbone in `given` is that of the model of `wanted`, or one of the two has none.

    Attention that is put into a backbone, and stages that the model leaves out at the end, may be on one side only.

    Raises:
        DataError: arrays of a backbone find no place, or a part of the model's finds none; what both look like is told.
    """
    theirs, ours = _below(given), _below(wanted)
    if not theirs or not ours:
        return
    stages = {_stage(path) for path in ours}
    used = {path: shape for path, shape in theirs.items() if _stage(path) in stages}
    placeless = [path for path in used if ours.get(path) != used[path]]
    missing = [path for path in ours if path not in used]
    there, here = called(theirs), called(ours)
    if not placeless and (not missing or called(used) == here):  # what a user's own class adds may start anew
        return
    counts = {"of its arrays find no place": len(placeless), "of those here would stay random": len(missing)}
    said = " and ".join(f"{count} {words}" for words, count in counts.items() if count)
    raise DataError(
        f"{source} looks like {there}, and the backbone here is {here}: {said}, such as "
        f"backbone/{(placeless or missing)[0]}. Give weights of {here}, or train a model that has the other."
    )


def called(backbone: Shapes) -> str:
    """What people call the backbone that has these arrays, by their paths in it."""
    if _DEPTHWISE in backbone:
        return _efficientnet_lite(backbone)
    if _STEM in backbone:
        return _resnet(backbone)
    return _crossformer(backbone) if _EMBEDDING in backbone else "a backbone of another class"


def _below(arrays: Mapping[str, Any]) -> Shapes:
    """The shapes of a backbone's arrays; of a ResNet without the attention that is put into it or stands in front."""
    found = {match[1]: tuple(leaf.shape) for path, leaf in arrays.items() if (match := _BELOW.fullmatch(path))}
    plugged = r"(.*/)?attention/.*|transformer/.*" if _STEM in found else r"transformer/.*"
    return {path: shape for path, shape in found.items() if not re.fullmatch(plugged, path)}


def _stage(path: str) -> str:
    """The stage that a path is in; what stands before the stages is one by itself, and a head for classifiers, too."""
    top = path.split("/")[0]
    return top if top.startswith("stage_") else "head" * top.startswith("head_")


def _blocks(backbone: Shapes) -> tuple[int, ...]:
    """The number of blocks in each stage."""
    found = {match.groups() for path in backbone if (match := re.match(r"stage_(\d+)/block_(\d+)/", path))}
    stages = Counter(int(stage) for stage, _ in found)
    return tuple(stages[stage] for stage in sorted(stages))


def _resnet(backbone: Shapes) -> str:
    blocks, bottleneck = _blocks(backbone), "stage_1/block_0/conv_3/kernel" in backbone
    depths = [depth for depth, usual in _DEPTHS.items() if usual == blocks and (depth >= 50) == bottleneck]
    kind = f"ResNet-{depths[0]}" if depths else f"a ResNet of {'+'.join(map(str, blocks))} blocks"
    kernel, width = backbone[_STEM][0], backbone[_STEM][-1]
    stem = "" if (kernel, width) == (7, 64) else f" with a {kernel}x{kernel} stem of {width} channels"
    return kind + stem + ("" if "stem_norm/mean" in backbone else " with group norms")


def _efficientnet_lite(backbone: Shapes) -> str:
    blocks = _blocks(backbone)
    ends = [backbone.get(f"stage_{i + 1}/block_{n - 1}/project_conv/kernel", (0,))[-1] for i, n in enumerate(blocks)]
    for number, size in SIZES.items():
        if [(stage.blocks, stage.channels) for stage in scaled_stages(*size)] == [*zip(blocks, ends, strict=True)]:
            return f"EfficientNet-Lite{number}"
    return f"an EfficientNet-Lite of {'+'.join(map(str, blocks))} blocks"


def _crossformer(backbone: Shapes) -> str:
    channels, cooling = backbone[_EMBEDDING][0], any("/cooling_" in path for path in backbone)
    sizes = (channels, _blocks(backbone), cooling)
    kind = f"a CrossFormer{'++' if cooling else ''}"
    return _published().get(sizes, f"{kind} of {'+'.join(map(str, sizes[1]))} blocks and {channels} channels")


@functools.cache
def _published() -> dict[tuple[int, tuple[int, ...], bool], str]:
    """The letters of the published sizes."""
    models = {name: getattr(crossformer, f"crossformer_{size}")() for size, name in _SIZES.items()}
    return {(model.channels, model.depths, model.cooling): name for name, model in models.items()}
