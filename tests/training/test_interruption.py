"""Signals are answered while work that does not let Python run, as a compiler, is under way."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time

import pytest

from vitjax.training.interruption import Interrupted, answering, interruption, is_busy, owning_the_process, until


@pytest.fixture
def compiler():
    """Work that sends this process a signal, and lasts until it is let go."""
    ended = threading.Event()
    yield lambda number: lambda: os.kill(os.getpid(), number) or ended.wait(20)
    ended.set()


def test_work_gives_what_it_gives_and_raises_what_it_raises():
    assert answering([], lambda: 3) == 3
    with pytest.raises(ZeroDivisionError):
        answering([15], lambda: 1 / 0)  # an earlier signal has been answered already


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_answered_at_once_and_the_work_is_given_up(compiler, number):
    before = signal.getsignal(number)
    with interruption() as signals:
        began = time.monotonic()
        with pytest.raises(Interrupted):
            answering(signals, compiler(number))
        assert time.monotonic() - began < 10 and signals == [number] and is_busy()
    assert signal.getsignal(number) is before


def test_a_second_ctrl_c_ends_whatever_is_under_way(compiler):
    with interruption() as signals:
        with pytest.raises(Interrupted):
            answering(signals, compiler(signal.SIGINT))
        with pytest.raises(KeyboardInterrupt) as stop:
            answering(signals, compiler(signal.SIGINT))
    assert not isinstance(stop.value, Interrupted)


def test_given_up_work_on_many_things_ends_at_the_next():
    signals = [2]
    items = until(signals, iter("abc"))
    assert next(items) == "a"
    signals.append(15)
    with pytest.raises(Interrupted):
        next(items)


def test_beside_the_main_thread_work_is_done_where_it_is():
    found = []
    thread = threading.Thread(target=lambda: found.append(answering([], threading.current_thread)))
    thread.start()
    thread.join()
    assert found == [thread]


def test_the_second_ctrl_c_ends_a_command_at_once_without_waiting(monkeypatch, capfd):
    ended = []
    monkeypatch.setattr("os._exit", ended.append)
    with owning_the_process(), interruption() as signals:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
    assert signals == [signal.SIGINT] and ended == [130]
    assert capfd.readouterr().err == "stopped at once; the same command goes on from the last checkpoint\n"


def test_a_program_that_ends_while_a_thread_compiles_waits_for_it():
    script = """
        import time, jax, jax.numpy as jnp
        from vitjax.training.interruption import beside

        def long(x):
            for _ in range(100):
                x = jnp.sin(jnp.sort(x @ x))
            return x

        jax.config.update("jax_enable_compilation_cache", False)
        beside(jax.jit(long).lower(jnp.ones((64, 64))).compile)
        time.sleep(0.2)
    """
    ended = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, timeout=300)
    assert ended.returncode == 0, ended.stderr.decode()
