from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from vitjax.ops.strided_convolution import strided_convolution

LAYOUT = ("NHWC", "HWIO", "NHWC")


def drawn(*shape):
    return jnp.asarray(np.random.default_rng(len(shape)).normal(size=shape), jnp.float32)


def value_and_gradients(convolve, image, kernel, stride, low):
    padding = ((low, kernel.shape[0] - stride - low),) * 2

    def weighted(image, kernel):
        y = convolve(image, kernel, (stride, stride), padding, dimension_numbers=LAYOUT)
        return (y * jnp.cos(jnp.arange(y.size).reshape(y.shape))).sum(), y

    (_, y), gradients = jax.jit(jax.value_and_grad(weighted, argnums=(0, 1), has_aux=True))(image, kernel)
    return [y, *gradients]


@pytest.mark.parametrize(
    ("side", "stride", "low"), [(2, 2, 0), (4, 2, 1), (4, 2, 0), (4, 2, 2), (8, 2, 3), (6, 3, 1), (8, 4, 2), (4, 4, 0)]
)
def test_value_and_gradients_are_those_of_the_convolution(side, stride, low):
    image, kernel = drawn(2, 2 * stride, 5 * stride, 3), drawn(side, side, 3, 4)
    found = value_and_gradients(strided_convolution, image, kernel, stride, low)
    wanted = value_and_gradients(lax.conv_general_dilated, image, kernel, stride, low)
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5 * float(abs(other).max()))


@pytest.mark.parametrize("image", [(1, 7, 8, 3), (1, 8, 8, 3)], ids=str)
@pytest.mark.parametrize("side", [3, 4], ids=str)
def test_no_gradient_is_computed_among_zeros_where_the_stride_divides_kernel_and_map(image, side):
    convolve = partial(strided_convolution, padding=((1, 1), (1, 1)), dimension_numbers=LAYOUT)
    kernel = drawn(side, side, 3, 4)
    step = jax.grad(lambda x: convolve(x, kernel, (2, 2)).sum())
    spread = "lhs_dilation=(2, 2)" in str(jax.make_jaxpr(step)(drawn(*image)))
    assert spread == (side == 3 or image[1] == 7)


@pytest.mark.parametrize("options", [{"rhs_dilation": (2, 2)}, {"lhs_dilation": (2, 2)}, {"feature_group_count": 3}])
def test_other_convolutions_are_passed_on(options):
    image, kernel = drawn(1, 8, 8, 3), drawn(4, 4, 1 if "feature_group_count" in options else 3, 3)
    arguments = {"window_strides": (2, 2), "padding": ((1, 1), (1, 1)), "dimension_numbers": LAYOUT, **options}
    found = strided_convolution(image, kernel, **arguments)
    np.testing.assert_array_equal(found, lax.conv_general_dilated(image, kernel, **arguments))
