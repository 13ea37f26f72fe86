"""A run on several hosts: the first one writes and decides for all, and all learn of a step's troubles before it."""

import dataclasses
import errno
import json
import tempfile
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import jax

from vitjax.across_hosts import meet, on_this_host
from vitjax.checkpoints.folders import CheckpointError
from vitjax.checkpoints.store import Store
from vitjax.data.errors import DataError
from vitjax.errors import FieldError, VitjaxError
from vitjax.hosts import HostFailed, everybody_says, first_says, name_of
from vitjax.inference.sweep import Sweep
from vitjax.placement import data_mesh, place_state
from vitjax.runs.identity import changed_fields
from vitjax.runs.open_run import OF_START, OpenRun, open_run
from vitjax.runs.serialize import to_json
from vitjax.structs import Batch
from vitjax.training.company import Company
from vitjax.training.prepare import Prepared

T = TypeVar("T")

_OF_A_HOST = {"workdir", "workers", "data.root", "data.data_dir", *OF_START}
"""Fields that may differ from host to host."""
_LOGS = "*.jsonl"  # files of the run folder that later steps are decided by


def train_on_all(train: Callable[..., T], experiment: Any, workdir: Path, config: Any, fill_memory: bool) -> T:
    """What `train` gives; on all hosts but the first with a folder that is thrown away in place of the run's.

    Raises:
        FieldError: the largest batch is asked for, which each host would find by itself.
    """
    if fill_memory:
        raise FieldError("--batch-size auto is for one host; of several give it as a number, for all of them together.")
    if jax.process_index() == 0:
        return train(experiment, workdir, config, False, Hosts())
    with tempfile.TemporaryDirectory(prefix="vitjax-host-") as folder:
        return train(experiment, Path(folder), config, False, Hosts())


