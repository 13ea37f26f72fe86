"""What a process does to be one of several; tests/scale starts some."""

import subprocess
import sys
import time
from contextlib import nullcontext
from types import SimpleNamespace

import jax
import pytest

from vitjax import hosts
from vitjax.errors import FieldError, VitjaxError


@pytest.mark.parametrize(
    "tasks, gpus, wanted",
    [("1(x4)", "8", [*range(8)]), ("1", "2", [0, 1]), ("8(x4)", "8", None), ("1(x4)", "", None), ("", "8", None)],
)
def test_the_only_task_of_a_node_has_all_of_its_gpus(tasks, gpus, wanted, monkeypatch):
    monkeypatch.setenv("SLURM_STEP_TASKS_PER_NODE", tasks)
    monkeypatch.setenv("SLURM_GPUS_ON_NODE", gpus)
    assert hosts.gpus_of_only_task() == wanted


@pytest.mark.parametrize("place, wish", [((None, None, None), "srun"), (("node0:1", 2, 1), "Is node0:1 host 0")])
def test_hosts_that_do_not_find_each_other_are_told_what_to_say(place, wish, monkeypatch):
    def initialize(**options):
        raise ValueError("coordinator_address should be defined.")

    monkeypatch.setattr(jax.distributed, "initialize", initialize)
    monkeypatch.setattr(jax.config, "update", lambda *_: None)
    monkeypatch.setattr(hosts, "_answer_abort", lambda _: None)
    with pytest.raises(FieldError, match=f"do not find each other: coordinator_address .*{wish}"):
        hosts.together(*place, lambda: 0)


@pytest.mark.parametrize("index", [0, 1])
def test_a_host_that_the_others_never_join_ends_with_one_line_below_what_jax_prints(index):
    waiting = "import vitjax.hosts as hosts; hosts._MEETING = 1; hosts.together('127.0.0.1:1', 2, %d, lambda: 0)"
    found = subprocess.run([sys.executable, "-c", waiting % index], capture_output=True, text=True)
    assert found.returncode == FieldError.exit_code
    assert "do not find each other within 1 seconds" in found.stderr.splitlines()[-1]


def test_an_exchange_that_another_host_has_left_is_told_from_an_error_of_this_one():
    assert hosts._is_of_devices(ValueError("UNKNOWN: Gloo AllGather failed: Connection closed by peer"))
    assert not hosts._is_of_devices(RuntimeError("the roof is leaking"))
    assert not hosts._is_of_devices(VitjaxError("the connection to the data is lost"))


@pytest.mark.parametrize("alone", [False, True])
def test_words_that_one_host_alone_refuses_end_all(alone, monkeypatch):
    """The others would wait for it without end: it lives, and says nothing."""

    class Failed(Exception):
        pass

    def refuse():
        raise SystemExit(2)

    def wait(name, _):
        if alone and name == "vitjax/refused":
            raise jax.errors.JaxRuntimeError("DEADLINE_EXCEEDED: Barrier timed out.")

    def fail(error):
        raise Failed(str(error))

    monkeypatch.setattr(hosts, "_meet", lambda *_: None)
    monkeypatch.setattr(hosts, "_client", lambda: SimpleNamespace(wait_at_barrier=wait))
    monkeypatch.setattr(hosts, "_Watch", lambda _: SimpleNamespace(fail=fail, stop=lambda: None))
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(jax.distributed, "shutdown", lambda: None)
    with pytest.raises(Failed, match="must be the same on all hosts") if alone else nullcontext(2) as code:
        assert hosts.together("a:1", 2, 0, refuse) == code


def test_what_the_first_host_says_may_take_longer_to_come_than_signals_wait(monkeypatch):
    """13 MB of metrics.jsonl take more than the second after which Python is given a turn."""
    kept = {}

    def get(key, milliseconds):
        if key in kept and milliseconds >= 10 * len(kept[key]):
            return kept[key]
        raise jax.errors.JaxRuntimeError("DEADLINE_EXCEEDED: GetKeyValue() timed out")

    store = SimpleNamespace(key_value_set=kept.__setitem__, blocking_key_value_get=get)
    monkeypatch.setattr(hosts, "_client", lambda: store)
    monkeypatch.setattr(hosts, "_TALKS", iter((0, 0)))
    assert hosts.first_says(lambda: "x" * 200) == "x" * 200
    monkeypatch.setattr(jax, "process_index", lambda: 1)
    assert hosts.first_says(lambda: "y") == "x" * 200


@pytest.mark.parametrize("since", [0.0, 100.0], ids=["it looked a moment ago", "it stood still itself"])
def test_a_host_is_given_up_for_its_silence_and_not_for_that_of_the_one_that_listens(since, monkeypatch):
    class Left(Exception):
        pass

    def leave(*_):
        raise Left

    beats = SimpleNamespace(key_value_dir_get=lambda _: [("vitjax/beat/1", "5")], key_value_set=lambda *_: None)
    monkeypatch.setattr(hosts, "_client", lambda: beats)
    monkeypatch.setattr(hosts, "name_of", lambda index: f"host {index}")
    watch = object.__new__(hosts._Watch)
    watch._leave, watch._looked, watch._patient = leave, time.monotonic() - since, 0.0
    watch._beats = {"vitjax/beat/1": ("5", time.monotonic() - 100)}
    with nullcontext() if since else pytest.raises(Left):
        watch._end_without_silent()
