"""The families that there are, each imported when it is asked for."""

import functools
import importlib
from typing import TYPE_CHECKING, Any

import flax.linen as nn

if TYPE_CHECKING:  # whoever trains needs no files of published models
    from vitjax.families.family import Family
    from vitjax.formats.tables import Variables

NAMES = (
    "detr",
    "mask_detr",
    "mask_deformable_detr",
    "mask_conditional_detr",
    "mask_dab_detr",
    "mask_dino",
    "deformable_detr",
    "dino",
    "conditional_detr",
    "dab_detr",
    "resnet",
    "crossformer",
    "efficientnet_lite",
    "classifier",
    "recurrent_attention",
    "segmenter",
)
"""Files of this room. A new family is one more, and nothing else here. Where files suit several, the first is taken."""


@functools.cache
def family_named(name: str) -> "Family":
    """The family in the file of this name.

    Raises:
        ValueError: there is none.
    """
    if name not in NAMES:
        raise ValueError(f"there is no family {name!r}; there are {', '.join(NAMES)}.")
    return importlib.import_module(f"vitjax.families.{name}").FAMILY


def family_of(model: nn.Module) -> "Family | None":
    """The family of a model; None of somebody's own, which names none of those here, and can be used as any other."""
    name = getattr(model, "family", None)
    return family_named(name) if name in NAMES else None


def every_family() -> "tuple[Family, ...]":
    """All of them, which imports all of them."""
    return tuple(family_named(name) for name in NAMES)


def detector_inside(model: nn.Module, variables: "Variables") -> tuple[nn.Module, dict[str, Any]]:
    """The detector of a model with masks, and its variables; any other model as it is."""
    family = family_of(model)
    if family is None or family.detector is None:
        return model, dict(variables)
    return family.detector(model, variables)
