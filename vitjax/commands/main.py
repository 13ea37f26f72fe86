"""The command line: `vitjax train | evaluate | predict | ...`, each command a file here with a function `run`."""

import errno
import gc
import importlib
import os
import signal
import sys
from collections.abc import Sequence
from typing import Any

from vitjax.commands.hosts import ON_HOSTS, without_hosts
from vitjax.errors import FieldError, VitjaxError

# name -> what it takes and does; a command's file is imported when it is asked for, so that --help is quick.
COMMANDS = {
    "train": ("CONFIG", "trains a config, by name or file: the same as train.py in a checkout"),
    "evaluate": ("MODEL", "scores a model on a split of its data, or of other data with the same classes"),
    "predict": (
        "MODEL IMAGE ...",
        "detects on images, videos and folders, and writes them with boxes and COCO-results json;",
        "of a classifier, prints the top five classes with probabilities and writes json;",
        "of a segmentation model, writes pictures with coloured labels, label maps and json",
    ),
    "explain": ("MODEL IMAGE", "draws what it attends to: cells of the image, sampling points, or groups of tokens"),
    "convert": ("MODEL OUT", "a published file or folder to a run folder, or a run folder to one that others can load"),
    "export": ("MODEL OUT", "writes the model as a folder that runs without vitjax: StableHLO, description, loader"),
    "doctor": (
        "DATA",
        "tells what in a data folder would hurt training; exit code 0 fine, 1 something is lost, 2 errors;",
        "of CONFIG --data.root DATA, what would hurt training that config",
    ),
    "benchmark": ("MODEL", "measures it here: latency, images a second, time to compile, memory"),
    "models": ("", "lists every architecture: parameters, published score, config, what was measured here"),
}

_CLOSED = (errno.EACCES, errno.EPERM, errno.ENAMETOOLONG, errno.ELOOP)  # what the system says of a path that is named
_CONFIG = (
    "Every command takes --config FILE, the config of a run that is made with classes of one's own; it is run for them."
)
_CACHE = (
    "Compiled programs are kept in the user's cache folder, or where JAX_COMPILATION_CACHE_DIR says;\n"
    "every command takes --no-compilation-cache."
)
_PAGES = (
    "On Linux a command that compiles starts itself anew, to have its memory in huge pages, which is faster on CPUs;\n"
    "GLIBC_TUNABLES=glibc.malloc.hugetlb=0 leaves this out."
)

_RARELY = (50_000, 20, 50)
"""New objects after which Python looks for circles among them: a model's trace makes a million, which stay."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; returns the exit code. An error that a user can mend is one line, without a traceback."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] in ("-h", "--help"):
        print(usage())
        return 0
    if words[0] not in COMMANDS:
        print(f"vitjax: there is no command {words[0]!r}; choose one of {', '.join(COMMANDS)}.", file=sys.stderr)
        return 2
    return _run(words[0], words[1:], is_process=arguments is None)


def train(arguments: Sequence[str] | None = None) -> int:
    """Runs `train.py NAME [--field value ...]`; returns the exit code."""
    return _run("train", list(sys.argv[1:] if arguments is None else arguments), is_process=arguments is None)


def usage() -> str:
    """What `vitjax --help` prints."""
    lines = [f"usage: vitjax {{{','.join(COMMANDS)}}} ...", ""]
    for name, (takes, *does) in COMMANDS.items():
        heads = [f"{name} {takes}", *[""] * (len(does) - 1)]
        lines += [f"  {head:<24} {line}" for head, line in zip(heads, does, strict=True)]
    return "\n".join([*lines, "", _CONFIG, _CACHE, _PAGES, "`vitjax COMMAND --help` tells more."])


def _run(name: str, words: list[str], *, is_process: bool) -> int:
    from vitjax.commands.compilation_cache import COMPILING
    from vitjax.commands.huge_pages import with_huge_pages
    from vitjax.commands.streams import forgiving_streams

    if is_process and name in COMPILING:
        with_huge_pages()
        gc.set_threshold(*_RARELY)
    with forgiving_streams():
        code = _code_of(name, words)
    interruption: Any = sys.modules.get("vitjax.training.interruption")
    if interruption is not None and interruption.is_busy():  # what was given up would end the process in a crash
        for stream in filter(None, (sys.stdout, sys.stderr)):
            stream.flush()
        os._exit(code)
    return code


def _code_of(name: str, words: list[str]) -> int:
    from vitjax.commands.compilation_cache import keeping_programs

    try:
        words = keeping_programs(name, words)  # before JAX is imported
        words, place = without_hosts(words) if name in ON_HOSTS else (words, None)
        if place is None:
            return _answer_of(name, words)
        from vitjax.hosts import together

        return together(place.coordinator, place.count, place.index, lambda: _answer_of(name, words))
    except VitjaxError as error:  # what JAX or a module of a user raises keeps its traceback
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:  # whoever read what is printed has gone, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python complains once more at its end
        return 1
    except KeyboardInterrupt as stop:
        print(str(stop) or "stopped", file=sys.stderr)
        return 128 + getattr(stop, "number", signal.SIGINT)  # what shells have for it
    except OSError as error:
        if error.filename is None or error.errno not in _CLOSED:
            raise
        wish = "Name another, or change who may use it"
        print(f"error: {str(error.filename)[:200]} cannot be used: {error.strerror}. {wish}.", file=sys.stderr)
        return 1


def _answer_of(name: str, words: list[str]) -> int:
    command = importlib.import_module(f"vitjax.commands.{name}")
    return command.run(_without_config(words)) or 0


def _without_config(words: list[str]) -> list[str]:
    """The words without `--config FILE`, which is run for the classes that a run was made with."""
    if "--config" not in words:
        return words
    from vitjax.runs.configs import load_classes

    place = words.index("--config")
    if not words[place + 1 :]:
        raise FieldError("--config names the file that has the classes of a run; got nothing.")
    load_classes(words[place + 1])
    return words[:place] + words[place + 2 :]
