"""Short words of `train` for what would take several fields, or a long name."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import flax.linen as nn

from vitjax.errors import FieldError
from vitjax.families.computing import computing_in
from vitjax.runs.experiment import Experiment

SHORT_WORDS = """--lr RATE is --optimizer.learning-rate. --precision bfloat16 sets every dtype of the model.
--freeze backbone keeps the backbone as it is loaded, its batch norms too. --batch-size auto takes the largest batch
that fits into memory by the plan of the compiled step; a run that goes on keeps it."""

_ALIASES = {"--lr": "--optimizer.learning-rate"}
_EXAMPLES = {"--precision": "bfloat16", "--freeze": "backbone"}
_BATCH_SIZE = ("--batch-size", "--batch_size")
_BACKBONE = "^backbone/"


@dataclasses.dataclass(frozen=True)
class Asked:
    """What short words ask for."""

    precision: str | None = None
    freeze: str | None = None
    fill_memory: bool = False

    def of(self, experiment: Experiment) -> Experiment:
        """The experiment as asked for.

        Raises:
            FieldError: its model cannot be so.
        """
        if self.precision is not None:
            experiment = dataclasses.replace(experiment, model=_precise(experiment.model, self.precision))
        return experiment if self.freeze is None else freezing(experiment, self.freeze)


def without_short_words(words: Sequence[str]) -> tuple[list[str], Asked]:
    """The words of a command that are fields, and what the others ask for.

    Raises:
        FieldError: a word has no value.
    """
    ours = (*_ALIASES, *_EXAMPLES, *_BATCH_SIZE)
    split = [part for word in words for part in (word.split("=", 1) if word.split("=")[0] in ours else [word])]
    left, asked, place = list[str](), dict[str, Any](), 0
    while place < len(split):
        word, following = split[place], split[place + 1 : place + 2]
        if word in _EXAMPLES:
            if not following or following[0].startswith("--"):
                raise FieldError(f"{word} takes one word, such as {_EXAMPLES[word]}; got nothing.")
            asked[word[2:]] = following[0]
        elif word in _BATCH_SIZE and following == ["auto"]:
            asked["fill_memory"] = True
        else:
            left.append(_ALIASES.get(word, word))
            place += 1
            continue
        place += 2
    return left, Asked(**asked)


def _precise(model: nn.Module, dtype: str) -> nn.Module:
    try:
        return computing_in(model, dtype)
    except FieldError as error:
        raise FieldError(f"--precision {dtype}: {error}") from error


def freezing(experiment: Experiment, part: str) -> Experiment:
    """The experiment whose backbone keeps the values that it starts with, the statistics of its batch norms too.

    Raises:
        FieldError: the part is another, or the model has no backbone.
    """
    model: Any = experiment.model
    if part != "backbone":
        raise FieldError(f"--freeze is for the backbone; got {part!r}. Name other parts by --optimizer.frozen PATTERN.")
    inside = getattr(model, "inside", None)  # of a detector with masks
    detector = model if inside is None else getattr(model, inside)
    if not isinstance(getattr(detector, "backbone", None), nn.Module):
        raise FieldError(
            f"--freeze backbone: a {type(model).__name__} has none; name parts by --optimizer.frozen PATTERN."
        )
    if getattr(detector.backbone, "norm", None) == "batch":
        detector = detector.clone(backbone=detector.backbone.clone(norm="frozen_batch"))
        model = detector if inside is None else model.clone(**{inside: detector})
    pattern = _BACKBONE if inside is None else f"^{inside}/backbone/"
    frozen = (*experiment.optimizer.frozen, *[pattern] * (pattern not in experiment.optimizer.frozen))
    return dataclasses.replace(
        experiment, model=model, optimizer=dataclasses.replace(experiment.optimizer, frozen=frozen)
    )
