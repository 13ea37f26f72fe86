import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from vitjax.ops import winograd
from vitjax.ops.convolution import conv_general_dilated
from vitjax.ops.winograd import winograd_convolution

LAYOUT = ("NHWC", "HWIO", "NHWC")
AROUND = ((1, 1), (1, 1))


def drawn(*shape):
    return np.random.default_rng(shape).normal(size=shape)


def direct(image, kernel):
    return lax.conv_general_dilated(image, kernel, (1, 1), AROUND, dimension_numbers=LAYOUT)


def ours(image, kernel):
    return winograd_convolution(image, kernel, dimension_numbers=LAYOUT)


def value_and_gradients(convolve, image, kernel, dtype=jnp.float32):
    def both(image, kernel, cotangent):
        y, backward = jax.vjp(convolve, image, kernel)
        return y, *backward(cotangent.astype(dtype))

    cotangent = drawn(*image.shape[:3], kernel.shape[-1])
    found = jax.jit(both)(jnp.asarray(image, dtype), jnp.asarray(kernel, dtype), jnp.asarray(cotangent, dtype))
    return [np.asarray(one, np.float64) for one in found]


@pytest.mark.parametrize("channels", [(256, 260), (300, 256), (128, 130)], ids=str)
@pytest.mark.parametrize("size", [(8, 6), (7, 9), (1, 1), (2, 1)], ids=str)
def test_value_and_gradients_are_those_of_the_convolution(size, channels):
    image, kernel = drawn(2, *size, channels[0]), drawn(3, 3, *channels)
    found = value_and_gradients(ours, image, kernel)
    with jax.enable_x64(True):
        wanted = value_and_gradients(direct, image, kernel, jnp.float64)
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=2e-6 * float(abs(other).max()))


@pytest.mark.parametrize("tiles", [1, 7, 20])
def test_tiles_are_computed_a_strip_at_a_time_with_the_same_results(tiles, monkeypatch):
    image, kernel = drawn(2, 13, 9, 128), drawn(3, 3, 128, 128)
    whole = value_and_gradients(ours, image, kernel)
    monkeypatch.setattr(winograd, "_AT_ONCE", tiles / winograd.processors())
    assert winograd._Strips.of(jnp.asarray(image)).count > 1
    strips = value_and_gradients(ours, image, kernel)
    for one, other in zip(strips, whole, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-6 * float(abs(other).max()))


def test_errors_are_those_of_the_sum():
    image, kernel = drawn(2, 16, 16, 256), drawn(3, 3, 256, 256)
    with jax.enable_x64(True):
        exact = value_and_gradients(direct, image, kernel, jnp.float64)
    mine, theirs = value_and_gradients(ours, image, kernel), value_and_gradients(direct, image, kernel)
    for one, other, wanted in zip(mine, theirs, exact, strict=True):
        assert np.square(one - wanted).mean() < 4 * np.square(other - wanted).mean()


def flops(function, *given):
    return jax.jit(function).lower(*given).compile().cost_analysis()["flops"]


def test_it_takes_half_of_the_operations():
    image, kernel = jnp.ones((2, 16, 16, 256)), jnp.ones((3, 3, 256, 256))

    def step(convolve):
        return lambda image, kernel: jax.vjp(convolve, image, kernel)[1](image)

    assert flops(ours, image, kernel) < 0.55 * flops(direct, image, kernel)
    assert flops(step(ours), image, kernel) < 0.55 * flops(step(direct), image, kernel)


@pytest.mark.parametrize(
    ("channels", "dtype", "options"),
    [
        (64, "float32", {}),
        (256, "bfloat16", {}),
        (256, "float32", {"rhs_dilation": (2, 2)}),
        (256, "float32", {"padding": ((0, 0), (0, 0))}),
        (256, "float32", {"window_strides": (2, 2)}),
    ],
    ids=str,
)
def test_other_convolutions_are_not_brought_to_it(channels, dtype, options):
    image, kernel = jnp.ones((1, 6, 6, channels), dtype), jnp.ones((3, 3, channels, channels), dtype)
    arguments = {"window_strides": (1, 1), "padding": AROUND, "dimension_numbers": LAYOUT, **options}

    def products(convolve):
        return flops(lambda image, kernel: convolve(image, kernel, **arguments), image, kernel)

    assert products(conv_general_dilated) == products(lax.conv_general_dilated)


def test_float32_on_many_channels_is():
    image, kernel = jnp.ones((1, 6, 6, 256)), jnp.ones((3, 3, 256, 256))
    found = flops(lambda *given: conv_general_dilated(*given, (1, 1), AROUND, dimension_numbers=LAYOUT), image, kernel)
    assert found == flops(ours, image, kernel) < flops(direct, image, kernel)
