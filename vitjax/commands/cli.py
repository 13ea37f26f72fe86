"""The command line: `vitjax train | evaluate | predict | ...`; `train.py` is the first of its commands."""

import dataclasses
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from vitjax.commands.arguments import (
    ConvertArguments,
    DoctorArguments,
    ExplainArguments,
    ExportArguments,
    PredictArguments,
)
from vitjax.data.coco import CocoFolder

if TYPE_CHECKING:
    from vitjax.inference.class_predictor import ClassPredictor
    from vitjax.inference.prediction import Recognition
    from vitjax.inference.predictor import Predictor
    from vitjax.inference.saved import Saved
    from vitjax.inference.segment_predictor import SegmentPredictor

USAGE = """usage: vitjax {train,evaluate,predict,explain,convert,export,doctor,models} ...

  train CONFIG             trains a config, by name or file: the same as train.py in a checkout
  evaluate MODEL           scores a model on a split of its data, or of other data with the same classes
  predict MODEL IMAGE ...  detects on images, videos and folders, and writes them with boxes and COCO-results json;
                           of a classifier, prints the top five classes with probabilities and writes json;
                           of a segmentation model, writes pictures with coloured labels, label maps and json
  explain MODEL IMAGE      draws what it attends to: cells of the image, sampling points, or groups of tokens
  convert MODEL OUT        a published file or folder to a run folder, or a run folder to one that others can load
  export MODEL OUT         writes the model as a folder that runs without vitjax: StableHLO, description, loader
  doctor DATA              tells what in a data folder would hurt training; exit code 0 fine, 1 warnings, 2 errors
  models                   lists every architecture: parameters, published score, config, what was measured here

`vitjax COMMAND --help` tells more."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; returns the exit code. An error that a user can mend is one line, without a traceback."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    commands: dict[str, Callable[[list[str]], int | None]] = {
        "train": _train,
        "evaluate": _evaluate,
        "predict": _predict,
        "explain": _explain,
        "convert": _convert,
        "export": _export,
        "doctor": _doctor,
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


def _friendly(work: Callable[[], int | None]) -> int:
    from vitjax.training.watch import NonFiniteLoss

    try:
        return work() or 0
    except (ValueError, NonFiniteLoss) as error:  # DataError and CheckpointError are ValueErrors
        print(f"error: {error}", file=sys.stderr)
        return 1


def _train(words: list[str]) -> None:
    from vitjax.runs.configs import load_config, names, override

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
    from vitjax.data.label_names import in_words
    from vitjax.inference.predictor import load

    model = words[0] if words and not words[0].startswith("-") else None
    arguments = _evaluate_arguments(CocoFolder() if model is None else _data_of(model))
    asked: Any = tyro.cli(arguments, prog="vitjax evaluate", args=words, config=(tyro.conf.AvoidSubcommands,))
    source = asked.data.open(asked.data.split)
    predictor: Any = load(asked.model, step=asked.step)  # of the kind that the data are for
    predictor.classes.require(in_words(source.classes), f"the split {asked.data.split!r}")
    print(
        "\n".join([f"{asked.model}, step {predictor.step:,}, split {asked.data.split!r}", *source.problems]), flush=True
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


def _data_of(model: str) -> Any:
    """What a model is evaluated on: a run's own data; for others a folder in the form that their labels ask for."""
    from vitjax.classification.classifier import Classifier
    from vitjax.data.image_folder import ImageFolder
    from vitjax.data.label_names import COCO
    from vitjax.runs.read_model import read_model
    from vitjax.runs.run_folder import is_run, read_run

    if is_run(Path(model)):
        return read_run(Path(model))[0].data
    file = read_model(model)
    if isinstance(file.model, Classifier):
        return ImageFolder()
    return CocoFolder(labels="category_id" if file.classes == COCO else "contiguous")


