"""TensorBoard's event files, written record by record: what cannot be written is an error where it happens.

tensorboardX's own writer is a thread, whose errors nobody can catch.
"""

import os
import socket
import struct
import time
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from tensorboardX import summary
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.record_writer import masked_crc32c

from vitjax.checkpoints.writing import AppendedFile

_VERSION = "brain.Event:2"


class EventFile:
    """A new event file in a folder; events of others there from `purge_step` on are void."""

    def __init__(self, folder: Path, purge_step: int | None) -> None:
        """Raises an OSError where it cannot be written, as all methods do."""
        folder.mkdir(parents=True, exist_ok=True)
        # Another start within the same second must not write into this file.
        start = f"events.out.tfevents.{int(time.time())}.{socket.gethostname()}.{os.getpid()}.{time.time_ns()}"
        self._file = AppendedFile(folder / start)
        self._add(Event(file_version=_VERSION))
        if purge_step is not None:
            self._add(Event(step=purge_step, file_version=_VERSION))
            self._add(Event(step=purge_step, session_log=SessionLog(status=SessionLog.START)))

    def scalar(self, name: str, value: float, step: int) -> None:
        """Adds a number."""
        self._add(Event(summary=summary.scalar(name, value), step=step))

    def image(self, name: str, picture: UInt8[np.ndarray, "height width 3"], step: int) -> None:
        """Adds a picture."""
        self._add(Event(summary=summary.image(name, picture, dataformats="HWC"), step=step))

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def _add(self, event: Event) -> None:
        """Appends a record: length, its checksum, bytes, their checksum (Source: TensorFlow, the TFRecord format)."""
        event.wall_time = time.time()
        content = event.SerializeToString()
        length = struct.pack("<Q", len(content))
        sums = [struct.pack("<I", masked_crc32c(part)) for part in (length, content)]
        self._file.append(length + sums[0] + content + sums[1])
