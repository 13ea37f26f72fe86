"""The exported program as an ONNX file, through jax2onnx, checked in onnxruntime.

jax2onnx knows most primitives of JAX one by one, but replaces functions of Flax while it traces and does not take ours.
So the program is traced first, and what is left unsupported or wrong is put in other primitives: padding becomes
concatenation, pooling loses its padding, and what depends on the platform is what the platforms without code of their
own do.
"""

import functools
import importlib.metadata
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend import core

from vitjax.data.errors import DataError
from vitjax.errors import FieldError
from vitjax.export.program import Outputs, Program

PACKAGES = ("jax2onnx", "onnx", "onnxruntime")
_INLINED = ("jit", "closed_call", "custom_jvp_call", "custom_vjp_call", "remat", "checkpoint")


def converted(program: Program, batch: int) -> bytes:
    """The content of the ONNX file for so many images, with the names of the program's inputs and outputs.

    Raises:
        FieldError: a package that this needs is not installed.
        DataError: the program has something that the converter does not know.
    """
    require_packages()
    import jax2onnx

    specs = [jax.ShapeDtypeStruct(each.shape, np.dtype(each.dtype)) for each in program.inputs(batch)]
    traced = jax.make_jaxpr(lambda *inputs: program(*inputs))(*specs)

    def plain(*inputs: Any) -> list[Any]:
        return evaluated(traced.jaxpr, traced.consts, inputs)

    try:
        model = jax2onnx.to_onnx(plain, specs, return_mode="proto")
    except Exception as error:  # whatever it raises is about what it does not know
        told = f"jax2onnx does not convert this model ({_reason(error)})"
        raise DataError(f"{told}. Export it without --onnx.") from error
    names = sorted(jax.eval_shape(lambda *inputs: program(*inputs), *specs))
    return named(model, [each.name for each in program.inputs(batch)], names).SerializeToString()


def runner(content: bytes) -> Callable[..., Outputs]:
    """The file in onnxruntime on the CPU: from arrays in order to the outputs by name.

    Raises:
        DataError: onnxruntime refuses the file.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise _refused(error) from error
    inputs, outputs = ([each.name for each in some] for some in (session.get_inputs(), session.get_outputs()))

    def call(*arrays: Any) -> Outputs:
        try:
            found = session.run(outputs, dict(zip(inputs, map(np.asarray, arrays), strict=True)))
        except Exception as error:
            raise _refused(error) from error
        return dict(zip(outputs, found, strict=True))

    return call


def _reason(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)[:200]


def _refused(error: Exception) -> DataError:
    return DataError(f"onnxruntime does not run the converted model ({_reason(error)}). Export it without --onnx.")


def require_packages() -> None:
    """Raises a FieldError where a package is not installed."""
    for name in PACKAGES:
        try:
            importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            raise FieldError(
                f"--onnx needs {name}: pip install 'vitjax[onnx]'. Without --onnx it is StableHLO."
            ) from None


def evaluated(jaxpr: Any, consts: Sequence[Any], inputs: Sequence[Any]) -> list[Any]:
    """What a jaxpr gives for its inputs, with calls inlined and some primitives in the form of others."""
    known: dict[Any, Any] = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*consts, *inputs], strict=True))

    def read(atom: Any) -> Any:
        return atom.val if isinstance(atom, core.Literal) else known[atom]

    for equation in jaxpr.eqns:
        given, name = [read(atom) for atom in equation.invars], equation.primitive.name
        inner = next((equation.params[key] for key in ("jaxpr", "call_jaxpr") if key in equation.params), None)
        if all(variable.aval.size == 0 for variable in equation.outvars):  # which onnxruntime does not take
            found: Any = [np.zeros(variable.aval.shape, variable.aval.dtype) for variable in equation.outvars]
        elif name == "concatenate":
            found = [lax.concatenate([part for part in given if part.size], **equation.params)]
        elif name in _INLINED and inner is not None:
            found = evaluated(getattr(inner, "jaxpr", inner), getattr(inner, "consts", ()), given)
        elif name == "platform_index":
            found = [np.int32(_otherwise(equation.params["platforms"]))]
        elif name == "cond" and not isinstance(given[0], jax.core.Tracer):
            branch = equation.params["branches"][int(given[0])]
            found = evaluated(branch.jaxpr, branch.consts, given[1:])
        elif name in _OTHERWISE:
            instead: Any = _OTHERWISE[name]
            found = [instead(*given, **equation.params)]
        else:
            found = equation.primitive.bind(*given, **equation.params)
            found = found if equation.primitive.multiple_results else [found]
        known.update(zip(equation.outvars, found, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _otherwise(platforms: Sequence[Any]) -> int:
    """Which of the branches is for platforms that have none of their own; the last where there is none such."""
    return next((place for place, one in enumerate(platforms) if one is None), len(platforms) - 1)


def _padded(x: Any, value: Any, *, padding_config: Any, **_: Any) -> Any:
    if any(inside for *_, inside in padding_config) or any(min(low, high) < 0 for low, high, _ in padding_config):
        return lax.pad(x, value, padding_config)
    for axis, (low, high, _) in enumerate(padding_config):
        parts = [x]
        for length, place in ((high, 1), (low, 0)):
            if length:
                shape = (*x.shape[:axis], length, *x.shape[axis + 1 :])
                parts.insert(place, jnp.broadcast_to(jnp.asarray(value, x.dtype), shape))
        x = lax.concatenate(parts, axis) if len(parts) > 1 else x
    return x


def _pooled(x: Any, *, padding: Any, window_dimensions: Any, window_strides: Any, **given: Any) -> Any:
    """The largest value of each window, as the maximum of as many shifted maps as a window has places."""
    if any(step != 1 for name in ("base_dilation", "window_dilation") for step in given[name]):
        raise NotImplementedError("pooling with dilation")
    lowest = jnp.array(-jnp.inf if jnp.issubdtype(x.dtype, jnp.floating) else jnp.iinfo(x.dtype).min, x.dtype)
    x = _padded(x, lowest, padding_config=[(low, high, 0) for low, high in padding])
    sides = zip(x.shape, window_dimensions, window_strides, strict=True)
    reach = [(length - window) // step * step + 1 for length, window, step in sides]
    places = np.ndindex(*window_dimensions)
    parts = (lax.slice(x, place, np.add(place, reach).tolist(), window_strides) for place in places)
    return functools.reduce(jnp.maximum, parts)


_OTHERWISE: dict[str, Callable[..., Any]] = {"pad": _padded, "reduce_window_max": _pooled}


def named(model: Any, inputs: Sequence[str], outputs: Sequence[str]) -> Any:
    """The model with other names for what goes in and comes out."""
    from onnx import helper

    graph = model.graph
    for names, values, first in ((inputs, graph.input, True), (outputs, graph.output, False)):
        for name, value in zip(names, values, strict=True):
            pair = (name, value.name) if first else (value.name, name)
            node = helper.make_node("Identity", [pair[0]], [pair[1]], name=f"named_{name}")
            graph.node.insert(0, node) if first else graph.node.append(node)
            value.name = name
    return model
