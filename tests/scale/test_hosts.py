"""One run in two processes is the run of one, goes on in any number of them, and no host is waited for in vain."""

import json
import re
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from faults.kills import CONFIG, assert_same, left_by

from scale.pairs import killed, kills, together


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """The tiny detector's config in a folder of its own."""
    path = tmp_path_factory.mktemp("hosts") / "tiny.py"
    path.write_text(CONFIG)
    return path


@pytest.fixture(scope="module")
def one(config):
    """What one process makes of it."""
    return ended(config, "one", hosts=1)


def ended(config, name, hosts, *more):
    """The folder of a run that has come to its end."""
    folder = config.parent / name
    found = together(["train", str(config), "--workdir", str(folder), *more], hosts)
    assert [code for code, _ in found] == [0] * hosts, found
    return folder


def require_close(found: Path, wanted: Path, tolerance: float = 1e-5) -> None:
    """Passes where two runs have the same parameters, optimizer state, losses and scores, as far as rounding goes."""
    (mine, arrays), (theirs, others) = left_by(found), left_by(wanted)
    assert [line[:2] for line in mine] == [line[:2] for line in theirs] and arrays.keys() == others.keys()
    np.testing.assert_allclose([line[2] for line in mine], [line[2] for line in theirs], rtol=0, atol=tolerance)
    for path, array in arrays.items():
        np.testing.assert_allclose(array, others[path], rtol=0, atol=tolerance, err_msg=path)


def test_two_hosts_that_one_signal_ends_leave_a_run_that_one_host_goes_on_with_as_if_it_had_been_one(config, one):
    folder = config.parent / "signalled"
    words = ["train", str(config), "--workdir", str(folder)]
    found = together(words, end={1: (signal.SIGTERM, 2)})  # a host that does not write
    assert [code for code, _ in found] == [128 + signal.SIGTERM] * 2
    assert "2 x cpu on 2 hosts" in found[0][1] and "step 2: AP" in found[0][1]
    assert "stopped at step 3 of 4" in found[0][1] and "step" not in found[1][1]
    ended(config, "signalled", 1)
    require_close(folder, one)


@pytest.mark.long
def test_a_run_of_one_host_goes_on_on_two(config, one):
    words = ["train", str(config), "--workdir", str(config.parent / "grown")]
    together(words, 1, end={0: (signal.SIGTERM, 2)})
    require_close(ended(config, "grown", 2), one)


@pytest.mark.long
def test_shares_of_two_hosts_are_one_run(config, one):
    require_close(ended(config, "shares", 2, "--fsdp"), one)


@pytest.mark.long
@pytest.mark.parametrize("host", [0, 1])
@pytest.mark.parametrize("end, said", [(killed(3), "error: "), ((0, 3), "error: RuntimeError: the roof is leaking")])
def test_a_host_that_dies_or_raises_ends_all_by_its_name_and_the_same_command_goes_on(config, host, end, said):
    whole, name = config.parent / "two", f"lost {host} {end[0]}"
    if not whole.exists():
        ended(config, "two", 2)
    found = together(["train", str(config), "--workdir", str(config.parent / name)], end={host: end})
    assert all(code != 0 for code, _ in found)
    assert re.search(rf"host {host} of 2 \(.+\): {said}", found[1 - host][1])
    assert_same(ended(config, name, 2), whole)


@pytest.mark.long
def test_evaluation_on_two_hosts_is_that_on_one(config, one):
    found = []
    for hosts in (1, 2):
        out = config.parent / f"scores {hosts}"
        words = ["evaluate", str(one), "--data.val-images", "5", "--out", str(out)]
        assert [code for code, _ in together(words, hosts)] == [0] * hosts
        found.append(json.loads((out / "results.json").read_text()))
    alone, both = (sorted(each, key=lambda one: (one["image_id"], -one["score"])) for each in found)
    assert len(alone) == len(both) > 0
    for mine, theirs in zip(alone, both, strict=True):
        assert mine["image_id"] == theirs["image_id"]
        np.testing.assert_allclose([*mine["bbox"], mine["score"]], [*theirs["bbox"], theirs["score"]], atol=1e-3)


@pytest.mark.long
def test_two_hosts_of_which_one_is_killed_at_any_moment_end_as_they_would_have(config):
    began = time.monotonic()
    whole = ended(config, "undisturbed", 2, "--epochs", "6")
    longest, killed_so_far = (time.monotonic() - began) / 2, 0
    while killed_so_far < 20:
        folder = config.parent / f"killed {killed_so_far}"
        words = ["train", str(config), "--workdir", str(folder), "--epochs", "6"]
        killed_so_far += kills(words, min(5, 20 - killed_so_far), longest, seed=killed_so_far)
        assert_same(folder, whole)
