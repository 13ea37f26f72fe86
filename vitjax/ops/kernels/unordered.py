"""Sums in memory that wait for nothing: Pallas orders all other accesses before and after each atomic sum.

A fence and two barriers for each take longer than the sums. Pallas has no word for doing without, so what it writes for
Triton is changed where it is written, for the kernels of one name alone.
"""

from typing import Any

_RELAXED = 1  # of Triton's orders


def unordered_sums(name: str) -> None:
    """Makes atomic operations of kernels of this name order nothing else; where JAX is built otherwise they stay slow.

    For sums that nobody reads before the kernel ends.
    """
    try:
        from jax._src.pallas.triton import lowering, primitives

        rules: dict[Any, Any] = lowering.triton_lowering_rules
        ordered = rules[primitives.atomic_rmw_p]
    except (ImportError, AttributeError, KeyError):
        return

    def rule(context: Any, *given: Any, **options: Any) -> Any:
        before: Any = ordered(context, *given, **options)
        made = before.owner.attributes if context.context.name == name else {}
        if "sem" in made:
            made["sem"] = type(made["sem"]).get(made["sem"].type, _RELAXED)
        return before

    rules[primitives.atomic_rmw_p] = rule
