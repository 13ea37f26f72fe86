"""The errors of vitjax itself: one sentence for whoever can mend it, which commands print without a traceback."""

from typing import ClassVar


class VitjaxError(ValueError):
    """What a user can mend, in one sentence that stands on its own: the thing, the value found, and what is wished.

    Everything else that is raised is a mistake in code, in vitjax, JAX or a user's own module, and keeps its traceback.
    `exit_code` is that of a command which it ends.
    """

    exit_code: ClassVar[int] = 1


class FieldError(VitjaxError):
    """A field of a config, or an option of a command, has a value that means nothing or goes with no other."""
