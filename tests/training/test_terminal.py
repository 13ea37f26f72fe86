import contextlib
import fcntl
import os
import struct
import termios

import pytest

from vitjax.training.report import Progress


@pytest.mark.parametrize(("rows", "columns", "kind", "bar"), [(0, 0, "xterm", False), (24, 80, "xterm", True),
                                                              (24, 80, "dumb", False)])  # fmt: skip
def test_a_terminal_without_rows_gets_plain_lines(rows, columns, kind, bar, monkeypatch):
    monkeypatch.setenv("TERM", kind)
    told, (ours, theirs) = "", os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    with os.fdopen(theirs, "w") as stream, Progress(2, stream=stream) as progress:
        progress.note("compiling 3 of 12 sizes")
        progress.update(1, loss=1.0)
    with contextlib.suppress(OSError), os.fdopen(ours, "rb") as screen:  # its end is an error
        for line in screen:
            told += line.decode()
    assert "compiling 3 of 12 sizes" in told and "loss 1.000" in told
    assert ("1/2 |" in told) == bar and ("step 1/2, " in told) != bar
