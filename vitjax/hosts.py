"""Several processes, one on each host or device, that do one work: how they meet, what they tell each other, and that
they end together. Imported only where a command is told of them.

They talk through the store of keys and values that JAX's coordinator on host 0 has, which needs no device.
"""

import contextlib
import ctypes
import itertools
import json
import multiprocessing
import os
import re
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from typing import Any, NoReturn, TextIO

import jax

from vitjax.across_hosts import LONG, coordination
from vitjax.errors import FieldError, VitjaxError

_BEAT = 1.0  # seconds between signs of life, and between looks at those of others
_SILENCE = 25.0  # seconds without one after which a host is given up
_HEARTBEAT = 60  # seconds; JAX's own, which aborts a process with no name said, is sent twice in it: so ours is earlier
_MEETING = 600  # seconds in which all hosts must be there
_REFUSING = 20_000  # milliseconds between the hosts that read the same command line
_TELLING = 3.0  # seconds that host 0, which the others ask, stays after its end is told
_TALKS = itertools.count()
_HANDLERS: list[Any] = []  # of signals, which C calls: they must stay
_OF_DEVICES = ("gloo", "nccl", "socket closed", "connection", "unavailable", "cancelled", "deadline")


class HostFailed(VitjaxError):
    """Another host has failed; the message names it and has its error."""


def together(coordinator: str | None, count: int | None, index: int | None, work: Callable[[], int]) -> int:
    """The exit code of the work that all hosts do at once; if one fails all end with its name and its error.

    This is host `index` of `count`, and host 0 starts the coordinator; where all are None the environment says them.
    Host 0 speaks for all: what the others print is dropped, but for why they end.

    Raises:
        FieldError: the hosts do not find each other.
    """
    _meet(coordinator, count, index)
    if jax.process_count() == 1:
        return work()
    stderr = sys.stderr
    watch = _Watch(stderr)
    with contextlib.ExitStack() as stack:
        if jax.process_index() > 0:
            nothing = stack.enter_context(open(os.devnull, "w"))
            stack.enter_context(contextlib.redirect_stdout(nothing))
            stack.enter_context(contextlib.redirect_stderr(nothing))
        try:
            code = work()
        except SystemExit as stop:  # of --help, or of a word that no host knows
            code = stop.code if isinstance(stop.code, int) else 1
            if code and not _all_refuse():
                watch.fail(
                    FieldError("its command line is refused, and not that of all; it must be the same on all hosts.")
                )
        except BaseException as error:
            watch.fail(error)
        _client().wait_at_barrier("vitjax/end", LONG)
        watch.stop()
    jax.distributed.shutdown()
    return code


def _all_refuse() -> bool:
    """Whether all hosts have words that no command knows, and not this one alone, for which the others would wait."""
    try:
        _client().wait_at_barrier("vitjax/refused", _REFUSING)
    except jax.errors.JaxRuntimeError:
        return False
    return True


