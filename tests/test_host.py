"""What runs on the host alone: each worker process imports it, and so does the doctor, who needs no accelerator."""

import pkgutil
import subprocess
import sys

import pytest

import vitjax.data
import vitjax.doctor
import vitjax.evaluation


@pytest.mark.parametrize("room", [vitjax.data, vitjax.doctor, vitjax.evaluation], ids=lambda room: room.__name__)
def test_no_file_of_the_host_imports_jax_by_whatever_way(room):
    files = [module.name for module in pkgutil.iter_modules(room.__path__, f"{room.__name__}.")]
    assert len(files) > 3
    heavy = "{'jax', 'flax', 'optax', 'orbax', 'grain', 'torch', 'tensorflow'}"
    code = f"import sys, {', '.join(files)}; found = {heavy} & sys.modules.keys(); sys.exit(str(found) if found else 0)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
