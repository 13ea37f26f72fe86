"""What it costs or brings that the images of a batch are alike in size: AP by the number of buckets.

    python benchmarks/buckets.py --runs runs/buckets --jobs 2

Trains the quickstart's detector and a DETR of its size on scenes of digits of many sizes, with batches of 1, 4 and 12
buckets and with batches in four parts that have 12 buckets of their own, each with several seeds, and prints a table. A
run that is there is not made again.
"""

import argparse
import dataclasses
import functools
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ClassVar

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from vitjax.data import Augmentation, Digits
from vitjax.data.digit_scenes import DigitScenes, OpenedDigits
from vitjax.data.source import Sample
from vitjax.runs.configs import load_config
from vitjax.runs.optimizer import CosineSchedule
from vitjax.tasks.detection import Detection
from vitjax.training.loop import train

KINDS = {
    "1 bucket": {"buckets": 1},
    "4 buckets": {"buckets": 4},
    "12 buckets": {"buckets": 12},
    "12, 4 mixed parts": {"buckets": 12, "micro_batches": 4},
}
MODELS = ("quickstart", "detr_tiny_digits")
SIDES = (48, 64, 80, 96, 112, 128)


@dataclasses.dataclass(frozen=True)
class MixedDigits:
    """Scenes of digits of many sizes and shapes; the larger ones have more and larger digits."""

    task: ClassVar[str] = "detection"

    train_images: int = 12_800
    """Scenes in the train split."""
    val_images: int = 500
    """Scenes in the val split."""
    train_split: str = "train"
    """Split to train on."""
    split: str = "val"
    """Split to evaluate on."""

    def open(self, split: str) -> "MixedScenes":
        """The scenes of a split."""
        return MixedScenes(self, split)


@dataclasses.dataclass(frozen=True)
class MixedScenes(OpenedDigits):
    """One split, opened."""

    called: ClassVar[str] = "mixed digits"

    config: MixedDigits
    split: str

    @functools.cached_property
    def sizes(self) -> np.ndarray:
        """Height and width of every scene."""
        rng = np.random.default_rng([7, self.split == "train"])
        return rng.choice(SIDES, size=(len(self), 2)).astype(np.int32)

    @functools.cached_property
    def _scenes(self) -> dict[tuple[int, int], DigitScenes]:
        plain = Digits(
            min_size=20, clutter=0.0, min_contrast=0.5, max_contrast=1.0, train_images=self.config.train_images
        )
        plain = dataclasses.replace(plain, val_images=self.config.val_images)
        return {
            (height, width): dataclasses.replace(
                plain,
                height=height,
                width=width,
                max_size=min(height, width) // 2,
                max_digits=max(2, height * width // 2048),
            ).open(self.split)
            for height in SIDES
            for width in SIDES
        }

    classes = property(lambda self: self._scenes[64, 64].classes)
    max_objects = property(lambda self: max(scenes.max_objects for scenes in self._scenes.values()))

    def __len__(self) -> int:
        """The number of scenes."""
        return self.config.train_images if self.split == "train" else self.config.val_images

    def __getitem__(self, record: int) -> Sample:
        """The scene of a record."""
        self.require(record)
        height, width = self.sizes[record].tolist()
        return self._scenes[height, width][record]

    ground_truth = DigitScenes.ground_truth


def experiment(model: str, kind: str, seed: int, steps: int) -> Detection:
    """The run of one kind."""
    known = load_config(model).experiment
    return dataclasses.replace(
        known,
        model=known.model.clone(num_queries=20),
        data=MixedDigits(),
        augmentation=Augmentation(flip=0.0, sizes=(), max_side=None, crop=0.0),
        optimizer=dataclasses.replace(known.optimizer, schedule=CosineSchedule(warmup_steps=200, final=0.01)),
        epochs=steps / 800,
        evaluate_every=steps / 800,
        save_every=steps / 800,
        evaluation_batch_size=16,
        seed=seed,
        **KINDS[kind],
    )


def run(folder: Path, model: str, kind: str, seed: int, steps: int) -> None:
    """Makes a run in a process of its own, unless it is there."""
    if (folder / "report" / "summary.json").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, __file__, "--one", model, kind, str(seed), "--runs", str(folder), "--steps", str(steps)]
    with (folder / "log.txt").open("w") as log:
        if subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, check=False).returncode:
            print(f"{folder} failed: see log.txt", flush=True)


def table(folders: dict[tuple[str, str, int], Path]) -> None:
    """Prints mean, standard error and every seed of each kind."""
    for model in MODELS:
        for kind in KINDS:
            found = [
                folder / "report" / "summary.json" for (m, k, _), folder in folders.items() if (m, k) == (model, kind)
            ]
            last = [json.loads(path.read_text())["last"]["AP"] for path in found if path.exists()]
            if last:
                error = np.std(last, ddof=1) / len(last) ** 0.5 if len(last) > 1 else float("nan")
                seeds = ", ".join(f"{score:.3f}" for score in last)
                print(f"{model:<18} {kind:<18} AP {np.mean(last):.4f} +- {error:.4f}   ({seeds})")


def main() -> None:
    """Makes all runs that are not there and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs/buckets"), help="folder of the runs")
    parser.add_argument("--seeds", type=int, default=5, help="seeds of each kind (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=1200, help="steps of each run (default: %(default)s)")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time (default: %(default)s)")
    parser.add_argument(
        "--one", nargs=3, metavar=("MODEL", "KIND", "SEED"), help="make this run only, in --runs itself"
    )
    options = parser.parse_args()
    if options.one:
        model, kind, seed = options.one
        train(experiment(model, kind, int(seed), options.steps), options.runs)
        return
    wanted = [(model, kind, seed) for seed in range(options.seeds) for kind in reversed(KINDS) for model in MODELS]
    folders = {each: options.runs / "-".join(map(str, each)).replace(" ", "_").replace(",", "") for each in wanted}
    with ThreadPoolExecutor(options.jobs) as pool:
        list(pool.map(lambda each: run(folders[each], *each, options.steps), wanted))
    table(folders)


if __name__ == "__main__":
    main()
