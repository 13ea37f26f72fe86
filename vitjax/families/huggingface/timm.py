"""Folders of classifiers that timm has written: config.json names an architecture and says how images are cropped."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from vitjax.data.crops import CenterCrop
from vitjax.data.errors import DataError
from vitjax.families.huggingface.form import Settings
from vitjax.ops.images import DEVIATION, MEAN


def is_timm(config: Settings) -> bool:
    """Whether config.json is timm's, which names an `architecture`."""
    return config.get("model_type", "timm_wrapper") == "timm_wrapper" and isinstance(config.get("architecture"), str)


def crop_in(config: Settings, backbone: Any = None) -> tuple[CenterCrop, tuple[str, ...]]:
    """The crop that config.json asks for, and lines for people: which weights they are, and what is not the same.

    Raises:
        DataError: colours are normalised otherwise than the backbone does it, which is with the mean and deviation of
            ImageNet where it does not say.
    """
    given: Mapping[str, Any] = config.get("pretrained_cfg") or {}
    mean, deviation = getattr(backbone, "colours", (MEAN, DEVIATION))
    for option, only in (("mean", mean), ("std", deviation)):
        # timm has 0.5 for what was trained with 127 / 255 and 128 / 255.
        if (value := given.get(option)) is not None and not np.allclose(value, only, atol=3e-3):
            raise DataError(f"config.json has {option}={value}; here it is always {np.round(only, 3).tolist()}.")
    size, share = int((given.get("input_size") or (3, 224, 224))[1]), float(given.get("crop_pct") or 0.875)
    notes = [f"note: the weights are timm's {'.'.join(filter(None, (config['architecture'], given.get('tag'))))}"]
    if (curve := given.get("interpolation", "bicubic")) != "bicubic":
        notes.append(f"note: config.json has interpolation={curve!r}; here classifiers see images resized by bicubic")
    return CenterCrop(size=size, resize=max(size, int(size / share))), tuple(notes)
