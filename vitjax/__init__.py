"""vitjax: the vision-transformer family for detection, classification and segmentation in JAX."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vitjax.inference.class_predictor import ClassPredictor
    from vitjax.inference.predictor import Predictor
    from vitjax.inference.segment_predictor import SegmentPredictor

__version__ = "0.1.0"
__all__ = ["__version__", "load"]


def load(
    source: str | Path, *, step: int | None = None, config: str | None = None
) -> "Predictor | ClassPredictor | SegmentPredictor":
    """The predictor of a run folder, an official .pth or .safetensors file, or a Hugging Face folder or repository.

    Of a run its best checkpoint is taken, or that of a step; `config` is the config of a run that is made with classes
    of its user's own, and is run for them. Called with a path, a PIL image, a uint8 array, or a list
    of these, it tells what is on them.

    Raises:
        ValueError: there is no such model, or its tensors are not those of a model that is known.
    """
    from vitjax.inference import predictor  # JAX is started by who predicts, not by who imports vitjax

    return predictor.load(source, step=step, config=config)
