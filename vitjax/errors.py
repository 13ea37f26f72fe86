"""The errors of vitjax itself: one sentence for whoever can mend it, which commands print without a traceback."""


class VitjaxError(ValueError):
    """What a user can mend, in one sentence that stands on its own: the thing, the value found, and what is wished.

    Everything else that is raised is a mistake in code, in vitjax, JAX or a user's own module, and keeps its traceback.
    """


class SettingError(VitjaxError):
    """A field of a config, or an option of a command, has a value that means nothing or goes with no other."""
