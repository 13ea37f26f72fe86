"""What has another name today than in the run folders of earlier versions: read there, never written."""

from typing import Any

# Modules by their names then; one stands for every class in it.
_MODULES = {"vitjax.training.optimizer": "vitjax.runs.optimizer"}
# There was one experiment for all tasks; the room of its post-processing tells the task, whose experiment it is today.
_EXPERIMENT = "vitjax.training.experiment.Experiment"
_TASKS = {"classification": "Classification", "segmentation": "Segmentation"}
# A detector with masks was a detector, on data without masks.
_DETECTION, _MASKS = "vitjax.tasks.detection.Detection", "vitjax.tasks.masks.MaskDetection"
_WITH_MASKS = "vitjax.segmentation.detr_masks.MaskDETR"
_COCO = "vitjax.data.coco.CocoFolder"
_COCO_MASKS = "vitjax.data.coco_masks.CocoMasks"
# Fields that only classifiers have.
_OF_CLASSIFIERS = ("erasing", "mixing")


def renamed(kind: str, fields: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """The class and the fields of today for those of an earlier version; both as they are in JSON."""
    if kind == _EXPERIMENT:
        part = fields.get("postprocess")  # which may be anything, for nobody has looked at it
        room = str(_class_of(part) or "").split(".")[1:2]
        task = room[0] if room and room[0] in _TASKS else "detection"
        left_out = () if task == "classification" else _OF_CLASSIFIERS
        kept = {field: value for field, value in fields.items() if field not in left_out}
        return renamed(f"vitjax.tasks.{task}.{_TASKS.get(task, 'Detection')}", kept)
    if kind == _DETECTION and _class_of(fields.get("model")) == _WITH_MASKS:
        data = fields.get("data")
        data = {**data, "class": _COCO_MASKS} if isinstance(data, dict) and _class_of(data) == _COCO else data
        return _MASKS, {**fields, "data": data}
    module, _, name = kind.rpartition(".")
    return (f"{_MODULES[module]}.{name}" if module in _MODULES else kind), fields


def _class_of(part: Any) -> Any:
    return part.get("class") if isinstance(part, dict) else None
