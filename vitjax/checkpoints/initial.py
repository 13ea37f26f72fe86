"""Weights that a new run starts from: another run, or published ones."""

from pathlib import Path
from typing import Any

import jax
import numpy as np

from vitjax.checkpoints.published import from_published
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
    """What `model.apply` takes, from a training checkpoint, without its optimizer state."""
    trainable, frozen, constants = (store.restore_subtree(step, key) for key in ("trainable", "frozen", "constants"))
    return {"params": unflatten(flatten(trainable) | flatten(frozen)), **constants}


def _read_state(path: Path) -> dict[str, np.ndarray]:
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as arrays:
            return dict(arrays)
    if path.suffix == ".safetensors":
        from safetensors.numpy import load_file

        return load_file(path)
    raise DataError(f"{path} is neither .safetensors nor .npz; convert it to one of these first.")


def _placed(given: dict[str, Any]) -> dict[str, Any]:
    """A bare ResNet's variables as those of a detector's backbone; all others as they are."""
    if "params/stem_conv/kernel" in given:
        return {name.replace("/", "/backbone/", 1): array for name, array in given.items()}
    return given


def initialize_from(path: Path, variables: dict[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """`variables` with everything replaced that `path` holds in the same shape, and lines on what was not.

    Raises:
        DataError: nothing fits.
    """
    given, wanted = _placed(flatten(read_variables(path))), flatten(variables)
    taken = {name: given[name] for name in wanted if name in given and given[name].shape == wanted[name].shape}
    if not taken:
        raise DataError(f"{path} holds none of this model's parameters; is it of another architecture?")
    fresh = sorted(wanted.keys() - taken.keys())
    unused = sorted(given.keys() - taken.keys())
    notes = [f"{len(taken)} of {len(wanted)} arrays are taken from {path}"]
    notes += [f"starts anew: {name} {wanted[name].shape}" for name in fresh]
    notes += [f"not used: {name} {given[name].shape}" for name in unused if name not in wanted]
    merged = {
        name: jax.numpy.asarray(taken[name], leaf.dtype) if name in taken else leaf for name, leaf in wanted.items()
    }
    return unflatten(merged), tuple(notes)
