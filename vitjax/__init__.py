"""vitjax: the vision-transformer family for detection and classification in JAX."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vitjax.inference.class_predictor import ClassPredictor
    from vitjax.inference.predictor import Predictor

__version__ = "0.1.0"
__all__ = ["__version__", "load"]


def load(path: str | Path, *, step: int | None = None) -> "Predictor | ClassPredictor":
    """The predictor of a run folder: of its best checkpoint, or of a step.

    Called with a path, a PIL image, a uint8 array, or a list of these, it tells what is on them.

    Raises:
        DataError: the folder is no run, or has no such checkpoint.
    """
    from vitjax.inference import predictor  # JAX is started by who predicts, not by who imports vitjax

    return predictor.load(path, step=step)
