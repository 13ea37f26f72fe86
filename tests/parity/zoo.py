"""The format of the attention zoo's cases: drawn inputs and cotangents, overridden weights, gradients by parameter.

A runner of a module says how its tensors are called here and what its forward pass gives; `run_module` does the rest.
"""

import hashlib
import json
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from .comparison import Results
from .golden import Arrays, Case, GoldenError, draw, image, normal

Forward = Callable[[dict[str, Any], dict[str, jax.Array]], Mapping[str, jax.Array]]
Naming = Callable[[str], str | None]


def spread(name: str, shape: tuple[int, ...], scale: float = 1.0, offset: float = 0.0) -> np.ndarray:
    """Normal numbers (N, C, ...) with a constant of its own for every index of the first two axes."""
    z = normal(name, shape)
    if offset:
        z = z + np.float32(offset) * normal(f"{name}/offset", (*shape[:2], *(1 for _ in shape[2:])))
    return np.float32(scale) * z


def drawn(entry: Mapping[str, Any]) -> np.ndarray:
    """The array that an entry of `inputs` or `cotangents` describes.

    Raises: GoldenError where the rule is unknown, or the checksum is another.
    """
    name, shape = entry["name"], tuple(entry["shape"])
    if entry["rule"] == "normal":
        array = normal(name, shape)
    elif entry["rule"] == "feature":
        array = spread(name, shape, entry.get("scale", 1.0), entry.get("offset", 0.0))
    elif entry["rule"] == "images":
        count, _, height, width = shape  # whatever the layout
        array = np.stack([image(f"{name}/{i}", height, width) for i in range(count)])
        array = np.ascontiguousarray(array.transpose(0, 2, 3, 1)) if entry.get("layout") == "NHWC" else array
    else:
        raise GoldenError(f"the runner does not know how to draw by the rule {entry['rule']!r}")
    wanted = entry.get("sha256_16")
    if wanted and hashlib.sha256(array.tobytes()).hexdigest()[:16] != wanted:
        total, sum_ = float(np.abs(array, dtype=np.float64).sum()), entry.get("abs_sum")
        if sum_ is None or not np.isclose(total, sum_, rtol=1e-6):
            raise GoldenError(f"{name} was drawn with another checksum, and sum {total} where {sum_} is wanted")
    return array


def entry_of(case: Case, name: str, default: Any = None) -> Any:
    """An entry of the case, or of the manifest where the case has none of its own."""
    return case.settings.get(name, case.manifest.get(name, default))


def config_of(case: Case) -> dict[str, Any]:
    """The manifest's constructor arguments with those of the case over them."""
    case.config.read |= case.config.keys()
    return {**case.config, **case.settings.get("config", {})}


def inputs_of(case: Case) -> dict[str, jax.Array]:
    """What is handed in, drawn and stored."""
    return {name: jnp.asarray(drawn(entry)) for name, entry in entry_of(case, "inputs", {}).items()} | case.inputs()


def cotangents_of(case: Case) -> dict[str, jax.Array]:
    """What the outputs are multiplied with before gradients are taken, by the output's name."""
    return {name: jnp.asarray(drawn(entry)) for name, entry in entry_of(case, "cotangents", {}).items()}


def tensors_of(case: Case) -> Arrays:
    """The published tensors of a case with its overrides, by published name."""
    listed = entry_of(case, "state_dict")
    if listed is None and (file := entry_of(case, "state_dict_file")):
        listed = json.loads((case.root / file if (case.root / file).exists() else _beside(case, file)).read_text())
        listed = listed["state_dict"]
    shapes, prefix = entry_of(case, "state_dict_shape_overrides", {}), entry_of(case, "draw_prefix", "")
    tensors = {
        name: draw(prefix + name, tuple(shapes.get(name, shape)))
        for name, shape, dtype in listed or []
        if dtype.startswith("float")
    }
    digest = hashlib.sha256(b"".join(np.ascontiguousarray(value).tobytes() for value in tensors.values())).hexdigest()
    if tensors and digest != entry_of(case, "weights_sha256"):
        total = sum(float(np.abs(value, dtype=np.float64).sum()) for value in tensors.values())
        if not np.isclose(total, entry_of(case, "weights_abs_sum", 0.0), rtol=1e-6):
            raise GoldenError(f"{case.id}: the drawn weights have another checksum")
    case.settings.read |= {"weights_count", "weights_abs_sum", "note"}
    for name, value in entry_of(case, "overrides", {}).items():
        tensors[name] = np.asarray(value, np.float32).reshape(tensors[name].shape)
    return tensors


