"""`vitjax convert`: a model in another layout."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from vitjax.commands.arguments import ModelWord, OutWord


@dataclass(frozen=True)
class ConvertArguments:
    """Writes a model in another layout: a run folder, an official file, or a folder that transformers loads.

    Weights come back to the last bit. A file that is there is replaced once all is written; folders must be new.
    """

    model: ModelWord
    """Run folder; official .pth, .safetensors or .npz file; or a folder or repository in Hugging Face's layout."""
    out: OutWord
    """What to write: a name in .pth or .safetensors for the official layout, or for vitjax's own names where no
    published code has the model, which is said; any other for a run folder."""
    to: Literal["run", "official", "huggingface"] | None = None
    """Layout of what is written; by the name of `out` if left out. Official asks for published names or nothing;
    huggingface is for DETR, also with masks, Conditional DETR, DAB-DETR and Deformable DETR as transformers has
    them."""
    step: int | None = None
    """Checkpoint of a run folder to use; the best one if left out."""


def run(words: list[str]) -> None:
    """Writes the model in the other layout and says what it was."""
    from vitjax.export.convert import convert

    asked = tyro.cli(ConvertArguments, prog="vitjax convert", args=words)
    file = convert(asked.model, Path(asked.out), to=asked.to, step=asked.step)
    for note in file.notes:
        print(note)
    named = sum(bool(name) for name in file.classes.names)
    kind, count = type(file.model).__name__, len(file.classes)
    print(f"{kind} with {count} class labels, {named} of them named: wrote {asked.out}")
