"""A trained model as files that run without vitjax: one StableHLO program with the parameters inside."""

import dataclasses
import hashlib
import json
import os
import tempfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax import export

import vitjax
from vitjax.data.crops import CenterCrop
from vitjax.data.errors import DataError
from vitjax.data.transforms import Resize
from vitjax.export import run_exported
from vitjax.export.onnx import PACKAGES, converted, require_packages, runner
from vitjax.export.program import Outputs, Program, differences
from vitjax.families.model_file import ModelFile
from vitjax.ops.images import DEVIATION, MEAN
from vitjax.ops.kernels import without_kernels
from vitjax.placement import matmul_precision

PLATFORMS = ("cpu", "cuda", "tpu")
LIMIT = 1e-4
"""Largest difference from the model, as a share of an output's largest value, with which a program is kept."""

_PROGRAM, _ABOUT, _RUN, _ONNX = "model.bin", "model.json", "run.py", "model.onnx"
_FORMAT = "vitjax export 1"
_TASKS = ("detection", "masks", "classification")  # whose answers a Program tells
_MEANINGS = {
    "scores": "probability of each label",
    "labels": "index into classes",
    "boxes": "left, top, right, bottom in pixels of original_sizes",
    "logits": "before softmax or sigmoid",
    "masks": "logits of each detection's mask, above 0 where it is; they cover the frame, at the size of the output",
}
_RAW_BOXES = "centre x, centre y, width, height, as a share of the image without its padding"


@dataclasses.dataclass(frozen=True)
class Exported:
    """What was written: its size, how far each output is from the model's own, and lines for people."""

    out: Path
    bytes: int
    batch: str | int
    differences: dict[str, float]
    notes: tuple[str, ...] = ()


def export_model(
    file: ModelFile,
    out: Path,
    *,
    size: tuple[int, int] | None = None,
    batch_size: int | None = None,
    preprocess: bool = True,
    postprocess: bool = True,
    masks: bool = True,
    onnx: bool = False,
) -> Exported:
    """Writes the folder `out`: the program model.bin, its description model.json, and run.py, which runs it.

    `size` is the (height, width) of the frames that images come in, see `frame_of`. Without `batch_size` any number of
    images can be given at once. Of a model with masks the detector inside is exported where `masks` are not wanted. The
    program is compared with the model on this machine's CPU before anything is kept; an earlier export in `out` is
    replaced at the end, as a whole. With `onnx` there is model.onnx, too, for `batch_size` images or one, which is
    compared in onnxruntime in the same way.

    Raises:
        FieldError: jax2onnx, onnx or onnxruntime is not installed.
        DataError: the model is for another task, the program does not say what the model says, `out` is something
            else, or it cannot be written.
    """
    if (task := _task_of(file.model)) not in _TASKS:
        raise DataError(f"export writes detectors and classifiers; a {task} model runs with vitjax only.")
    if onnx:
        require_packages()
    given, file = file, file if masks else file.without_masks()
    height, width = frame_of(file.resize) if size is None else size
    _check(out, height, width, batch_size)
    variables = jax.tree.map(np.asarray, file.variables)
    program = Program(file.model, variables, height, width, preprocess, file.postprocess if postprocess else None)
    with matmul_precision(file.matmul_precision), without_kernels():
        exported, notes = _traced(program, batch_size)
    notes = (*file.notes[len(given.notes) :], *notes)
    content = bytes(exported.serialize())
    several = 1 if getattr(file.model, "makes_masks", False) else 2  # masks take a gigabyte and more an image
    found = _compared(program, content, batch_size=several if _is_symbolic(exported) else exported.in_avals[0].shape[0])
    about = _description(file, program, exported) | {
        "sha256": hashlib.sha256(content).hexdigest(),
        "parity": {"platform": "cpu", "limit": LIMIT, "differences": found},
        "notes": [*given.notes, *notes],
    }
    files = {_PROGRAM: content, _ABOUT: _as_json(about)}
    if onnx:
        with matmul_precision(file.matmul_precision), without_kernels():
            files[_ONNX], about["onnx"] = _onnx(program, batch_size or 1)
        files[_ABOUT] = _as_json(about)
        found = {name: max(value, about["onnx"]["differences"][name]) for name, value in found.items()}
    if preprocess and postprocess:
        files[_RUN] = Path(run_exported.__file__).read_bytes()
    _write(out, files)
    return Exported(out, sum(map(len, files.values())), about["batch"], found, notes)


def _as_json(about: dict[str, Any]) -> bytes:
    return (json.dumps(about, indent=1, ensure_ascii=False) + "\n").encode()


def _onnx(program: Program, batch_size: int) -> tuple[bytes, dict[str, Any]]:
    """The ONNX file and what model.json says of it.

    Raises:
        DataError: it cannot be made, or differs from the model.
    """
    content = converted(program, batch_size)
    found = _within_limit(differences(program, runner(content), batch_size), "ONNX file")
    versions = {name: version(name) for name in PACKAGES}
    return content, {"batch": batch_size, "differences": found, "versions": versions}


def _task_of(model: Any) -> str:
    """What a model is for; one that does not say is a detector, as everywhere."""
    return getattr(model, "task", "detection")


