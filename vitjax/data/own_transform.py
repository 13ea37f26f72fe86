"""A user's own transform of training images: found by its name, called, and its answer looked at."""

import contextlib
import copy
import importlib
import inspect
import os
import random
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from types import ModuleType
from typing import Any

import numpy as np
from jaxtyping import Float

from vitjax.data.source import Classes, Sample
from vitjax.errors import FieldError

_CONFIG = "vitjax_config_"  # what the module of a loaded config begins with
_WISH = "name a function of a Sample, or an albumentations pipeline, as module.name or, of a config, by its name alone"


def found(name: str) -> Callable[..., Any]:
    """The function or pipeline of a name, such as `module.name`; one without dots is looked up in configs and scripts.

    A module that Python does not find is looked for in the working folder.

    Raises:
        FieldError: there is none, or it cannot be called.
    """
    if not all(part.isidentifier() for part in name.split(".")):
        raise FieldError(f"augmentation.own {name!r} is no dotted name; {_WISH}")
    path, _, last = name.rpartition(".")
    holders = [_module(name, path)] if path else _loaded()
    own = next((getattr(holder, last) for holder in holders if hasattr(holder, last)), None)
    if own is None or not callable(own) or isinstance(own, type):
        got = "there is no such thing" if own is None else f"it is {own!r}"
        raise FieldError(f"augmentation.own {name!r}: {got}; {_WISH}")
    return own


def transformed(
    sample: Sample, own: Callable[..., Any], name: str, rng: np.random.Generator, classes: Classes | None = None
) -> Sample:
    """What the user's transform makes of a sample; boxes end at the rim, and those without area are left out.

    What it draws from `rng`, from `random` or from NumPy's global generator is the same for the same `rng`.

    Raises:
        FieldError: what it gives is no sample, or of another size, or has a label that is none of the classes.
    """
    if _is_pipeline(own) and len(sample.boxes) and _boxes_of(own) is None:
        wish = "BboxParams(format='pascal_voc', label_fields=['labels'])"
        raise FieldError(f"augmentation.own {name!r}: the pipeline does not move boxes; give it bbox_params={wish}")
    given = copy.deepcopy(sample)  # which may be changed in place, and the source may keep its own
    if _is_pipeline(own) and sample.masks is not None:
        wish = "name a function of a Sample, whose masks it moves, too"
        raise FieldError(f"augmentation.own {name!r}: a pipeline drops boxes without their masks; {wish}")
    with _seeded(rng):
        if _is_pipeline(own):
            after = _through_pipeline(given, own, int(rng.integers(2**32)))
        else:
            after = own(given, rng) if _takes_two(own) else own(given)
    if problem := _problem(sample, after, classes):
        raise FieldError(f"augmentation.own {name!r} gave {problem}")
    height, width = sample.image.shape[:2]
    boxes = np.asarray(after.boxes, np.float32).reshape(-1, 4).clip(0, np.array([width, height] * 2, np.float32))
    kept = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    after = replace(after, boxes=boxes[kept], labels=np.asarray(after.labels, np.int32)[kept])
    if after.masks is None:
        return after
    from vitjax.data.masks import take  # which few data need

    return replace(after, masks=take(after.masks, kept))


