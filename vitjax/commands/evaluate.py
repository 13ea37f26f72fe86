"""`vitjax evaluate`: the scores of a model."""

import dataclasses
import json
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from vitjax.commands.arguments import ModelWord
from vitjax.commands.hosts import HOSTS
from vitjax.data.coco import CocoFolder

_PRECISION = Literal["default", "high", "highest"] | None


def run(words: list[str]) -> None:
    """Scores the model, prints the table, and writes results and scores where asked."""
    from vitjax.checkpoints.writing import writing

    model = words[0] if words and not words[0].startswith("-") else None
    arguments = _evaluate_arguments(CocoFolder() if model is None else _data_of(model))
    asked: Any = tyro.cli(arguments, prog="vitjax evaluate", args=words, config=(tyro.conf.AvoidSubcommands,))
    with writing(None if asked.out is None else Path(asked.out), "--out"):
        _evaluate(asked)


def _evaluate(asked: Any) -> None:
    import jax

    from vitjax.data.label_names import in_words
    from vitjax.data.layouts import in_its_layout, named_as
    from vitjax.tasks.judgement import judgement
    from vitjax.tasks.load import load

    data, notes = in_its_layout(asked.data)
    source = data.open(data.split)
    predictor = load(asked.model, step=asked.step, matmul_precision=asked.matmul_precision, quiet=True)
    source = named_as(source, data, predictor.classes, moved=bool(notes))
    predictor.classes.require(in_words(source.classes), f"the split {asked.data.split!r}")
    heading = f"{asked.model}, step {predictor.step:,}, split {asked.data.split!r}"
    print("\n".join([*notes, heading, *source.problems]), flush=True)
    evaluation = predictor.evaluate(source, batch_size=asked.batch_size, workers=asked.workers)
    if evaluation.unreadable:
        print(f"{len(evaluation.unreadable)} images could not be read: {', '.join(evaluation.unreadable[:5])}")
    judged = judgement(asked.model, predictor.task, evaluation, source, data)
    print("\n".join([evaluation.scores.table(), "", *judged.lines]))
    if asked.out is not None and jax.process_index() == 0:  # one host writes for all
        out = Path(asked.out)
        out.mkdir(parents=True, exist_ok=True)
        (out / "results.json").write_text(json.dumps(evaluation.results), encoding="utf-8")
        scores = {**evaluation.scores.summary, **judged.scores}
        (out / "scores.json").write_text(json.dumps(scores, indent=2), encoding="utf-8")
        print(f"wrote {out / 'results.json'} and {out / 'scores.json'}")
        if judged.mistakes is not None:
            from vitjax.inference.mistakes_page import draw_mistakes
            from vitjax.runs.judgement import write_json

            write_json(out / "mistakes.json", judged.mistakes)
            print(
                "wrote "
                + ", ".join(str(path) for path in (out / "mistakes.json", *draw_mistakes(judged.mistakes, source, out)))
            )


def _data_of(model: str) -> Any:
    """What a model is evaluated on: a run's own data; for others a folder in the form that their labels ask for."""
    from vitjax.runs.read_model import read_model
    from vitjax.runs.run_folder import is_run, read_run
    from vitjax.tasks import experiment_of

    if is_run(Path(model)):
        return read_run(Path(model))[0].data
    file = read_model(model)
    return experiment_of(file.model).data_of(file.classes)


def _evaluate_arguments(data: Any) -> type:
    """The arguments of `evaluate`, whose data fields are those of the run."""

    def told(kind: Any, text: str) -> Any:
        return Annotated[kind, tyro.conf.arg(help=text)]

    arguments = dataclasses.make_dataclass(
        "EvaluateArguments",
        [
            ("model", told(ModelWord, "Run folder, published file, or Hugging Face folder.")),
            ("data", told(type(data), "The data; a run's own where nothing is said."), dataclasses.field(default=data)),
            ("batch_size", told(int, "Images that are run at once."), 8),
            ("workers", told(int, "Processes that read images; 0 does it in a thread."), 0),
            ("step", told(int | None, "Checkpoint to use; the best one if left out."), None),
            ("matmul_precision", told(_PRECISION, "Of float32 matrix products; the run's, or default."), None),
            ("out", told(str | None, "Folder for results, scores and mistakes; nothing is written if left out."), None),
        ],
        frozen=True,
    )
    arguments.__doc__ = (
        "Scores a model: COCO's twelve numbers, and AP of every class; of one with masks the same of masks, and "
        "panoptic quality where the data have segments; of a classifier top-1 and top-5 accuracy, overall and by "
        f"class; of a segmentation model mIoU, the IoU of every class, and the accuracy of pixels.\n\n{HOSTS}"
    )
    return arguments
