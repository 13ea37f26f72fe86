"""Models that are not here but look like those that are: told by a name or a shape, and answered with advice."""

import re
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from vitjax.families.family import Tensors

_READ = (
    "what can be read is DETR, Deformable DETR, DINO, CrossFormer, EfficientNet-Lite, and ResNets as torchvision and "
    "timm have them"
)


class _Sign(NamedTuple):
    """A pattern in a tensor's name, whose it is, and what to do about it."""

    pattern: str
    kind: str
    advice: str = _READ


_SIGNS = (
    _Sign(r"relative_position_bias_table$", "a Swin Transformer"),
    _Sign(r"(^|\.)[sc]a_(qcontent|qpos|kcontent|kpos|v)_proj\.|(^|\.)refpoint_embed\.", "a Conditional or DAB-DETR"),
    _Sign(r"(^|\.)(label_enc|tgt_embed|enc_out_(class|bbox)_embed)\b", "a DN-DETR or DINO"),
    _Sign(r"(^|\.)(dec_score_head|enc_score_head|dec_bbox_head|denoising_class_embed)\b", "an RT-DETR"),
    _Sign(
        r"^(class_labels_classifier|bbox_predictor|model\.(query_position_embeddings|backbone\.conv_encoder|input_proj))\b",
        "a detector of the transformers library",
        "its settings stand in config.json: give the folder that has both, or the repository, facebook/detr-resnet-50",
    ),
    _Sign(
        r"(^|\.)embedder\.embedder\.(convolution|normalization)\.",
        "a ResNet of the transformers library",
        "give a file of torchvision, or timm/resnet50.tv_in1k from the Hugging Face hub",
    ),
    _Sign(
        r"(^|\.)(stem\.conv1|res[2-5]\.\d+\.(conv\d|shortcut))\.(norm\.)?",
        "a ResNet of detectron2",
        "give a file of torchvision, such as resnet50-0676ba61.pth",
    ),
    _Sign(r"(^|\.)(ffn\.layers|ffns\.\d+|bbox_head|mask_embed|decode_head)\.", "a model of mmdetection or its kin"),
    _Sign(
        r"(^|\.)conv1\.[36]\.weight$|(^|\.)downsample\.2\.(weight|running_mean)$",
        "a ResNet-D, of another stem and other shortcuts",
        "give the plain ResNet, such as resnet50-0676ba61.pth or timm/resnet50.tv_in1k",
    ),
    _Sign(r"(^|\.)layer\d\.\d+\.(se|se_module)\.", "a ResNet with squeeze-and-excitation of another code"),
    _Sign(
        r"(^|\.)_?blocks\.\d+\.(\d+\.)?(se\.|_se_)",
        "an EfficientNet or MobileNet with squeeze-and-excitation",
        "of these there is EfficientNet-Lite, which has none: efficientnet-lite0",
    ),
    _Sign(r"(^|\.)(cls_token|position_embeddings|embeddings\.cls_token)$|^blocks\.\d+\.attn\.qkv\.", "a ViT"),
    _Sign(r"(^|\.)patch_embed[1-4]\.", "a Pyramid Vision Transformer"),
    _Sign(r"(^|\.)(dwconv|conv_dw|depthwise_conv|layer_scale_parameter)\b", "a ConvNeXt or MobileNet"),
    _Sign(r"(^|\.)(rpn|roi_heads|roi_head|rpn_head)\.", "a Faster or Mask R-CNN"),
    _Sign(r"^(model\.)?(features\.\d+|conv_stem)\.", "a VGG, MobileNet or EfficientNet"),
    _Sign(r"^(model\.)+\d+\.", "a YOLO, or a row of layers without names"),
)


def near_family(tensors: Tensors, strange: Iterable[str]) -> str | None:
    """What these tensors most likely are and what to do, in a sentence; None where they look like nothing known.

    `strange` are the names that no family here knows.
    """
    names = [*strange]
    for sign in _SIGNS:
        if name := next((name for name in names if re.search(sign.pattern, name)), None):
            return f"the tensors are of {sign.kind} ({name}); {sign.advice}."
    kind = _other_resnet(tensors)
    return kind and f"the tensors are of {kind}; give the plain ResNet, such as resnet50-0676ba61.pth."


def _other_resnet(tensors: Tensors) -> str | None:
    """A ResNet that has the usual names with other shapes."""
    name = next((name for name in tensors if name.endswith("layer1.0.conv2.weight")), None)
    stem = name and tensors.get(name.replace("layer1.0.conv2", "conv1"))
    if name is None or stem is None or np.ndim(tensors[name]) != 4:
        return None
    out, into = np.shape(tensors[name])[:2]
    if into < out:
        return f"a ResNeXt, whose convolutions are in groups ({name} {np.shape(tensors[name])})"
    return f"a wide ResNet ({name} {np.shape(tensors[name])})" if out > np.shape(stem)[0] else None