def _beside(case: Case, file: str) -> Any:
    """A file that is named from the zoo's own folder, which may lie below the golden folder."""
    found = [parent / file for parent in case.folder.parents if (parent / file).exists()]
    if not found:
        raise GoldenError(f"{case.id}: there is no {file} above {case.folder}")
    return found[0]


def to_ours(tensor: np.ndarray) -> np.ndarray:
    """A published weight in our layout: kernels have inputs and outputs last."""
    return tensor if tensor.ndim < 2 else np.ascontiguousarray(np.moveaxis(tensor, (1, 0), (-2, -1)))


def channels_last(x: jax.Array) -> jax.Array:
    """(N, C, ...) as (N, ..., C)."""
    return jnp.moveaxis(x, 1, -1)


def channels_first(x: jax.Array) -> jax.Array:
    """(N, ..., C) as (N, C, ...)."""
    return jnp.moveaxis(x, -1, 1)


def run_module(
    case: Case,
    forward: Forward,
    naming: Naming,
    *,
    like: Any,
    gradients: Iterable[str] = ("x",),
    tables: Collection[str] = (),
) -> Results:
    """The outputs of a module, and the gradients to inputs and parameters that its cotangents give.

    `forward` takes our variables and the inputs as they are published, and gives outputs under their published names
    and in their published layout. `naming` gives the place of a published tensor among our variables
    (`params/query/kernel`), None for one that is never used; `tables` are tensors of two axes that are no kernels.
    `like` holds our variables' shapes: all are filled.
    """
    tensors, inputs, cotangents = tensors_of(case), inputs_of(case), cotangents_of(case)
    places = {name: naming(name) for name in tensors}
    ours = {name: tensor if name in tables else to_ours(tensor) for name, tensor in tensors.items()}
    flat = {place: jnp.asarray(ours[name]) for name, place in places.items() if place}
    _require_all(case, flat, like)

    def weighed(flat: dict[str, jax.Array], moving: dict[str, jax.Array]) -> tuple[jax.Array, Any]:
        variables = unflatten_dict({tuple(place.split("/")): value for place, value in flat.items()})
        outputs = dict(forward(variables, {**inputs, **moving}))
        total = sum((outputs[name] * cotangent).sum() for name, cotangent in cotangents.items())
        return jnp.asarray(total, jnp.result_type(float)), outputs

    moving = {name: inputs[name] for name in gradients}
    run = jax.jit(jax.value_and_grad(weighed, argnums=(0, 1), has_aux=True))
    (_, outputs), (by_tensor, by_input) = run(flat, moving)
    values = {name: np.asarray(value) for name, value in outputs.items()}
    values |= {f"grad_{name}": np.asarray(value) for name, value in by_input.items()}
    norms = {
        name: float(jnp.sqrt(jnp.square(by_tensor[place].astype(jnp.float32)).sum())) if place else 0.0
        for name, place in places.items()
    }
    values["grad_param_l2"] = np.array([norms[name] for name in entry_of(case, "grad_param_order", [])], np.float32)
    return Results(values)


def _require_all(case: Case, flat: Mapping[str, jax.Array], like: Any) -> None:
    """Raises a GoldenError where the placed tensors are not our variables, one by one."""
    wanted = {"/".join(path): leaf.shape for path, leaf in flatten_dict(like).items()}
    found = {place: value.shape for place, value in flat.items()}
    wrong = sorted(place for place in wanted.keys() | found.keys() if wanted.get(place) != found.get(place))
    if wrong:
        words = ", ".join(f"{place} (ours {wanted.get(place)}, placed {found.get(place)})" for place in wrong[:6])
        raise GoldenError(f"{case.id}: {len(wrong)} tensors do not fit: {words}")
