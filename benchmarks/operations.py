"""How many floating point operations the products of a traced function take."""

import math
from typing import Any


def products(traced: Any, platform: str = "") -> float:
    """Those of matrix products and convolutions in a jaxpr, two for a multiplication and its addition.

    That is what PyTorch's counter counts. A scan counts as often as it runs, another loop once, of branches for
    platforms the one for this platform or else for all others, and of other branches the one that has most.
    """
    total = 0.0
    for equation in getattr(traced, "jaxpr", traced).eqns:
        name, settings = equation.primitive.name, equation.params
        if name == "dot_general":
            (contracted, _), _ = settings["dimension_numbers"]
            shape = equation.invars[0].aval.shape
            total += 2 * equation.outvars[0].aval.size * math.prod(shape[axis] for axis in contracted)
        elif name == "conv_general_dilated":
            kernel, features = equation.invars[1].aval, settings["dimension_numbers"].rhs_spec[0]
            total += 2 * equation.outvars[0].aval.size * kernel.size / kernel.shape[features]
        inside = [one for value in settings.values() for one in (value if isinstance(value, tuple | list) else [value])]
        times = settings["length"] if name == "scan" else 1
        parts = [products(one, platform) for one in inside if hasattr(getattr(one, "jaxpr", one), "eqns")]
        if platforms := settings.get("branches_platforms"):
            total += next(part for part, of in zip(parts, platforms, strict=True) if of is None or platform in of)
        else:
            total += max(parts, default=0) if name == "cond" else times * sum(parts)
    return total
