"""What preprocessor_config.json in a Hugging Face folder means here, and the reverse."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from vitjax.data.errors import DataError
from vitjax.data.transforms import Resize
from vitjax.families.huggingface.form import Settings, require
from vitjax.ops.images import DEVIATION, MEAN

_ANY_LENGTH = 1_000_000  # longest side of an image that has no limit: the library wants one


def resize_of(processor: Settings) -> tuple[Resize, tuple[str, ...]]:
    """The resize of preprocessor_config.json, and lines for people where it is not the same.

    Raises:
        DataError: colours are normalised otherwise than with the mean and deviation of ImageNet.
    """
    where = "preprocessor_config.json"
    require(processor, where=where, do_normalize=True, do_rescale=True)
    for option, only in (("image_mean", MEAN), ("image_std", DEVIATION)):
        if (value := processor.get(option)) is not None and not np.allclose(value, only, atol=1e-3):
            raise DataError(f"{where} has {option}={value}; here it is always {only.tolist()}.")
    if processor.get("do_resize") is False:
        return Resize(size=None), ()
    size = processor.get("size", {"shortest_edge": 800, "longest_edge": 1333})
    if not isinstance(size, Mapping):
        size = {"shortest_edge": size, "longest_edge": processor.get("max_size", 1333)}
    if "shortest_edge" in size:
        longest = size.get("longest_edge") or processor.get("max_size", 1333)
        return Resize(size["shortest_edge"], None if longest >= _ANY_LENGTH else longest), ()
    sides = sorted(side for side in size.values() if isinstance(side, int))
    if len(sides) != 2:
        raise DataError(f"{where} has size={dict(size)}; it should name shortest_edge and longest_edge.")
    note = f"note: {where} has size={dict(size)}; here images keep their shape, at most {sides[0]} x {sides[1]} pixels"
    return Resize(*sides), (note,)


def processor_of(resize: Resize, kind: str) -> dict[str, Any]:
    """What preprocessor_config.json says of a resize, for an image processor of a kind: "Detr" or "DeformableDetr"."""
    default = Resize()
    longest = (resize.max_side or _ANY_LENGTH) if resize.size else default.max_side
    return {
        "image_processor_type": f"{kind}ImageProcessor",
        "feature_extractor_type": f"{kind}FeatureExtractor",
        "do_resize": resize.size is not None,
        "size": {"shortest_edge": resize.size or default.size, "longest_edge": longest},
        "resample": 2,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": [round(float(value), 3) for value in MEAN],
        "image_std": [round(float(value), 3) for value in DEVIATION],
        "do_pad": True,
        "format": "coco_detection",
    }
