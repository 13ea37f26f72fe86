"""What has another name today than in the run folders of earlier versions: read there, never written."""

from typing import Any

# Modules by their names then; one stands for every class in it.
_MODULES = {
    "vitjax.training.experiment": "vitjax.runs.experiment",
    "vitjax.training.optimizer": "vitjax.runs.optimizer",
}
# Fields that a class of today no longer has, by the class.
_DROPPED: dict[str, tuple[str, ...]] = {}


def renamed(kind: str, fields: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """The class and the fields of today for those of an earlier version; both as they are in JSON."""
    module, _, name = kind.rpartition(".")
    today = f"{_MODULES.get(module, module)}.{name}"
    return today, {field: value for field, value in fields.items() if field not in _DROPPED.get(today, ())}
