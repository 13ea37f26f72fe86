"""`vitjax explain`: what a model looks at in an image."""

from dataclasses import asdict, dataclass
from pathlib import Path

import tyro

from vitjax.commands.arguments import ImageWord, ModelWord


@dataclass(frozen=True)
class ExplainArguments:
    """Draws what a model looks at in an image, by its kind. DETR: what the query of its best detection, another query,
    or the encoder's token at a pixel attends to. Deformable DETR: where they sample, on every level. CrossFormer, in a
    classifier or with --stage in a detector: which tokens share a group with a pixel's, and their attention weights.
    Other classifiers and segmenters, and with --stage the backbones of other detectors: what each attention module does
    for a pixel; --stage 0 takes all that a backbone has, a spatial transformer in front too."""

    model: ModelWord
    """Run folder, published file, or folder or repository in Hugging Face's layout."""
    image: ImageWord
    """The image."""
    query: int | None = None
    """Decoder query; that of the best detection if left out. The queries of all detections are printed."""
    pixel: tuple[int, int] | None = None
    """X and Y of a pixel of the image, in place of a decoder query; for groups and modules the middle if left out."""
    level: int | None = None
    """Of Deformable DETR with --pixel, the level whose token holds it; the finest, 0, if left out."""
    layer: int | None = None
    """Layer of the decoder (with --pixel, of the encoder); the first is 0, the last is -1, which is the default."""
    head: int | None = None
    """The one attention head to draw; all, or their mean, if left out."""
    stage: int | None = None
    """Stage of the backbone, 0 for all (of others than CrossFormer); if left out a detector's decoder, a CrossFormer's
    stage 1, or every module."""
    block: int | None = None
    """Block of the stage, from 0; the first with short and the first with long distance groups if left out."""
    zoom: float | None = None
    """Of Deformable DETR, how many times the picture is enlarged around the reference point; 1 if left out."""
    threshold: float | None = None
    """Lowest score of the detections that are printed; if left out that with the best F1 in the validation of the
    checkpoint, or the default of the post-processing where there is none."""
    out: str | None = None
    """Picture to write: .png, .pdf or .svg; attention.png, sampling.png or groups.png, by its kind, if left out."""
    step: int | None = None
    """Checkpoint to use; the best one if left out."""


def run(words: list[str]) -> None:
    """Draws and says what was drawn."""
    from vitjax.checkpoints.writing import writing
    from vitjax.explain.explain import explain
    from vitjax.tasks.load import load

    options = asdict(tyro.cli(ExplainArguments, prog="vitjax explain", args=words))
    with writing(Path(options["out"] or "attention.png"), "--out", file=True):
        predictor = load(options.pop("model"), step=options.pop("step"))
        told = explain(predictor.subject, **options)
    print("\n".join(told))
