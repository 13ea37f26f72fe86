"""What the numbers of an experiment may be, in words that its errors use."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from vitjax.errors import FieldError


class Wish(NamedTuple):
    """What a number must be, in words, and whether it is; `whole` and `or_none` say what else it must or may be."""

    words: str
    holds: Callable[[Any], bool]
    whole: bool = False
    or_none: bool = False


POSITIVE = Wish("a number above 0", lambda value: value > 0)
AT_LEAST_0 = Wish("a number, at least 0", lambda value: value >= 0)
DECAY = Wish("a decay between 0 and 1", lambda value: 0 < value < 1)
SHARE = Wish("a number from 0 to 1", lambda value: 0 <= value <= 1)
COUNT = Wish("a whole number, at least 0", lambda value: value >= 0, whole=True)
COUNT_FROM_1 = Wish("a whole number, at least 1", lambda value: value >= 1, whole=True)
SEED = Wish("a whole number from 0 to below 2**63", lambda value: 0 <= value < 2**63, whole=True)


def or_none(wish: Wish) -> Wish:
    """The same, or None."""
    return wish._replace(words=f"{wish.words}, or None", or_none=True)


def require(owner: Any, wishes: Mapping[str, Wish]) -> None:
    """Passes where each field of the owner is the number that is wished.

    Raises:
        FieldError: one is not; the message names field, wish and value.
    """
    for name, wish in wishes.items():
        require_number(name, getattr(owner, name), wish)


def require_number(name: str, value: Any, wish: Wish) -> None:
    """Passes where the value is the finite number that is wished.

    Raises:
        FieldError: it is not.
    """
    if value is None and wish.or_none:
        return
    kinds = (int,) if wish.whole else (int, float)
    if isinstance(value, bool) or not isinstance(value, kinds) or not math.isfinite(value) or not wish.holds(value):
        raise FieldError(f"{name} must be {wish.words}; got {value!r}.")


def require_class_weights(weights: Sequence[float] | None, classes: int) -> None:
    """Passes where there are no weights of classes, or one for each class that a loss can take.

    Raises:
        FieldError: there are more or fewer, or they are no weights.
    """
    if weights is None:
        return
    for weight in weights:
        require_number("class_weights", weight, AT_LEAST_0)
    if len(weights) != classes or not any(weights):
        raise FieldError(
            f"class_weights has a weight for each of the {classes} classes in the order of their labels, and one above "
            f"0; got {len(weights)}: {', '.join(map(str, weights[:8]))}."
        )
