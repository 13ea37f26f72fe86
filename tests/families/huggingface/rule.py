"""What the transformers library and vitjax compute the same of: weights, images and objects, drawn from names alone.

NumPy only, since it is also read where there is no JAX.
"""

import zlib
from typing import Any, NamedTuple

import numpy as np

RESNET = {"model_type": "resnet", "embedding_size": 8, "hidden_sizes": [32, 64], "depths": [1, 1]}
RESNET |= {"out_features": ["stage2"]}
SIZES = {"encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 2, "decoder_attention_heads": 2}
SIZES |= {"encoder_ffn_dim": 24, "decoder_ffn_dim": 24, "num_queries": 7, "backbone_config": RESNET}
SIZES |= {"id2label": {0: "cat", 1: "dog", 2: "emu"}}
CONDITIONAL, DAB = {"d_model": 32, **SIZES}, {"hidden_size": 32, **SIZES}
OTHERWISE = {"num_patterns": 2, "normalize_before": True, "keep_query_pos": True, "activation_function": "relu"}
OTHERWISE |= {"temperature_height": 10, "temperature_width": 10, "random_refpoints_xy": True}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "conditional_detr": ("ConditionalDetr", CONDITIONAL),
    "conditional_detr_learned": ("ConditionalDetr", CONDITIONAL | {"position_embedding_type": "learned"}),
    "dab_detr": ("DabDetr", DAB),
    "dab_detr_otherwise": ("DabDetr", DAB | OTHERWISE),
}
MAPS = {**RESNET, "hidden_sizes": [32, 64, 128, 256], "depths": [1, 1, 1, 1]}
MAPS |= {"out_features": ["stage1", "stage2", "stage3", "stage4"]}
MASKS: dict[str, Any] = {**SIZES, "encoder_layers": 1, "decoder_layers": 1, "backbone_config": MAPS, "d_model": 128}
MASKS |= {"num_queries": 3, "encoder_attention_heads": 8, "decoder_attention_heads": 8}
"""The settings of a DETR with masks: its channels are a multiple of 128, and with the heads of 8."""


class Objects(NamedTuple):
    """The objects of an image: labels, and boxes as cxcywh relative to it."""

    labels: np.ndarray
    boxes: np.ndarray


def normal(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Standard normal numbers that depend on the name alone."""
    generator = np.random.Generator(np.random.Philox(key=zlib.crc32(name.encode())))
    return generator.standard_normal(shape, dtype=np.float32)


def weight(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """The weights of this name, of which none is neutral and none makes what goes through it vanish or explode."""
    noise = normal(name, shape)
    if name.endswith("running_var"):
        return np.float32(0.5) + np.abs(noise)
    if "embeddings" in name or "patterns" in name:
        return noise
    if len(shape) > 1:
        return noise / np.float32(np.sqrt(np.prod(shape[1:])))
    return np.float32(0.3) * noise + np.float32("norm" in name and name.endswith("weight"))


def images() -> tuple[np.ndarray, np.ndarray]:
    """Two images, [2, height, width, 3], of which the second is padded below and on the right, and what is valid."""
    valid = np.ones((2, 48, 64), bool)
    valid[1, 29:] = valid[1, :, 51:] = False
    return normal("images", (*valid.shape, 3)) * valid[..., None], valid


def objects() -> tuple[Objects, Objects]:
    """Three objects in the first image, one in the second."""
    boxes = np.float32([[0.3, 0.4, 0.2, 0.3], [0.7, 0.6, 0.3, 0.5], [0.5, 0.2, 0.1, 0.1], [0.4, 0.5, 0.6, 0.7]])
    return Objects(np.array([0, 2, 2]), boxes[:3]), Objects(np.array([1]), boxes[3:])


def summary(name: str, gradient: np.ndarray) -> np.ndarray:
    """A gradient where it is a vector; of a matrix or more what it makes of a vector that is drawn for it."""
    if gradient.ndim < 2:
        return gradient
    rows = gradient.reshape(len(gradient), -1)
    return rows @ normal(f"{name}/summary", rows.shape[1:])
