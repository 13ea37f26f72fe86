"""One step is the same on any number of devices, whether all hold the state whole or each its share."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def steps(*words):
    """What tests/scale/devices.py finds, in a process with eight devices."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, str(ROOT / "tests/scale/devices.py"), *words]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900)
    assert ended.returncode == 0, ended.stderr[-3000:]
    return json.loads(ended.stdout.splitlines()[-1])


def require_shares(found, devices):
    """All but the arrays that are too small to be divided is."""
    whole, share = found["1"], found[f"{devices}s"]
    assert share["restored"] and share["differs"] < 1e-6
    for name in ("held", "planned"):
        assert whole[name] / devices <= share[name] < 1.5 * whole[name] / devices


def test_on_eight_devices_a_step_is_that_of_one_and_each_may_hold_an_eighth():
    found = steps("detr", "1", "8s")
    require_shares(found, 8)


@pytest.mark.long
@pytest.mark.parametrize("name", ["detr", "deformable", "crossformer", "masks"])
def test_a_step_is_the_same_on_one_two_four_and_eight_devices(name):
    found = steps(name, "1", "2", "4", "8", "2s", "8s")
    assert max(each["differs"] for each in found.values()) < 1e-6
    require_shares(found, 2)
    require_shares(found, 8)