def _problem(before: Sample, after: Any, classes: Classes | None) -> str | None:
    """What is wrong with an answer, and what would be right; None if nothing is."""
    if not isinstance(after, Sample):
        return f"{type(after).__name__}; give a Sample"
    for part, was, now in (("image", before.image, after.image), ("label_map", before.label_map, after.label_map)):
        if was is None and now is None:
            continue
        if not isinstance(now, np.ndarray) or was is None or now.shape != was.shape or now.dtype != np.uint8:
            is_now = f"{now.dtype} of shape {now.shape}" if isinstance(now, np.ndarray) else type(now).__name__
            wanted = "None" if was is None else f"uint8 of shape {was.shape}"
            return f"{part} {is_now}; give {wanted}, as it was, for the size is planned"
    boxes, labels = np.asarray(after.boxes), np.asarray(after.labels)
    if (before.masks is None) != (after.masks is None) or (
        after.masks is not None and after.masks.shape != (*before.image.shape[:2], -(-labels.size // 8))
    ):
        return "masks that are not those of its boxes; give them as vitjax.data.masks.pack has them, or None as it was"
    if boxes.size != 4 * labels.size or labels.ndim != 1 or not np.isfinite(boxes.astype(float)).all():
        return f"boxes of shape {boxes.shape} and labels of shape {labels.shape}; give finite (n, 4) and (n,)"
    top = len(classes) - 1 if classes else int(labels.max(initial=0))
    strange = [label for label in labels.tolist() if label not in range(top + 1)]
    return f"the label {strange[0]}; labels are whole numbers from 0 to {top}" if strange else None


def _through_pipeline(sample: Sample, pipeline: Any, seed: int) -> Sample:
    """The sample after an albumentations pipeline, whose own format of boxes and name of labels are kept to."""
    if hasattr(pipeline, "set_random_seed"):
        pipeline.set_random_seed(seed)
    params, given = _boxes_of(pipeline), {"image": sample.image}
    if sample.label_map is not None:
        given["mask"] = sample.label_map
    if params is None:
        after = pipeline(**given)
        return replace(sample, image=after["image"], label_map=after.get("mask"))
    boxes, fields = _to_format(sample, params.format), list(params.label_fields or ())
    given["bboxes"] = boxes if fields else np.concatenate([boxes, sample.labels[:, None]], 1)
    after = pipeline(**given, **{field: sample.labels.tolist() for field in fields})
    table = np.array([list(box) for box in after["bboxes"]], np.float64).reshape(-1, 4 if fields else 5)
    labels = np.array(after[fields[0]] if fields else table[:, 4], np.float64)
    boxes = _from_format(table[:, :4], params.format, sample.image.shape[:2])
    return Sample(after["image"], boxes, np.rint(labels).astype(np.int32), after.get("mask"))


def _to_format(sample: Sample, kind: str) -> Float[np.ndarray, "objects 4"]:
    height, width = sample.image.shape[:2]
    boxes = sample.boxes.astype(np.float64).clip(0, [width, height] * 2)
    low, high = boxes[:, :2], boxes[:, 2:]
    first, second = {"coco": (low, high - low), "yolo": ((low + high) / 2, high - low)}.get(kind, (low, high))
    boxes = np.concatenate([first, second], 1)
    return boxes / ([width, height] * 2) if kind in _RELATIVE else boxes


def _from_format(boxes: Float[np.ndarray, "objects 4"], kind: str, size: tuple[int, ...]) -> Float[np.ndarray, "n 4"]:
    boxes = boxes * ([size[1], size[0]] * 2) if kind in _RELATIVE else boxes
    first, second = boxes[:, :2], boxes[:, 2:]
    corners = {"coco": (first, first + second), "yolo": (first - second / 2, first + second / 2)}
    return np.concatenate(corners.get(kind, (first, second)), 1).astype(np.float32)


_RELATIVE = ("yolo", "albumentations")


def _is_pipeline(own: object) -> bool:
    """Whether it looks like an albumentations.Compose."""
    return hasattr(own, "processors") and hasattr(own, "transforms")


def _boxes_of(pipeline: Any) -> Any:
    """What a pipeline says of boxes, None where it says nothing."""
    return getattr(pipeline.processors.get("bboxes"), "params", None)


def _takes_two(own: Callable[..., Any]) -> bool:
    """Whether it takes a generator beside the sample."""
    try:
        inspect.signature(own).bind(None, None)
    except TypeError:
        return False
    except ValueError:  # written in C without a signature
        return False
    return True


@contextlib.contextmanager
def _seeded(rng: np.random.Generator) -> Iterator[None]:
    """Python's and NumPy's global generators begin as `rng` says, and go on afterwards as if nothing had been."""
    before = random.getstate(), np.random.get_state()
    seed = int(rng.integers(2**32))
    random.seed(seed)
    np.random.seed(seed)
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])


def _loaded() -> list[ModuleType]:
    """The configs that are loaded, the latest first, and the running script."""
    configs = [module for name, module in sys.modules.items() if name.startswith(_CONFIG)]
    return [*reversed(configs), *[sys.modules[name] for name in ("__main__",) if name in sys.modules]]


def _module(name: str, path: str) -> ModuleType:
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())  # which worker processes get, too
    try:
        return importlib.import_module(path)
    except ModuleNotFoundError as error:
        raise FieldError(f"augmentation.own {name!r}: {error}; {_WISH}") from error
