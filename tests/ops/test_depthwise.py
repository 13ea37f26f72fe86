"""Depthwise convolutions against XLA's own in groups: values and both gradients, for every stride and rim."""

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest

from vitjax.ops.depthwise import depthwise, grouped

CASES = {
    "plain": ((9, 8), 3, (1, 1), ((1, 1), (1, 1))),
    "wide": ((6, 7), 5, (1, 1), ((2, 2), (2, 2))),
    "strided, even": ((8, 12), 3, (2, 2), ((0, 1), (0, 1))),
    "strided, odd": ((9, 7), 5, (2, 2), ((1, 3), (2, 2))),
    "sides unlike": ((9, 12), 3, (2, 1), ((0, 2), (1, 1))),
    "last rows unseen": ((10, 10), 3, (2, 2), ((0, 0), (0, 0))),
    "a single pixel": ((1, 1), 3, (2, 2), ((0, 2), (0, 2))),
    "pads wider than the kernel": ((4, 4), 3, (1, 1), ((4, 3), (3, 5))),
}


@pytest.mark.parametrize("name", CASES)
def test_values_and_gradients_are_those_of_a_convolution_in_groups(name):
    size, side, strides, pads = CASES[name]
    rng = np.random.default_rng(0)
    inputs = jnp.asarray(rng.normal(size=(2, *size, 5)), jnp.float32)
    kernel = jnp.asarray(rng.normal(size=(side, side, 1, 5)), jnp.float32)
    wanted, pull_wanted = jax.vjp(lambda x, k: grouped(strides, pads, x, k), inputs, kernel)
    found, pull = jax.vjp(lambda x, k: depthwise(x, k, strides, pads), inputs, kernel)
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    cotangent = jnp.asarray(rng.normal(size=wanted.shape), jnp.float32)
    for ours, theirs in zip(pull(cotangent), pull_wanted(cotangent), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=2e-5)


@pytest.mark.parametrize(("platform", "grouped_there"), [("cpu", False), ("cuda", True), ("tpu", True)])
def test_accelerators_are_given_the_convolution_in_groups_and_cpus_are_not(platform, grouped_there):
    def loss(x, k):
        return depthwise(x, k, (1, 1), ((1, 1), (1, 1))).sum()

    step = jax.jit(jax.grad(loss, (0, 1)))
    program = jax.export.export(step, platforms=[platform])(jnp.ones((2, 8, 8, 5)), jnp.ones((3, 3, 1, 5)))
    assert ("stablehlo.convolution" in program.mlir_module()) == grouped_there


def test_sums_of_half_precision_are_in_float32():
    inputs = jnp.full((1, 3, 3, 1), 1.0, jnp.bfloat16)
    kernel = jnp.asarray([256.0] + [1.0] * 8, jnp.bfloat16).reshape(3, 3, 1, 1)  # 256 + 1 is 256 in bfloat16
    found = depthwise(inputs, kernel, (1, 1), ((0, 0), (0, 0)))
    assert found.dtype == jnp.bfloat16 and float(found[0, 0, 0, 0]) == 264
    assert jax.grad(lambda k: depthwise(inputs, k, (1, 1), ((0, 0), (0, 0))).sum())(kernel).dtype == jnp.bfloat16


@pytest.mark.parametrize("shape, dilation", [((3, 3, 1, 4), None), ((3, 3, 2, 5), None), ((3, 3, 1, 5), (2, 2))])
def test_what_is_not_depthwise_is_refused(shape, dilation):
    with pytest.raises(Exception, match=r"depthwise|type-check"):
        depthwise(jnp.ones((1, 4, 4, 5)), jnp.ones(shape), (1, 1), ((1, 1), (1, 1)), rhs_dilation=dilation)
