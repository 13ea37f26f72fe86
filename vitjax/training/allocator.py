"""Memory that the compiler has used and the C library keeps, which is more than some training steps need."""

import ctypes
from contextlib import suppress


def give_back_freed() -> None:
    """Lets the system have what is free, some 600 MB after XLA's compiler; glibc alone has a call for it."""
    with suppress(AttributeError, OSError, TypeError):  # another C library; none to be found; Windows
        ctypes.CDLL(None).malloc_trim(0)