def frame_of(resize: Resize | CenterCrop) -> tuple[int, int]:
    """The (height, width) that a model is exported for where nobody says another.

    A classifier's is the square that it is scored on. A detector's holds a photograph of 4:3 as it is scored; sides
    are multiples of 32.

    Raises:
        DataError: the evaluation leaves images as they are, so that there is no such size.
    """
    if isinstance(resize, CenterCrop):
        return resize.size, resize.size
    if resize.size is None:
        raise DataError("this model sees images as they are, of any size; give the --size HEIGHT WIDTH of its frames.")
    height, width = (-(-side // 32) * 32 for side in (resize.size, -(-resize.size * 4 // 3)))
    return height, width


def _check(out: Path, height: int, width: int, batch_size: int | None) -> None:
    if min(height, width) < 1:
        raise DataError(f"size is height and width in pixels, at least 1; got {height} {width}.")
    if batch_size is not None and batch_size < 1:
        raise DataError(f"batch_size is a number of images, at least 1; got {batch_size}.")
    if out.exists() and not (out / _ABOUT).is_file() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(f"{out} is there and is no exported model; give a folder that is new or empty.")


def _traced(program: Program, batch_size: int | None) -> tuple[export.Exported, tuple[str, ...]]:
    """The program for any batch or the one given; for one image, with a note, where the model cannot take any."""
    if batch_size is not None:
        return _export(program, batch_size), ()
    try:
        return _export(program, export.symbolic_shape("b")[0]), ()
    # Python code that asks for a number, len() or a comparison, has none: the model itself may be in order.
    except (TypeError, ValueError, NotImplementedError, jax.errors.InconclusiveDimensionOperation) as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        note = f"the batch is fixed to 1 image, because the model needs a number ({reason}); see batch_size"
        return _export(program, 1), (note,)


def _export(program: Program, batch: Any) -> export.Exported:
    specs = [jax.ShapeDtypeStruct(each.shape, np.dtype(each.dtype)) for each in program.inputs(batch)]
    return export.export(jax.jit(lambda *inputs: program(*inputs)), platforms=PLATFORMS)(*specs)


def _is_symbolic(exported: export.Exported) -> bool:
    return not isinstance(exported.in_avals[0].shape[0], int)


def _compared(program: Program, content: bytes, *, batch_size: int) -> dict[str, float]:
    """The differences of the program, read back from its bytes; on the CPU, where float32 is computed in full.

    Raises:
        DataError: one is above the limit, or is no number.
    """
    try:
        device = jax.local_devices(backend="cpu")[0]
    except RuntimeError as error:
        raise DataError(f"the parity check needs the CPU; add cpu to JAX_PLATFORMS ({error}).") from error
    call: Callable[..., Outputs] = jax.jit(export.deserialize(bytearray(content)).call)
    with jax.default_device(device):
        return _within_limit(differences(program, call, batch_size), "program")


def _within_limit(found: dict[str, float], what: str) -> dict[str, float]:
    """The differences.

    Raises:
        DataError: one is above the limit, or is no number.
    """
    name = max(found, key=lambda each: (np.isnan(found[each]), found[each]))
    if not found[name] <= LIMIT:
        raise DataError(
            f"the exported {what} differs from the model: {name} by {found[name]:.1e} of its largest value, "
            f"where {LIMIT:.0e} is allowed. Nothing was written."
        )
    return found


def _description(file: ModelFile, program: Program, exported: export.Exported) -> dict[str, Any]:
    """What model.json says of the program."""
    batch = "b" if _is_symbolic(exported) else exported.in_avals[0].shape[0]
    outputs = jax.tree.unflatten(exported.out_tree, exported.out_avals)
    meanings = _MEANINGS if program.postprocess else _MEANINGS | {"boxes": _RAW_BOXES}
    return {
        "format": _FORMAT,
        "task": _task_of(file.model),
        "model": type(file.model).__name__,
        "batch": batch,
        "height": program.height,
        "width": program.width,
        "inputs": [each._asdict() for each in program.inputs(batch)],
        "outputs": [_output(name, outputs[name], meanings[name]) for name in sorted(outputs)],
        "preprocessing": program.preprocess,
        "postprocessing": program.postprocess is not None,
        "mean": MEAN.tolist(),
        "deviation": DEVIATION.tolist(),
        "resize": _resizing(file.resize, program.height, program.width),
        "scores": file.postprocess.scores,
        "threshold": getattr(file.postprocess, "threshold", 0.0),
        "classes": file.classes.names,
        "category_ids": file.classes.category_ids,
        "platforms": exported.platforms,
        "calling_convention": exported.calling_convention_version,
        "versions": {"vitjax": vitjax.__version__} | {name: version(name) for name in ("jax", "jaxlib", "flax")},
    }


def _output(name: str, aval: Any, meaning: str) -> dict[str, Any]:
    shape = [side if isinstance(side, int) else str(side) for side in aval.shape]
    return {"name": name, "shape": shape, "dtype": str(aval.dtype), "meaning": meaning}


def _resizing(resize: Resize | CenterCrop, height: int, width: int) -> dict[str, int | None]:
    """What is done to an image before it comes into its frame."""
    if isinstance(resize, CenterCrop):
        crop: dict[str, int | None] = {"crop_from": -(-resize.resize * max(height, width) // resize.size)}
        return crop | ({"nearest": True} if resize.nearest else {})
    return {"shorter": resize.size, "longest": resize.max_side}


def _write(out: Path, files: dict[str, bytes]) -> None:
    """The folder with these files: all of them or, where it cannot be written, what was there before.

    Raises:
        DataError: it cannot be written.
    """
    out = out.resolve()
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as name:
            made = Path(name, "new")
            made.mkdir()
            for file, content in files.items():
                _write_through(made / file, content)
            _swap(made, out, Path(name, "old"))
    except OSError as error:
        raise DataError(f"{out} cannot be written ({error}); what was there before is as it was.") from error


def _write_through(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _swap(made: Path, out: Path, aside: Path) -> None:
    """`made` in the place of `out`; what was there goes aside, and comes back if that fails."""
    if not out.exists():
        made.rename(out)
        return
    out.rename(aside)
    try:
        made.rename(out)
    except BaseException:
        aside.rename(out)
        raise
