"""`vitjax train`, which is `train.py`: trains a config."""

from pathlib import Path


def run(words: list[str]) -> None:
    """Trains; without a name it lists the configs."""
    from vitjax.runs.configs import load_config, names, override

    if not words or words[0] in ("-h", "--help"):
        print("usage: train.py CONFIG [--field value ...]\n\nCONFIG is one of these, or a path to a file of yours:\n")
        configs = [load_config(name) for name in names()]
        width = max(len(config.name) for config in configs)
        print("\n".join(f"  {config.name:<{width}}  {config.title}" for config in configs))
        print("\n`train.py CONFIG --help` shows every field, its type, default and meaning.")
        return
    experiment = override(load_config(words[0]), words[1:])
    from vitjax.training.loop import train  # after the command line is known to be right

    outcome = train(experiment, Path(experiment.workdir or "runs/run"))
    print(f"{experiment.workdir}: step {outcome.step:,} of {outcome.total_steps:,}")
