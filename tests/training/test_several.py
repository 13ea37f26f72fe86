"""What several hosts agree on, with what the others say given."""

import contextlib
import dataclasses
import json

import numpy as np
import pytest

from vitjax.checkpoints.folders import CorruptCheckpoint
from vitjax.checkpoints.store import NoRoom
from vitjax.checkpoints.writing import disk_fault
from vitjax.data.errors import DataError
from vitjax.data.source import Classes
from vitjax.errors import FieldError
from vitjax.hosts import HostFailed
from vitjax.runs.open_run import OpenRun
from vitjax.runs.serialize import to_json
from vitjax.structs import Batch, Targets
from vitjax.tasks.detection import Detection
from vitjax.training import several

TARGETS = Targets(np.zeros((2, 1, 4), np.float32), np.zeros((2, 1), np.int32), np.zeros((2, 1), bool))


def part(broken=(-1, -1), side=8):
    sizes = np.full((2, 2), side, np.int32)
    pixels, records = np.zeros((2, side, side, 3), np.uint8), np.arange(2, dtype=np.int32)
    return Batch(pixels, sizes, TARGETS, records, sizes, np.array(broken, np.int32))


@pytest.fixture
def turn(monkeypatch):
    """The steps of this host, host 0, while host 1 says something before each; and what this one has said."""
    monkeypatch.setattr(several, "name_of", lambda index: f"host {index} of 2 (other)")
    monkeypatch.setattr("jax.process_count", lambda: 2)

    def turned(loads, others, own=()):
        hosts, said, mine = several.Hosts(), [], list(own)
        agreed = hosts.signals(mine)

        def everybody_says(what):
            said.append(what)
            other = others[len(said) - 1]
            return {index: one for index, one in ((0, what), (1, other)) if one}

        monkeypatch.setattr(several, "everybody_says", everybody_says)
        return hosts, agreed, said, hosts.steps(iter(loads))

    return turned


def test_a_signal_of_one_host_is_known_to_all_before_the_same_step_and_once(turn):
    _, agreed, said, steps = turn([[part()]] * 3, [{}, {"signals": [15]}, {"signals": [15]}, {}], own=[2])
    next(steps)
    assert agreed == [2] and said == [{"signals": [2]}]
    next(steps)
    next(steps)
    assert agreed == [2, 15] and said[1:] == [{}, {}]


def test_images_that_any_host_cannot_read_are_known_to_all(turn):
    hosts, _, _, steps = turn([[part((7, -1))], [part()]], [{"broken": [3, 4]}, {}, {}])
    assert hosts.broken(next(steps)) == [7, 3, 4]
    assert hosts.broken(next(steps)) == []


def test_a_host_that_cannot_make_a_step_is_named_by_the_others(turn):
    *_, steps = turn([[part()]], [{"error": "the disk is on fire"}])
    with pytest.raises(HostFailed, match=r"host 1 of 2 \(other\): error: the disk is on fire"):
        next(steps)


def test_a_host_that_cannot_make_a_step_says_so_and_has_its_own_error(turn):
    def failing():
        raise DataError("nothing can be read")
        yield

    _, _, said, steps = turn(failing(), [{}])
    with pytest.raises(DataError, match="nothing can be read"):
        next(steps)
    assert said == [{"error": "nothing can be read"}]


def test_the_step_that_takes_the_place_of_an_unreadable_one_is_the_same_on_all_hosts_or_none(turn):
    read = [part((4, 5), side=16)]
    same, other = {"sizes": [[2, 16, 16, 3]]}, {"sizes": [[2, 8, 8, 3]]}
    for told in ({"broken": [6, 7], "other": True}, {}):  # {}: rows of this host were replaced by others of the step
        assert next(turn([read], [told, same])[3]) == read
        with pytest.raises(DataError, match="some hosts can read no image"):
            next(turn([read], [told, other])[3])
    assert next(turn([[part()]], [{"broken": [6, 7], "other": True}, other])[3])[0].pixels.shape == (2, 8, 8, 3)


def test_the_end_is_the_end(turn):
    *_, steps = turn([[part()]], [{}, {}])
    assert len(list(steps)) == 1


def test_a_log_with_a_damaged_byte_reaches_the_other_hosts(tmp_path, monkeypatch):
    opened, told = OpenRun(tmp_path, Detection(), Classes((), ()), None), []
    monkeypatch.setattr(several, "open_run", lambda *_: contextlib.nullcontext(opened))
    monkeypatch.setattr(several, "first_says", lambda said: told.append(said()))
    (tmp_path / "metrics.jsonl").write_bytes(b'{"step": 1, "split\xff": "train"}\n')
    with several.Hosts().open(tmp_path) as given:
        assert given is opened
    assert json.loads(told[0])["answer"][1] == {"metrics.jsonl": '{"step": 1, "split\ufffd": "train"}\n'}


@pytest.mark.parametrize("fields, line", [({}, None), ({"seed": 5}, "seed: 0 there, 5 now"), ({"workers": 9}, None)])
def test_a_host_with_another_experiment_than_the_first_is_told(tmp_path, monkeypatch, fields, line):
    first, mine = Detection(), dataclasses.replace(Detection(), workdir="/elsewhere", **fields)
    answer = json.dumps({"answer": [to_json(first), {}]})
    opened = OpenRun(tmp_path, mine, Classes((), ()), None)
    monkeypatch.setattr(several, "open_run", lambda *_: contextlib.nullcontext(opened))
    monkeypatch.setattr(several, "first_says", lambda _: answer)
    monkeypatch.setattr("jax.process_index", lambda: 1)
    with pytest.raises(FieldError, match=line) if line else contextlib.nullcontext():
        with several.Hosts().open(tmp_path) as given:
            assert given.experiment == mine


@pytest.mark.parametrize("error", [NoRoom("No space left on device"), OSError(28, "No space left on device")])
def test_a_full_disk_of_the_first_host_is_one_for_all(error):
    with pytest.raises((several.CheckpointError, OSError)) as raised:
        several._answer(json.dumps(several._fault(error)))
    assert disk_fault(raised.value) == "No space left on device"


def test_other_errors_of_the_first_host_name_it(monkeypatch):
    monkeypatch.setattr(several, "name_of", lambda index: f"host {index} of 2 (first)")
    with pytest.raises(HostFailed, match=r"host 0 of 2 \(first\): error: wrong"):
        several._answer(json.dumps(several._fault(DataError("wrong"))))
    with pytest.raises(several.CheckpointError, match="flipped"):
        several._answer(json.dumps(several._fault(CorruptCheckpoint("flipped"))))
