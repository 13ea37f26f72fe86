import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from vitjax.ops.strided_convolution import strided_convolution

LAYOUT = ("NHWC", "HWIO", "NHWC")


def drawn(*shape):
    return jnp.asarray(np.random.default_rng(len(shape)).normal(size=shape), jnp.float32)


def value_and_gradients(convolve, image, kernel, stride, padding):
    def weighted(image, kernel):
        y = convolve(image, kernel, (stride, stride), padding, dimension_numbers=LAYOUT)
        return (y * jnp.cos(jnp.arange(y.size).reshape(y.shape))).sum(), y

    (_, y), gradients = jax.jit(jax.value_and_grad(weighted, argnums=(0, 1), has_aux=True))(image, kernel)
    return [y, *gradients]


def agree(image, kernel, stride, padding):
    found = value_and_gradients(strided_convolution, image, kernel, stride, padding)
    wanted = value_and_gradients(lax.conv_general_dilated, image, kernel, stride, padding)
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5 * float(abs(other).max()))


@pytest.mark.parametrize(
    ("side", "stride", "low"), [(2, 2, 0), (4, 2, 1), (4, 2, 0), (4, 2, 2), (8, 2, 3), (6, 3, 1), (8, 4, 2), (4, 4, 0)]
)
def test_value_and_gradients_are_those_of_the_convolution(side, stride, low):
    image, kernel = drawn(2, 2 * stride, 5 * stride, 3), drawn(side, side, 3, 4)
    agree(image, kernel, stride, ((low, side - stride - low),) * 2)


@pytest.mark.parametrize("padding", [((0, 0), (0, 0)), ((1, 1), (1, 1)), ((3, 0), (0, 3)), ((1, 2), (5, 1))], ids=str)
@pytest.mark.parametrize("stride", [2, 3])
@pytest.mark.parametrize("side", [3, 4, 7])
@pytest.mark.parametrize("size", [(7, 9), (8, 8), (12, 7)], ids=str)
def test_kernels_and_maps_need_not_be_whole_strides(size, side, stride, padding):
    agree(drawn(2, *size, 3), drawn(side, side, 3, 4), stride, padding)


@pytest.mark.parametrize("size", [(6, 8), (5, 7)], ids=str)
def test_a_small_kernel_on_many_channels_has_the_same_gradients(size):
    agree(drawn(2, *size, 128), drawn(3, 3, 128, 130), 2, ((1, 1), (1, 1)))


@pytest.mark.parametrize(("side", "channels"), [(3, 4), (3, 128), (4, 4)])
def test_no_gradient_is_computed_among_zeros(side, channels):
    image, kernel, around = drawn(1, 7, 8, channels), drawn(side, side, channels, channels), ((1, 1), (1, 1))

    def program(convolve, places):
        def total(image, kernel):
            return (convolve(image, kernel, (2, 2), around, dimension_numbers=LAYOUT) ** 2).sum()

        return jax.jit(jax.grad(total, places)).lower(image, kernel).as_text()

    assert "lhs_dilate = [2, 2]" in program(lax.conv_general_dilated, 0)
    assert "lhs_dilate = [2, 2]" not in program(strided_convolution, 0)
    products = program(strided_convolution, 1).count("stablehlo.dot_general")
    assert products == (9 if channels >= 128 else 0)


def test_convolutions_of_other_shapes_are_passed_on():
    image, long, flat = drawn(1, 8, 9, 3), drawn(3, 2, 3, 4), drawn(3, 3, 3, 4)
    for kernel, strides, padding in ((long, (2, 2), "VALID"), (flat, (2, 1), ((1, 1),) * 2), (flat, (2, 2), "SAME")):
        found = strided_convolution(image, kernel, strides, padding, dimension_numbers=LAYOUT)
        wanted = lax.conv_general_dilated(image, kernel, strides, padding, dimension_numbers=LAYOUT)
        np.testing.assert_array_equal(found, wanted)
