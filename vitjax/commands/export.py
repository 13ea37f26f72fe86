"""`vitjax export`: a model as a folder that runs without vitjax."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

import tyro

from vitjax.commands.arguments import ModelWord, OutWord


@dataclass(frozen=True)
class ExportArguments:
    """Writes a trained model as a folder that runs without vitjax on CPU, CUDA and TPU: one StableHLO program with the
    parameters inside, model.json that describes it, and run.py that runs it. docs/export.md tells more."""

    model: ModelWord
    """Run folder, published file, or folder or repository in Hugging Face's layout."""
    out: OutWord
    """Folder to write; an earlier export there is replaced once the new one has passed the parity check."""
    size: tuple[int, int] | None = None
    """Height and width of the frames that images come in; those of the model's evaluation if left out."""
    batch_size: int | None = None
    """Fixes the number of images per call; any number if left out."""
    preprocess: bool = True
    """The program takes RGB bytes and normalises them; without, it takes normalised pixels and a mask."""
    postprocess: bool = True
    """The program gives detections in pixels, or the best classes; without, logits and relative boxes."""
    masks: bool = True
    """Of a model with masks, gives their logits too; without, the detector inside is exported."""
    onnx: bool = False
    """Also writes model.onnx, for batch_size images or one; needs pip install 'vitjax[onnx]'."""
    step: int | None = None
    """Checkpoint to use; the best one if left out."""
    matmul_precision: Literal["default", "high", "highest"] | None = None
    """Precision of float32 matrix products on accelerators; that of the run, or JAX's default, if left out."""


def run(words: list[str]) -> None:
    """Writes the model as a program and says how far it is from the model."""
    from vitjax.checkpoints.writing import writing
    from vitjax.export.export import export_model
    from vitjax.runs.read_model import read_model

    options = asdict(tyro.cli(ExportArguments, prog="vitjax export", args=words))
    out, precision = options.pop("out"), options.pop("matmul_precision")
    with writing(Path(out), "OUT"):
        file = read_model(options.pop("model"), step=options.pop("step"))
        file = replace(file, matmul_precision=precision) if precision else file
        done = export_model(file, Path(out), **options)
    for note in (*file.notes, *done.notes):
        print(note)
    furthest = max(done.differences.values())
    print(f"wrote {out}: {done.bytes / 2**20:.1f} MiB, batch {done.batch}, within {furthest:.1e} of the model")
