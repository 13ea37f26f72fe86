"""The one error of the data wing, the count of what was skipped or mended instead, and numbers that cannot be."""

from dataclasses import dataclass, field

from vitjax.errors import FieldError, VitjaxError


class DataError(VitjaxError):
    """What is wrong with the data, in one sentence: the file, the value found, and what would be right.

    The commands print the sentence without a traceback, so it must stand on its own.
    """


_LONGEST = 500  # characters of an example


@dataclass(frozen=True)
class Tally:
    """Counts what was skipped or mended, by kind, with the first example of each kind."""

    kinds: dict[str, tuple[int, str]] = field(default_factory=dict)

    def add(self, kind: str, example: str, count: int = 1) -> None:
        """Counts `count` more of a kind; the example is kept if it is the first."""
        before, first = self.kinds.get(kind, (0, in_one_line(example[:_LONGEST])))
        if count:
            self.kinds[kind] = (before + count, first)

    def lines(self, where: str) -> tuple[str, ...]:
        """One line for people about every kind, beginning with the file it is about."""
        return tuple(f"{where}: {kind}: {count} (first: {first})" for kind, (count, first) in self.kinds.items())


def in_one_line(text: str) -> str:
    """The text with everything escaped that would break the line, steer a terminal, or cannot be written out at all."""
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)


def require_positive(**values: int) -> None:
    """Nothing, if no value is below 1.

    Raises:
        FieldError: one is; the sentence names it.
    """
    for name, value in values.items():
        if value < 1:
            raise FieldError(f"{name} is at least 1, got {value}")


def require_sides(owner: str, **sides: int | None) -> None:
    """Nothing, if the fields of the owner are sides that an image can have, or None.

    Raises:
        FieldError: one is not; the sentence names it.
    """
    for name, value in sides.items():
        if value is not None and value < 1:
            raise FieldError(f"{owner}.{name} is a side in pixels and at least 1, got {value}")