class Hosts(Company):
    """This host among the others. All must ask the same at once."""

    def __init__(self) -> None:
        """Nothing has been said yet."""
        self._is_first, self._alone = jax.process_index() == 0, False
        self._own: list[int] = []
        self._agreed: list[int] = []
        self._told = 0
        self._broken: list[int] = []

    @contextmanager
    def open(self, *run: Any, **options: Any) -> Iterator[OpenRun]:
        """The run folder, which the first host holds; what is logged in it is copied into those of the others.

        Raises:
            FieldError: this host has another experiment than the first, as where a word was mistyped on one of them.
        """
        folder = run[0]
        if self._is_first:
            with open_run(*run, **options) as opened:
                said = to_json(opened.experiment)
                logs = {path.name: path.read_text("utf-8", "replace") for path in sorted(folder.glob(_LOGS))}
                first_says(lambda: json.dumps({"answer": [said, logs]}))
                yield opened
            return
        first, logs = _answer(first_says(str))
        for name, text in logs.items():
            (folder / name).write_text(text, encoding="utf-8")
        with open_run(*run, **options) as opened:
            _require_same(first, opened.experiment)
            said = {name: first[name] for name in OF_START}
            yield dataclasses.replace(opened, experiment=dataclasses.replace(opened.experiment, **said))

    def first(self, work: Callable[[], T]) -> T | None:
        """What the work of the first host gives, which JSON can hold; no other host does it."""
        if self._alone:
            return work()
        if not self._is_first:
            return _answer(first_says(str))
        answer: list[T] = []
        error: list[Exception] = []

        def said() -> str:
            self._alone = True
            try:
                answer.append(work())
            except (VitjaxError, OSError) as fault:
                error.append(fault)
                return json.dumps(_fault(fault))
            finally:
                self._alone = False
            return json.dumps({"answer": answer[0]})

        first_says(said)
        if error:
            raise error[0]
        return answer[0]

    def store(self, store: Store) -> Any:
        """The store of the first host, which all ask."""
        return _SharedStore(store, self)

    def signals(self, own: list[int]) -> list[int]:
        """Those that were told to all hosts before a step."""
        self._own = own
        return self._agreed

    def steps(self, loader: Generator[list[Batch], None, None]) -> Generator[list[Batch], None, None]:
        """What is loaded; before each step all hosts tell each other of signals and of images that cannot be read.

        Raises:
            HostFailed: another host cannot make the step.
        """
        while True:
            error: VitjaxError | None = None
            parts: list[Batch] | None = None
            try:
                parts = next(loader, None)
            except VitjaxError as fault:
                error = fault
            new, self._told = self._own[self._told :], len(self._own)
            broken = super().broken(parts or [])
            said = _not_empty(signals=new, broken=broken, error=str(error) if error else "")
            if broken and len(broken) == sum(len(part.records) for part in parts or []):
                said["other"] = True  # rows of another step may have taken the place of all
            heard = everybody_says(said)
            for number in (number for said in heard.values() for number in said.get("signals", ())):
                self._agreed += [number] * (number not in self._agreed)
            self._broken = [record for said in heard.values() for record in said.get("broken", ())]
            if error is not None:
                raise error
            if failed := [(index, said["error"]) for index, said in heard.items() if "error" in said]:
                raise HostFailed(f"{name_of(failed[0][0])}: error: {failed[0][1]}")
            if parts is None:
                return
            if any("other" in said for said in heard.values()):
                sizes = everybody_says({"sizes": [list(part.pixels.shape) for part in parts]})
                if any(said != sizes[0] for said in sizes.values()):
                    raise DataError("of a step some hosts can read no image, others can: are the data on all of them?")
            yield parts

    def compile(self, programs: Iterable[Any]) -> None:
        """Compiles, and waits until all have."""
        super().compile(programs)
        meet()

    def broken(self, parts: Sequence[Batch]) -> list[int]:
        """Those of all hosts."""
        return self._broken

    def gathered(self, records: list[int]) -> list[int]:
        """The records of all hosts, in their order."""
        heard = everybody_says(_not_empty(records=records))
        return [record for _, said in sorted(heard.items()) for record in said["records"]]

    def for_first(self, run: Prepared, variables: Any) -> tuple[Prepared, Any]:
        """The run on the devices of the first host alone."""
        variables = on_this_host(variables)
        mesh = data_mesh(jax.local_devices())
        sweep = Sweep(run.sweep.task, mesh, run.experiment.matmul_precision)
        share = max(1, run.evaluation_batch_size // jax.process_count())
        experiment = dataclasses.replace(run.experiment, evaluation_batch_size=share)
        return dataclasses.replace(run, experiment=experiment, sweep=sweep), place_state(variables, mesh)


class _SharedStore:
    """The store of the first host: each call is made there, and all hosts have what it gives."""

    def __init__(self, store: Store, hosts: Hosts) -> None:
        self._store, self._hosts = store, hosts

    def __enter__(self) -> "_SharedStore":
        return self

    def __exit__(self, kind: object, *raised: object) -> None:
        if kind is None:
            self._ask(self._store.close)
        else:  # the others may be elsewhere by now
            self._store.close()

    @property
    def is_empty(self) -> bool:
        return bool(self._ask(lambda: self._store.is_empty))

    def save(self, step: int, state: Any, **options: Any) -> bool:
        whole = on_this_host(state)
        return bool(self._ask(lambda: self._store.save(step, whole, **options)))

    def restore_latest(self, like: Any) -> tuple[int, Any]:
        """The state of the first host's latest checkpoint, sent to all."""
        local = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), like)
        found: list[Any] = []

        def read() -> int:
            step, state = self._store.restore_latest(local)
            found.append(state)
            return step

        step = self._ask(read)
        state = found[0] if found else jax.tree.map(_nothing, local)
        mesh = jax.tree.leaves(like)[0].sharding.mesh
        return step, place_state(state, mesh, jax.tree.map(lambda leaf: leaf.sharding, like))

    def steps(self) -> tuple[int, ...]:
        return tuple(self._ask(self._store.steps))

    def __getattr__(self, name: str) -> Callable[..., Any]:
        call = getattr(self._store, name)
        return lambda *given, **options: self._ask(lambda: call(*given, **options))

    def _ask(self, work: Callable[[], Any]) -> Any:
        return self._hosts.first(work)


def _require_same(first: dict[str, Any], experiment: Any) -> None:
    mine = json.loads(json.dumps(to_json(experiment)))
    lines = [line for line in changed_fields(first, mine) if line.partition(":")[0] not in _OF_A_HOST]
    if lines:
        raise FieldError("\n  ".join(["the command line must be the same on all hosts; host 0 has another:", *lines]))


def _nothing(leaf: jax.ShapeDtypeStruct) -> Any:
    """Something of the shape and dtype."""
    if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return jax.random.split(jax.random.key(0), leaf.shape) if leaf.shape else jax.random.key(0)
    return jax.numpy.zeros(leaf.shape, leaf.dtype)


def _not_empty(**said: Any) -> dict[str, Any]:
    return {name: value for name, value in said.items() if value}


def _fault(error: Exception) -> dict[str, Any]:
    """What is said of an error, so that all hosts take it alike."""
    if isinstance(error, OSError):
        return {"kind": "disk", "error": error.strerror or str(error), "number": error.errno or errno.EIO}
    return {"kind": "checkpoint" if isinstance(error, CheckpointError) else "other", "error": str(error)}


def _answer(text: str) -> Any:
    """What the first host has said.

    Raises:
        OSError or CheckpointError: its disk does not do what it should.
        HostFailed: anything else is wrong there.
    """
    said = json.loads(text)
    if "error" not in said:
        return said["answer"]
    if said["kind"] == "disk":
        raise OSError(said["number"], said["error"])
    raise (
        CheckpointError(said["error"])
        if said["kind"] == "checkpoint"
        else HostFailed(f"{name_of(0)}: error: {said['error']}")
    )