def _evaluate_arguments(data: Any) -> type:
    """The arguments of `evaluate`, whose data fields are those of the run."""

    def told(kind: Any, text: str) -> Any:
        return Annotated[kind, tyro.conf.arg(help=text)]

    arguments = dataclasses.make_dataclass(
        "EvaluateArguments",
        [
            ("model", told(tyro.conf.Positional[str], "Run folder, published file, or Hugging Face folder.")),
            (
                "data",
                told(type(data), "The data; a run's own where nothing is said."),
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
        "Scores a model: COCO's twelve numbers, and AP of every class; of a classifier top-1 and top-5 accuracy, "
        "overall and by class; of a segmentation model mIoU, the IoU of every class, and the accuracy of pixels."
    )
    return arguments


def _predict(words: list[str]) -> None:
    from vitjax.inference.class_predictor import ClassPredictor
    from vitjax.inference.inputs import find_inputs
    from vitjax.inference.predictor import load
    from vitjax.inference.segment_predictor import SegmentPredictor

    asked = tyro.cli(PredictArguments, prog="vitjax predict", args=words)
    paths = find_inputs(asked.images)
    predictor = load(asked.model, step=asked.step)
    if isinstance(predictor, SegmentPredictor):
        _predict_maps(predictor, paths, asked)
    elif isinstance(predictor, ClassPredictor):
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
        nms=asked.nms,
        every=asked.every,
        csv=asked.csv,
        batch_size=asked.batch_size,
        workers=asked.workers,
    )
    print(f"{saved.boxes} boxes of score {threshold} or more")
    _tell_saved(saved, "pictures, ", asked)


def _predict_classes(predictor: "ClassPredictor", paths: list[Path], asked: PredictArguments) -> None:
    from vitjax.inference.save import save_recognitions

    if asked.threshold is not None or asked.nms is not None:
        raise ValueError("--threshold and --nms are for detectors; a classifier tells its best classes, --top of them.")

    def tell(path: Path, told: "Recognition") -> None:
        lines = [f"  {100 * score:5.1f} %  {name}" for score, name in zip(told.scores, told.names, strict=True)]
        print("\n".join([str(path), *lines]), flush=True)

    saved = save_recognitions(
        predictor,
        paths,
        Path(asked.out),
        top=asked.top,
        every=asked.every,
        csv=asked.csv,
        batch_size=asked.batch_size,
        workers=asked.workers,
        tell=tell,
    )
    _tell_saved(saved, "", asked)


def _predict_maps(predictor: "SegmentPredictor", paths: list[Path], asked: PredictArguments) -> None:
    from vitjax.inference.save_maps import save_label_maps

    given = [name for name in ("threshold", "nms", "top") if getattr(asked, name) is not None]
    if given:
        raise ValueError(f"--{given[0]} is not for a segmentation model, which gives every pixel its best class.")
    saved = save_label_maps(
        predictor, paths, Path(asked.out), csv=asked.csv, batch_size=asked.batch_size, workers=asked.workers
    )
    _tell_saved(saved, "pictures, label maps in labels, ", asked)


def _tell_saved(saved: "Saved", pictures: str, asked: PredictArguments) -> None:
    for name in saved.unreadable:
        print(f"skipped, cannot be read: {name}")
    for note in saved.notes:
        print(note)
    results = "predictions.json and predictions.csv" if asked.csv else "predictions.json"
    print(f"{saved.counts}, {saved.speed} with compilation: {pictures}{results} in {asked.out}")


def _explain(words: list[str]) -> None:
    from vitjax.explain.explain import explain
    from vitjax.inference.predictor import load

    options = dataclasses.asdict(tyro.cli(ExplainArguments, prog="vitjax explain", args=words))
    predictor = load(options.pop("model"), step=options.pop("step"))
    print("\n".join(explain(predictor.subject, **options)))


def _convert(words: list[str]) -> None:
    from vitjax.export.convert import convert

    asked = tyro.cli(ConvertArguments, prog="vitjax convert", args=words)
    file = convert(asked.model, Path(asked.out), to=asked.to, step=asked.step)
    for note in file.notes:
        print(note)
    named = sum(bool(name) for name in file.classes.names)
    print(
        f"{type(file.model).__name__} with {len(file.classes)} class labels, {named} of them named: wrote {asked.out}"
    )


def _export(words: list[str]) -> None:
    from vitjax.export.export import export_model
    from vitjax.runs.read_model import read_model

    asked = tyro.cli(ExportArguments, prog="vitjax export", args=words)
    inside = {"preprocess": asked.preprocess, "postprocess": asked.postprocess}
    file = read_model(asked.model, step=asked.step)
    done = export_model(file, Path(asked.out), size=asked.size, batch_size=asked.batch_size, **inside)
    for note in (*file.notes, *done.notes):
        print(note)
    furthest = max(done.differences.values())
    print(f"wrote {asked.out}: {done.bytes / 2**20:.1f} MiB, batch {done.batch}, within {furthest:.1e} of the model")


def _doctor(words: list[str]) -> int:
    from vitjax.doctor.examination import examine

    asked = tyro.cli(DoctorArguments, prog="vitjax doctor", args=words)
    examination = examine(
        asked.data,
        split=asked.split,
        queries=asked.queries,
        decode=asked.decode,
        size=asked.size,
        batch_size=asked.batch_size,
    )
    print(examination.table())
    return examination.exit_code


def _models(words: list[str]) -> None:
    from vitjax.commands.catalogue import table

    tyro.cli(table, prog="vitjax models", args=words, console_outputs=True)
    print(table())
