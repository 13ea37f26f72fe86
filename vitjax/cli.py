"""The command line: `vitjax train | evaluate | predict | explain | models`; `train.py` is the first of them."""

import dataclasses
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from vitjax.data.coco import CocoFolder

if TYPE_CHECKING:
    from vitjax.inference.class_predictor import ClassPredictor
    from vitjax.inference.prediction import Recognition
    from vitjax.inference.predictor import Predictor

USAGE = """usage: vitjax {train,evaluate,predict,explain,models} ...

  train CONFIG             trains a config, by name or file: the same as train.py in a checkout
  evaluate RUN             scores a trained run on a split of its data, or of other data with the same classes
  predict RUN IMAGE ...    detects on images and folders, and writes pictures with boxes and COCO-results json;
                           of a classifier, prints the top five classes with probabilities and writes json
  explain RUN IMAGE        draws where a query of a Deformable DETR samples an image, with the attention weights
  models                   lists every architecture: parameters, published score, config, what was measured here

`vitjax COMMAND --help` tells more."""


@dataclasses.dataclass(frozen=True)
class PredictArguments:
    """Predicts on images. A detector writes a picture with boxes for each and predictions.json in COCO-results form; of
    a classifier the best classes of each image are printed, with their probabilities, and written to predictions.json.
    """

    run: tyro.conf.Positional[str]
    """Run folder of a trained model."""
    images: tyro.conf.Positional[tuple[str, ...]]
    """Images, and folders of images."""
    out: str = "predictions"
    """Folder for the pictures and the json."""
    threshold: float | None = None
    """Lowest score of a box in the pictures; that of the run's post-processing if left out. The json has them all."""
    top: int | None = None
    """Most boxes per image, in pictures and json, 100 if left out; most classes per image, 5 if left out."""
    batch_size: int = 8
    """Images that are run at once."""
    workers: int = 0
    """Processes that read images; 0 does it in a thread."""
    step: int | None = None
    """Checkpoint to use; the best one if left out."""


