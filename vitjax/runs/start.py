"""Whether a new run has the weights to start from that it needs; told before any data is opened."""

import re
from pathlib import Path

from vitjax.errors import FieldError
from vitjax.runs.experiment import Experiment

_PUBLISHED = re.compile(r"resnet\d+-[0-9a-f]{8}\.pth|timm/resnet.+")  # torchvision's files, timm's repositories


def frozen_patterns(experiment: Experiment) -> tuple[str, ...]:
    """The patterns of parameters that keep their first values: those of `frozen`, and those of a multiplier of 0."""
    optimizer = experiment.optimizer
    return (*optimizer.frozen, *(pattern for pattern, rate in optimizer.multipliers.items() if rate == 0))


def require_start(experiment: Experiment) -> None:
    """Passes where a new run starts from weights, needs none, or is to do without those that it needs.

    Raises:
        FieldError: parameters that never change would be random for ever, or the recipe starts from pre-trained weights
            and none are given; the message names weights and flags.
    """
    frozen = frozen_patterns(experiment)
    if experiment.init_from or experiment.from_scratch or not (frozen or experiment.pretrained):
        return
    stays = f", and the parameters that are frozen ({', '.join(frozen)}) would stay random" if frozen else ""
    weights = experiment.pretrained or "published weights or those of another run, --init-from FILE"
    raise FieldError(
        f"no weights are given to start from{stays}. This run starts from {weights}. "
        "To start from random ones all the same, say --from-scratch."
    )


def require_weights(experiment: Experiment) -> None:
    """Raises an error now, before the data are read, where a new run has nothing to start from."""
    require_start(experiment)
    if experiment.init_from:
        from vitjax.runs.read_model import find  # which knows every family

        find(experiment.init_from)


def notes_on_start(experiment: Experiment) -> tuple[str, ...]:
    """Lines for people on a new run that starts from random weights where it should not, or from others by name."""
    if experiment.init_from:
        given = experiment.init_from
        name = given if given.startswith("timm/") else Path(given).name
        others = experiment.pretrained and _PUBLISHED.fullmatch(name) and name not in experiment.pretrained
        return (f"note: {name} are other weights; this recipe starts from {experiment.pretrained}",) if others else ()
    if frozen_patterns(experiment):
        return (
            "note: weights start random, and those frozen by optimizer.frozen stay so; give --init-from, "
            "or train everything with --optimizer.frozen (no patterns) and --model.backbone.norm group",
        )
    if experiment.pretrained:
        return ("note: weights start random; this recipe starts from pre-trained ones",)
    if getattr(getattr(experiment.model, "backbone", None), "norm", None) == "frozen_batch":
        return (
            "note: the backbone's batch norms are frozen and come from nowhere; train with --model.backbone.norm group",
        )
    return ()
