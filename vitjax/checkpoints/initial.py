"""Weights that a new run starts from: another run, or published ones."""

from pathlib import Path
from typing import Any

import jax
import numpy as np

from vitjax.checkpoints.published import from_published, renamed_norms
from vitjax.checkpoints.store import Store
from vitjax.data.errors import DataError
from vitjax.training.paths import flatten, unflatten


def read_variables(path: Path) -> dict[str, Any]:
    """The variables that a run folder's best checkpoint, or a file with published names, holds, as NumPy arrays.

    Raises:
        DataError: there is nothing of the kind at the path.
    """
    if path.is_dir():
        checkpoints = path / "checkpoints"
        if not checkpoints.is_dir():
            raise DataError(f"{path} holds no checkpoints; give a run folder or a .safetensors or .npz file.")
        with Store(checkpoints) as store:
            step = store.best_step()
            step = store.latest_step() if step is None else step
            if step is None:
                raise DataError(f"{path} holds no checkpoint yet.")
            return variables_of_checkpoint(store, step)
    if not path.is_file():
        raise DataError(f"there is no {path}; give a run folder or a .safetensors or .npz file with published names.")
    return from_published(_read_state(path))


def variables_of_checkpoint(store: Store, step: int) -> dict[str, Any]:
    """What `model.apply` takes, from a training checkpoint: the averaged weights where it has them, else the last."""
    weights = "average" if store.holds(step, "average") else "trainable"
    trained, frozen, constants = (store.restore_subtree(step, key) for key in (weights, "frozen", "constants"))
    return {"params": unflatten(flatten(trained) | flatten(frozen)), **constants}


def _read_state(path: Path) -> dict[str, np.ndarray]:
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as arrays:
            return dict(arrays)
    if path.suffix == ".safetensors":
        from safetensors.numpy import load_file

        return load_file(path)
    raise DataError(f"{path} is neither .safetensors nor .npz; convert it to one of these first.")


def _placed(given: dict[str, Any]) -> dict[str, Any]:
    """A ResNet file's variables as those of a model around the backbone, the head apart; all others as they are."""
    if "params/stem_conv/kernel" not in given:
        return given
    head = "params/head/"
    return {n if n.startswith(head) else n.replace("/", "/backbone/", 1): array for n, array in given.items()}


def initialize_from(path: Path, variables: dict[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """`variables` with everything replaced that `path` holds in the same shape, and lines on what was not.

    Batch norms that are frozen on one side and learn on the other are taken over too.

    Raises:
        DataError: nothing fits.
    """
    given, wanted = _placed(flatten(read_variables(path))), flatten(variables)
    names = renamed_norms(given, wanted)
    given = {names.get(name, name): array for name, array in given.items()}
    taken = {name: given[name] for name in wanted if name in given and given[name].shape == wanted[name].shape}
    if not taken:
        raise DataError(f"{path} holds none of this model's parameters; is it of another architecture?")
    fresh = sorted(wanted.keys() - taken.keys())
    unused = sorted(given.keys() - taken.keys())
    notes = [f"{len(taken)} of {len(wanted)} arrays are taken from {path}"]
    if names:
        old, new = next(iter(names.items()))
        notes.append(
            f"{len(names) // 4} batch norms change between frozen and learning: {old} is {new} here, and so on"
        )
    notes += [f"starts anew: {name} {wanted[name].shape}" for name in fresh]
    notes += [f"not used: {name} {given[name].shape}" for name in unused if name not in wanted]
    merged = {
        name: jax.numpy.asarray(taken[name], leaf.dtype) if name in taken else leaf for name, leaf in wanted.items()
    }
    return unflatten(merged), tuple(notes)
