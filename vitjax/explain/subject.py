"""What is explained: a model with its variables, run on one image in the way that evaluation gives it."""

import dataclasses
import re
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import flax.linen as nn
import jax
import numpy as np
from jaxtyping import Float

from vitjax.data.crops import CenterCrop
from vitjax.data.memory import Picture
from vitjax.data.source import Classes
from vitjax.data.transforms import Resize
from vitjax.explain.seen_image import SeenImage, Size, see
from vitjax.families.known import detector_inside, family_of
from vitjax.ops.images import images_of
from vitjax.prediction import MaskRows, name_of
from vitjax.structs import Batch, MaskPredictions

Sown = Mapping[str, Any]  # what modules sow into `intermediates`, module by module
Explained = Literal["attention", "sampling", "groups"]


@dataclasses.dataclass(frozen=True)
class Subject:
    """A model with its variables, and how an image is prepared for it.

    Images are resized and padded to sides that are a multiple of `multiple`, or cropped. Detections are told to people
    from a score of `threshold`.
    """

    model: nn.Module
    variables: Mapping[str, Any]
    preprocess: Resize | CenterCrop
    classes: Classes
    multiple: int = 32
    threshold: float = 0.5
    whole: tuple[nn.Module, Mapping[str, Any]] | None = None
    """The model with masks that it is the detector of, and its variables; None where there is none."""

    @property
    def called(self) -> str:
        """The model and its backbone, in words."""
        parts = [part for part in (self.model, getattr(self.model, "backbone", None)) if part is not None]
        names = (type(part).__name__ for part in parts)
        return " with ".join(f"{'an' if name[0] in 'AEIO' else 'a'} {name}" for name in names)

    def has(self, what: Explained) -> bool:
        """Whether the model's family, or its backbone, says that this can be explained of it."""
        family, backbone = family_of(self.model), getattr(self.model, "backbone", None)
        return what in (family and family.explanation, getattr(backbone, "explanation", None))

    def run(
        self, picture: Picture, keep: Callable[[Any, Sown], Any], *, maps_of: str | None = None, masks: bool = False
    ) -> "Run":
        """The model on one image; `keep` takes what is needed of its answer and of what is sown.

        What modules whose name fits the pattern `maps_of` give is sown too, as `__call__`. With `masks` the whole of a
        model with masks is run, and its masks are in the answer.

        Raises:
            DataError: the image is missing or cannot be read.
        """
        image, batch = see(picture, self.classes, self.preprocess, multiple=self.multiple)
        given, variables = self.whole if masks and self.whole is not None else (self.model, self.variables)
        model = _without_remat(given)
        classifies = getattr(model, "task", None) == "classification"

        def called(module: nn.Module, method: str) -> bool:
            return maps_of is not None and method == "__call__" and bool(re.fullmatch(maps_of, module.name or ""))

        def kept(variables: Mapping[str, Any], batch: Batch) -> tuple[Any, Any, Any]:
            watched: dict[str, Any] = {"mutable": ["intermediates"], "capture_intermediates": called}
            answered: Any = model.apply(variables, images_of(batch), train=False, **watched)
            answer, state = answered
            maps, sown = None, state.get("intermediates", {})
            if isinstance(answer, MaskPredictions):
                maps = answer.masks[0], answer.valid[0], None if answer.queries is None else answer.queries[0]
                answer = answer.predictions
                sown = detector_inside(given, {"intermediates": sown})[1]["intermediates"]
            return keep(answer, sown), answer[0] if classifies else None, maps

        found, logits, maps = jax.device_get(jax.jit(kept)(variables, batch))
        padded = batch.pixels.shape[1], batch.pixels.shape[2]
        if logits is None:
            return Run(image, padded, found, masks=None if maps is None else _masks(image, *maps))
        odds = softmax(logits)
        best = int(odds.argmax())
        return Run(image, padded, found, name_of(self.classes, best), float(odds[best]))


class Run(NamedTuple):
    """One image, its (height, width) with padding, and what was kept; a classifier's answer and its probability, or
    what the queries of a model with masks cover."""

    image: SeenImage
    padded: Size
    kept: Any
    label: str = ""
    score: float | None = None
    masks: "OfQueries | None" = None


class OfQueries(NamedTuple):
    """Masks of some queries."""

    masks: MaskRows
    rows: dict[int, int]

    def get(self, query: int) -> Any:
        """The mask of a query, if it has one."""
        return self.masks[self.rows[query]] if query in self.rows else None


def _without_remat(model: Any) -> Any:
    """The model in which nothing is computed anew, so that what is sown comes once; parts inside it, too."""
    fields = {field.name: getattr(model, field.name) for field in dataclasses.fields(model) if field.name != "parent"}
    changed = {name: _without_remat(part) for name, part in fields.items() if isinstance(part, nn.Module)}
    return model.clone(**changed, **({"remat": False} if fields.get("remat") else {}))


def _masks(image: SeenImage, logits: np.ndarray, valid: np.ndarray, queries: np.ndarray | None) -> OfQueries:
    from vitjax.segmentation.masks import Masks

    shown: Any = logits[:, : int(valid.any(1).sum()), : int(valid.any(0).sum())]
    chosen = range(len(logits)) if queries is None else queries.tolist()
    return OfQueries(Masks(shown, image.size, image.original), {query: row for row, query in enumerate(chosen)})


def numbered(sown: Sown, name: str) -> list[Sown]:
    """What the parts `name_0`, `name_1` and so on of a module sow, in that order; none if there is no such module."""
    found = {int(key.removeprefix(f"{name}_")): part for key, part in sown.items() if re.fullmatch(rf"{name}_\d+", key)}
    return [found[number] for number in sorted(found)]


def softmax(logits: Float[np.ndarray, "*some classes"]) -> Float[np.ndarray, "*some classes"]:
    """The probabilities of the classes."""
    odds = np.exp(logits - logits.max(-1, keepdims=True))
    return odds / odds.sum(-1, keepdims=True)