@dataclasses.dataclass(frozen=True)
class ExplainArguments:
    """Draws where a Deformable DETR samples an image, on every level: for the query of its best detection, for another
    query, or for the encoder's token at a pixel."""

    run: tyro.conf.Positional[str]
    """Run folder of a trained DeformableDETR."""
    image: tyro.conf.Positional[str]
    """The image."""
    query: int | None = None
    """Decoder query; that of the best detection if left out. The queries of all detections are printed."""
    pixel: tuple[int, int] | None = None
    """X and Y of a pixel of the image: draws the encoder's token that holds it, in place of a decoder query."""
    level: int | None = None
    """With --pixel, the level whose token holds it; the finest, 0, if left out."""
    layer: int = -1
    """Layer of the decoder (with --pixel, of the encoder); the first is 0, the last is -1."""
    head: int | None = None
    """The one attention head to draw; all if left out."""
    zoom: float = 1.0
    """How many times the picture is enlarged around the reference point."""
    threshold: float | None = None
    """Lowest score of the detections that are printed; that of the run's post-processing if left out."""
    out: str = "sampling.png"
    """The picture to write: .png, .pdf or .svg."""
    step: int | None = None
    """Checkpoint to use; the best one if left out."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; returns the exit code. An error that a user can mend is one line, without a traceback."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    commands: dict[str, Callable[[list[str]], None]] = {
        "train": _train,
        "evaluate": _evaluate,
        "predict": _predict,
        "explain": _explain,
        "models": _models,
    }
    if not words or words[0] in ("-h", "--help"):
        print(USAGE)
        return 0
    if words[0] not in commands:
        print(f"vitjax: there is no command {words[0]!r}; choose one of {', '.join(commands)}.", file=sys.stderr)
        return 2
    return _friendly(lambda: commands[words[0]](words[1:]))


def train(arguments: Sequence[str]) -> int:
    """Runs `train.py NAME [--field value ...]`; returns the exit code."""
    return _friendly(lambda: _train(list(arguments)))


def _friendly(work: Callable[[], None]) -> int:
    from vitjax.training.watch import NonFiniteLoss

    try:
        work()
    except (ValueError, NonFiniteLoss) as error:  # DataError and CheckpointError are ValueErrors
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _train(words: list[str]) -> None:
    from vitjax.training.configs import load_config, names, override

    if not words or words[0] in ("-h", "--help"):
        print("usage: train.py CONFIG [--field value ...]\n\nCONFIG is one of these, or a path to a file of yours:\n")
        configs = [load_config(name) for name in names()]
        width = max(len(config.name) for config in configs)
        print("\n".join(f"  {config.name:<{width}}  {config.title}" for config in configs))
        print("\n`train.py CONFIG --help` shows every field, its type, default and meaning.")
        return
    experiment = override(load_config(words[0]), words[1:])
    from vitjax.training.loop import train as run  # after the command line is known to be right

    outcome = run(experiment, Path(experiment.workdir or "runs/run"))
    print(f"{experiment.workdir}: step {outcome.step:,} of {outcome.total_steps:,}")


def _evaluate(words: list[str]) -> None:
    from vitjax.inference.predictor import load
    from vitjax.training.run_folder import read_run

    run = words[0] if words and not words[0].startswith("-") else None
    data = CocoFolder() if run is None else read_run(Path(run))[0].data
    asked: Any = tyro.cli(
        _evaluate_arguments(data), prog="vitjax evaluate", args=words, config=(tyro.conf.AvoidSubcommands,)
    )
    source = asked.data.open(asked.data.split)
    predictor = load(asked.run, step=asked.step)
    predictor.classes.require(source.classes, f"the split {asked.data.split!r}")
    print(
        "\n".join([f"{asked.run}, step {predictor.step:,}, split {asked.data.split!r}", *source.problems]), flush=True
    )
    evaluation = predictor.evaluate(source, batch_size=asked.batch_size, workers=asked.workers)
    if evaluation.unreadable:
        print(f"{len(evaluation.unreadable)} images could not be read: {', '.join(evaluation.unreadable[:5])}")
    print(evaluation.scores.table())
    if asked.out is not None:
        out = Path(asked.out)
        out.mkdir(parents=True, exist_ok=True)
        (out / "results.json").write_text(json.dumps(evaluation.results), encoding="utf-8")
        (out / "scores.json").write_text(json.dumps(evaluation.scores.summary, indent=2), encoding="utf-8")
        print(f"wrote {out / 'results.json'} and {out / 'scores.json'}")


def _evaluate_arguments(data: Any) -> type:
    """The arguments of `evaluate`, whose data fields are those of the run."""

    def told(kind: Any, text: str) -> Any:
        return Annotated[kind, tyro.conf.arg(help=text)]

    arguments = dataclasses.make_dataclass(
        "EvaluateArguments",
        [
            ("run", told(tyro.conf.Positional[str], "Run folder of a trained model.")),
            (
                "data",
                told(type(data), "The data; the run's own where nothing is said."),
                dataclasses.field(default=data),
            ),
            ("batch_size", told(int, "Images that are run at once."), 8),
            ("workers", told(int, "Processes that read images; 0 does it in a thread."), 0),
            ("step", told(int | None, "Checkpoint to use; the best one if left out."), None),
            ("out", told(str | None, "Folder for results.json and scores.json; nothing is written if left out."), None),
        ],
        frozen=True,
    )
    arguments.__doc__ = (
        "Scores a trained run: COCO's twelve numbers, and AP of every class; of a classifier top-1 and top-5 accuracy, "
        "overall and by class."
    )
    return arguments


def _predict(words: list[str]) -> None:
    from vitjax.inference.class_predictor import ClassPredictor
    from vitjax.inference.predictor import load
    from vitjax.inference.save import find_images

    asked = tyro.cli(PredictArguments, prog="vitjax predict", args=words)
    paths = find_images(asked.images)
    predictor = load(asked.run, step=asked.step)
    if isinstance(predictor, ClassPredictor):
        _predict_classes(predictor, paths, asked)
    else:
        _predict_boxes(predictor, paths, asked)


def _predict_boxes(predictor: "Predictor", paths: list[Path], asked: PredictArguments) -> None:
    from vitjax.inference.save import save_predictions

    threshold = predictor.threshold if asked.threshold is None else asked.threshold
    saved = save_predictions(
        predictor,
        paths,
        Path(asked.out),
        threshold=threshold,
        top=asked.top or 100,
        batch_size=asked.batch_size,
        workers=asked.workers,
    )
    for name in saved.unreadable:
        print(f"skipped, cannot be read: {name}")
    print(
        f"{saved.boxes} boxes of score {threshold} or more on {saved.images} images, "
        f"{saved.images / saved.seconds:.1f} images/s with compilation: pictures and predictions.json in {asked.out}"
    )


def _predict_classes(predictor: "ClassPredictor", paths: list[Path], asked: PredictArguments) -> None:
    from vitjax.inference.save import save_recognitions

    if asked.threshold is not None:
        raise ValueError("--threshold is for detectors; a classifier tells its best classes, --top of them.")

    def tell(path: Path, told: "Recognition") -> None:
        lines = [f"  {100 * score:5.1f} %  {name}" for score, name in zip(told.scores, told.names, strict=True)]
        print("\n".join([str(path), *lines]), flush=True)

    batching = {"batch_size": asked.batch_size, "workers": asked.workers}
    saved = save_recognitions(predictor, paths, Path(asked.out), top=asked.top, tell=tell, **batching)
    for name in saved.unreadable:
        print(f"skipped, cannot be read: {name}")
    speed = f"{saved.images / saved.seconds:.1f} images/s with compilation"
    print(f"{saved.images} images, {speed}: predictions.json in {asked.out}")


def _explain(words: list[str]) -> None:
    from vitjax.inference.class_predictor import ClassPredictor
    from vitjax.inference.predictor import load
    from vitjax.inference.sampling_picture import draw_sampling

    asked = tyro.cli(ExplainArguments, prog="vitjax explain", args=words)
    if asked.query is not None and asked.pixel is not None:
        raise ValueError("explain draws --query or --pixel, not both; leave out one of them.")
    if asked.level is not None and asked.pixel is None:
        raise ValueError("--level goes with --pixel; without a pixel every level of a decoder query is drawn.")
    predictor = load(asked.run, step=asked.step)
    if isinstance(predictor, ClassPredictor):
        raise ValueError(f"explain draws where a DeformableDETR samples; {asked.run} holds a classifier.")
    threshold = predictor.threshold if asked.threshold is None else asked.threshold
    sampling = predictor.sampling(asked.image)
    if asked.pixel is not None:
        points = sampling.of_pixel(*asked.pixel, layer=asked.layer, level=asked.level or 0)
    else:
        points = sampling.of_query(asked.query, layer=asked.layer)
    points = points if asked.head is None else points.of_head(asked.head)
    draw_sampling(points, Path(asked.out), zoom=asked.zoom)
    for query in map(int, (-sampling.scores).argsort(kind="stable")):
        if sampling.scores[query] >= threshold:
            print(f"query {query}: {sampling.names[query]}, score {sampling.scores[query]:.2f}")
    print(f"wrote {asked.out}: {points.query} in {points.part} layer {points.layer} of 0 to {points.layers - 1}")


def _models(words: list[str]) -> None:
    from vitjax.training.catalogue import table

    tyro.cli(table, prog="vitjax models", args=words, console_outputs=True)
    print(table())
