"""DETR with masks in the transformers library, which calls it DetrForSegmentation."""

import dataclasses
import functools
from typing import Any

from vitjax.data.errors import DataError
from vitjax.families import detr_huggingface
from vitjax.families.huggingface.form import Backbone, Settings
from vitjax.families.mask_detr import HEAD, within
from vitjax.formats.tables import Table
from vitjax.segmentation.detr_masks import MaskDETR

_PARTS = {"conv": "lay", "norm": "gn"}

# Names of the head in memory, as newer versions of the library have them, and in files.
_IN_MEMORY = {
    **{f"bbox_attention.{one}_proj.": f"bbox_attention.{one}_linear." for one in "qk"},
    **{f"mask_head.conv{n}.{theirs}.": f"mask_head.{ours}{n}." for n in (1, 2) for theirs, ours in _PARTS.items()},
    **{f"mask_head.fpn_stages.{n}.fpn_adapter.": f"mask_head.adapter{n + 1}." for n in range(3)},
    **{
        f"mask_head.fpn_stages.{n}.refine.{theirs}.": f"mask_head.{ours}{n + 3}."
        for n in range(3)
        for theirs, ours in _PARTS.items()
    },
    "mask_head.output_conv.": "mask_head.out_lay.",
}


@functools.cache
def names(backbone: Backbone) -> Table:
    """The names of its tensors: those of the detector below "detr.", and the published ones of the head."""
    inner = detr_huggingface.names(backbone)
    aliases = [(rf"detr\.{pattern}", f"detr.{beginning}") for pattern, beginning in inner.aliases]
    aliases += [(name.replace(".", r"\."), beginning) for name, beginning in _IN_MEMORY.items()]
    rules = (*(within("detr", rule) for rule in inner.rules), *HEAD)
    return Table(f"huggingface_mask_detr_{backbone}", rules, aliases=tuple(aliases))


_DETECTOR = detr_huggingface.FORM


def _model_of(config: Settings, fields: dict[str, Any], maps: int) -> MaskDETR:
    detector: Any = _DETECTOR.model_of(config, fields, maps)
    return MaskDETR(detector)


def _detector_of(model: MaskDETR) -> Any:
    if model.finer != 3 or model.relative_attention:
        raise DataError(
            "transformers has masks with finer=3 and relative_attention=False alone; this model cannot be written so."
        )
    return model.detr


FORM = dataclasses.replace(
    _DETECTOR,
    purpose="ForSegmentation",
    inside=_detector_of,
    model_of=_model_of,
    table_for=lambda _, backbone: names(backbone),
)
