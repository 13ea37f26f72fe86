"""`vitjax train`, which is `train.py`: trains a config."""

import dataclasses
from pathlib import Path


def run(words: list[str]) -> int:
    """Trains, and returns the exit code; without a name it lists the configs."""
    from vitjax.commands.hosts import HOSTS
    from vitjax.data.layouts import in_its_layout
    from vitjax.runs.configs import FORK, described, load_config, override
    from vitjax.runs.fork import forked, without_fork
    from vitjax.runs.short_words import SHORT_WORDS, without_short_words

    if not words or words[0] in ("-h", "--help"):
        print("usage: train.py CONFIG [--field value ...]\n\nCONFIG is one of these, or a path to a file of yours:\n")
        configs = described()
        width = max(len(config.name) for config in configs)
        print("\n".join(f"  {config.name:<{width}}  {config.title}" for config in configs))
        print(
            f"\n{FORK}\n\n{SHORT_WORDS}\n\n{HOSTS}\n\n"
            "`train.py CONFIG --help` shows every field, its type, default and meaning."
        )
        return 0
    config = load_config(words[0])
    fields, fork = without_fork(words[1:])
    fields, asked = without_short_words(fields)
    experiment = asked.of(override(config, fields))
    data, notes = in_its_layout(experiment.data)
    experiment = dataclasses.replace(experiment, data=data)
    print("\n".join(notes), end="\n" if notes else "", flush=True)
    if fork is not None:
        experiment = forked(experiment, fork)
        print(f"starts {experiment.workdir} from {experiment.init_from}", flush=True)
    from vitjax.training.interruption import owning_the_process  # after the command line is known to be right
    from vitjax.training.loop import train

    workdir = Path(experiment.workdir or "runs/run")
    with owning_the_process():
        outcome = train(experiment, workdir, config=config, fill_memory=asked.fill_memory)
    print(f"{experiment.workdir}: step {outcome.step:,} of {outcome.total_steps:,}")
    return outcome.exit_code
