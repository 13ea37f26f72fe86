import math

import jax
import numpy as np
import pytest
from scipy import stats

from vitjax.ops.initializers import fused_qkv_kernel, torch_bias, torch_kernel

CASES = {
    "linear kernel": (torch_kernel, (48, 64), 1 / math.sqrt(48)),
    "convolution kernel": (torch_kernel, (3, 3, 16, 32), 1 / math.sqrt(9 * 16)),
    "bias": (torch_bias(100), (2000,), 0.1),
    "one third of a fused matrix": (fused_qkv_kernel, (64, 64), math.sqrt(6 / (64 + 3 * 64))),
}


@pytest.mark.parametrize("name", CASES)
def test_values_are_uniform_up_to_the_bound(name):
    initializer, shape, bound = CASES[name]
    values = np.asarray(initializer(jax.random.key(0), shape)).ravel()
    assert 0.99 * bound < np.abs(values).max() <= bound * (1 + 1e-6)
    assert stats.kstest(values / bound, stats.uniform(-1, 2).cdf).pvalue > 1e-3
