"""The words of a command that say on which hosts it runs, and as which of them; of what is run they say nothing."""

import dataclasses

from vitjax.errors import FieldError

HOSTS = """--hosts N --host I --coordinator HOST:PORT, said on each of N hosts with its own number I from 0 on, is one
run on all of them; the address is that of host 0. --hosts auto takes all three from Slurm, Open MPI, a TPU VM or
Kubernetes."""

ON_HOSTS = ("train", "evaluate")
_WORDS = ("--hosts", "--host", "--coordinator")


@dataclasses.dataclass(frozen=True)
class Place:
    """Where host `index` of `count` finds the coordinator, which host 0 starts; all None: as the environment says."""

    coordinator: str | None = None
    count: int | None = None
    index: int | None = None


def without_hosts(words: list[str]) -> tuple[list[str], Place | None]:
    """The other words, and the place that these name; None where there are none of them.

    Raises:
        FieldError: one is missing, or means nothing.
    """
    split = [part for word in words for part in (word.split("=", 1) if word.split("=")[0] in _WORDS else [word])]
    left, said, at = list[str](), dict[str, str](), 0
    while at < len(split):
        word, following = split[at], split[at + 1 : at + 2]
        if word not in _WORDS:
            left.append(word)
            at += 1
            continue
        if not following or following[0].startswith("--") or word in said:
            raise FieldError(f"{word} takes one value, once. {HOSTS}")
        said[word] = following[0]
        at += 2
    return (left, _place(said)) if said else (words, None)


def _place(said: dict[str, str]) -> Place:
    if said == {"--hosts": "auto"}:
        return Place()
    if missing := [word for word in _WORDS if word not in said]:
        raise FieldError(f"{' '.join(missing)} is missing. {HOSTS}")
    numbers = [said[word] for word in ("--hosts", "--host")]
    if not all(number.isdecimal() for number in numbers):
        raise FieldError(f"--hosts and --host are whole numbers; got {' and '.join(numbers)}. {HOSTS}")
    count, index = map(int, numbers)
    if not index < count:
        raise FieldError(f"--host is one of 0 to {count - 1} for --hosts {count}; got {index}.")
    name, _, port = said["--coordinator"].rpartition(":")
    if not name or not port.isdecimal() or not 0 < int(port) < 2**16:
        raise FieldError(f"--coordinator is HOST:PORT of host 0, as in node1:1234; got {said['--coordinator']!r}.")
    return Place(said["--coordinator"], count, index)