def _meet(*given: Any) -> None:
    jax.config.update("jax_enable_preemption_service", False)  # a run answers signals by itself
    names = ("coordinator_address", "num_processes", "process_id")
    options: Any = dict(zip(names, given, strict=True))
    options |= {"initialization_timeout": _MEETING, "heartbeat_timeout_seconds": _HEARTBEAT}
    if None not in given:
        options["cluster_detection_method"] = "deactivate"
    elif (devices := gpus_of_only_task()) is not None:
        options["local_device_ids"] = devices
    wish = (
        "Start the command with srun, mpirun or on a TPU VM, or say --hosts N --host I --coordinator HOST:PORT"
        if None in given
        else f"Is {given[0]} host 0, reachable from here, and its port free? Does the command run on all {given[1]}?"
    )
    lost = "--hosts: the hosts do not find each other"

    def aborted() -> NoReturn:
        print(f"error: {lost} within {_MEETING} seconds. {wish}", file=sys.stderr, flush=True)
        os._exit(FieldError.exit_code)

    _answer_abort(aborted)
    try:
        jax.distributed.initialize(**options)
    except (ValueError, RuntimeError, KeyError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise FieldError(f"{lost}: {reason} {wish}") from error


def _answer_abort(word: Callable[[], NoReturn]) -> None:
    """Lets this process say a word where JAX aborts it, as when the coordinator is gone: it offers nothing else."""
    handler = ctypes.CFUNCTYPE(None, ctypes.c_int)(lambda _number: word())
    _HANDLERS.append(handler)
    library = ctypes.CDLL(None)
    library.signal.argtypes, library.signal.restype = [ctypes.c_int, ctypes.c_void_p], ctypes.c_void_p
    library.signal(signal.SIGABRT, ctypes.cast(handler, ctypes.c_void_p))


def gpus_of_only_task() -> list[int] | None:
    """All GPUs of a node for the only task that Slurm starts there, of which JAX would take one; None elsewhere."""
    tasks, gpus = (os.environ.get(f"SLURM_{name}", "") for name in ("STEP_TASKS_PER_NODE", "GPUS_ON_NODE"))
    alone = re.fullmatch(r"1(\(x\d+\))?", tasks) is not None
    return list(range(int(gpus))) if alone and gpus.isdecimal() else None


def name_of(index: int) -> str:
    """A host as people know it, as in "host 1 of 2 (node7)"."""
    try:
        name = _client().blocking_key_value_get(f"vitjax/name/{index}", 10_000)
    except (RuntimeError, ValueError):
        name = "unknown"
    return f"host {index} of {jax.process_count()} ({name})"


def everybody_says(said: Mapping[str, Any] | None) -> dict[int, dict[str, Any]]:
    """What each host that has something to say has said, as JSON holds it; all hosts must call it alike."""
    talk, client = next(_TALKS), _client()
    if said:
        client.key_value_set(f"vitjax/said/{talk}/{jax.process_index()}", json.dumps(said))
    client.wait_at_barrier("vitjax/said", LONG)
    found = client.key_value_dir_get(f"vitjax/said/{talk}/")
    return {int(key.rpartition("/")[2]): json.loads(text) for key, text in sorted(found)}


def first_says(said: Callable[[], str]) -> str:
    """What host 0 says, on every host; all hosts must call it alike."""
    key, client = f"vitjax/first/{next(_TALKS)}", _client()
    if jax.process_index() == 0:
        text = said()
        client.key_value_set(f"{key}/text", text)
        client.key_value_set(key, "said")
        return text
    while True:  # in pieces, between which Python answers signals; what may be long is asked for once it is there
        try:
            client.blocking_key_value_get(key, 1000)
            return client.blocking_key_value_get(f"{key}/text", LONG)
        except jax.errors.JaxRuntimeError as error:
            if "DEADLINE_EXCEEDED" not in str(error):
                raise


def _client() -> Any:
    return coordination().client


class _Watch(threading.Thread):
    """Tells the others that this host lives, and ends it when one of them does not."""

    def __init__(self, stderr: TextIO) -> None:
        super().__init__(daemon=True)
        self._stderr, self._ended = stderr, threading.Event()
        self._me, self._hosts = jax.process_index(), jax.process_count()
        self._name = f"host {self._me} of {self._hosts} ({socket.gethostname()})"
        self._looked = self._patient = time.monotonic()
        self._beats = {f"vitjax/beat/{index}": ("", self._looked) for index in range(self._hosts)}
        _client().key_value_set(f"vitjax/name/{self._me}", socket.gethostname())
        self._first, self._address = name_of(0), str(coordination().coordinator_address)
        _answer_abort(self._aborted)
        self.start()

    def stop(self) -> None:
        """Ends the watch: all hosts are at their end."""
        self._ended.set()
        self.join(5 * _BEAT)

    def run(self) -> None:
        """Beats and looks, until it is stopped."""
        for beat in itertools.count():
            if self._ended.wait(_BEAT):
                return
            with contextlib.suppress(RuntimeError, ValueError):  # the coordinator is gone: JAX aborts
                _client().key_value_set(f"vitjax/beat/{self._me}", str(beat), allow_overwrite=True)
                self._end_with_others()
                if self._me == 0:
                    self._end_without_silent()

    def fail(self, error: BaseException) -> NoReturn:
        """Tells why this host fails and ends it, and with it all others."""
        if isinstance(error, HostFailed):
            self._leave(str(error), error.exit_code)
        if _is_of_devices(error):  # the consequence, as a rule: another is gone, and is about to be named
            time.sleep(_SILENCE + 5 * _BEAT)
        known = isinstance(error, VitjaxError | KeyboardInterrupt)
        if not known:
            self._print(traceback.format_exc().rstrip())
        says = "stopped" if isinstance(error, KeyboardInterrupt) else "error"
        line = f"{self._name}: {says}: {error if known else f'{type(error).__name__}: {error}'}"
        if isinstance(error, VitjaxError) and self._me and self._first_says_so(str(error)):
            self._leave("", error.exit_code)
        self._tell(self._me, line)
        code = getattr(error, "exit_code", 1)
        self._leave(line, 128 + getattr(error, "number", signal.SIGINT) if says == "stopped" else code)

    def _first_says_so(self, text: str) -> bool:
        """Whether host 0 ends for the same reason, so that it need not be told twice."""
        time.sleep(2 * _BEAT)
        return any(key.endswith("/0") and line.endswith(text) for key, line in self._failed())

    def _end_with_others(self) -> None:
        lines = [line for key, line in self._failed() if not key.endswith(f"/{self._me}")]
        if lines:
            self._leave("\n".join(lines), 1)

    def _end_without_silent(self) -> None:
        now = time.monotonic()
        still = now - self._looked
        if still > 5 * _BEAT:  # this host stood still itself, as in reading a large json; so may others, and for longer
            self._patient = now + still
        self._looked = now
        for key, beat in _client().key_value_dir_get("vitjax/beat/"):
            if self._beats[key][0] != beat:
                self._beats[key] = (beat, now)
        for key, (_, seen) in self._beats.items():
            if now - max(seen, self._patient) > _SILENCE:
                index = int(key.rpartition("/")[2])
                told = f"nothing is heard of it for {_SILENCE:.0f} seconds; it was killed, or its machine is lost"
                self._tell(index, f"{name_of(index)}: error: {told}")
                self._leave(f"{name_of(index)}: error: {told}", 1)

    def _failed(self) -> list[tuple[str, str]]:
        return sorted(_client().key_value_dir_get("vitjax/failed/"))

    def _tell(self, index: int, line: str) -> None:
        with contextlib.suppress(RuntimeError, ValueError):  # nobody is left who could be told
            _client().key_value_set(f"vitjax/failed/{index}", line)

    def _leave(self, line: str, code: int) -> NoReturn:
        self._print(line)
        for child in multiprocessing.active_children():
            child.kill()
        if self._me == 0:
            time.sleep(_TELLING)
        os._exit(code)

    def _is_first_gone(self) -> bool:
        """Whether nobody answers where host 0 was; asked without JAX, which may be in any state."""
        if self._me == 0:
            return False
        name, _, port = self._address.rpartition(":")
        try:
            socket.create_connection((name.strip("[]"), int(port)), 2).close()
        except OSError:
            return True
        return False

    def _print(self, text: str) -> None:
        if text:
            print(text, file=self._stderr, flush=True)

    def _aborted(self) -> NoReturn:
        lost = f"{self._first}: error: it is gone"
        self._leave(lost if self._is_first_gone() else f"{self._name}: error: it was aborted, as JAX says above", 1)


def _is_of_devices(error: BaseException) -> bool:
    """Whether an error may come of an exchange between devices that another host has left."""
    if isinstance(error, VitjaxError) or not isinstance(error, ValueError | RuntimeError):
        return False
    return any(word in str(error).lower() for word in _OF_DEVICES)
