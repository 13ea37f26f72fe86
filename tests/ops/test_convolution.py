from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from vitjax.ops.convolution import conv_general_dilated, last_axis_product, wide_einsum
from vitjax.ops.patch_convolution import patch_convolution

LAYOUT = ("NHWC", "HWIO", "NHWC")
NONE, ONE = [(0, 0), (0, 0)], [(1, 1), (1, 1)]
PASSED_ON = {
    "3x3": ((3, 3, 6, 4), {"padding": ONE}),
    "3x3 dilated": ((3, 3, 6, 4), {"padding": ONE, "rhs_dilation": (2, 2)}),
    "3x3 grouped": ((3, 3, 2, 6), {"padding": ONE, "feature_group_count": 3}),
    "1x1 grouped": ((1, 1, 2, 6), {"padding": NONE, "feature_group_count": 3}),
    "1x1 padded": ((1, 1, 6, 4), {"padding": ONE}),
    "1x1 spread": ((1, 1, 6, 4), {"padding": NONE, "lhs_dilation": (2, 2)}),
    "1x3": ((1, 3, 6, 4), {"padding": "SAME"}),
}


def drawn(*shape):
    return jnp.asarray(np.random.default_rng(0).normal(size=shape), jnp.float32)


def is_convolution(strides, kernel, **options):
    trace = jax.make_jaxpr(lambda x, k: conv_general_dilated(x, k, strides, dimension_numbers=LAYOUT, **options))
    return "conv_general_dilated" in str(trace(drawn(2, 7, 9, 6), kernel))


@pytest.mark.parametrize("padding", [NONE, "SAME", "VALID"], ids=str)
@pytest.mark.parametrize("strides", [(1, 1), (2, 2), (1, 2)], ids=str)
def test_a_pointwise_kernel_becomes_a_product_of_the_same_value_and_gradients(strides, padding):
    image, kernel = drawn(2, 7, 9, 6), drawn(1, 1, 6, 4)
    assert not is_convolution(strides, kernel, padding=padding)

    def both(convolve):
        def total(image, kernel):
            y = convolve(image, kernel, strides, padding, dimension_numbers=LAYOUT)
            return (y**2).sum(), y

        (_, y), gradients = jax.value_and_grad(total, argnums=(0, 1), has_aux=True)(image, kernel)
        return [y, *gradients]

    for found, wanted in zip(both(conv_general_dilated), both(lax.conv_general_dilated), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("name", PASSED_ON)
def test_every_other_convolution_is_passed_on_as_it_is(name):
    shape, options = PASSED_ON[name]
    image, kernel = drawn(2, 7, 9, 6), drawn(*shape)
    assert is_convolution((2, 1), kernel, **options)
    arguments = {"window_strides": (2, 1), "dimension_numbers": LAYOUT, **options}
    found = conv_general_dilated(image, kernel, **arguments)
    np.testing.assert_array_equal(found, lax.conv_general_dilated(image, kernel, **arguments))


@pytest.mark.parametrize("side", [8, 16, 32])
def test_large_strided_kernels_on_pixels_are_the_same_as_kernels_on_patches(side):
    """At the size of the images, where it takes the other road, and near the kernel's, where it does not."""
    generator = np.random.default_rng(0)
    for height, width in ((4 * side, 4 * side + 8), (side + 4, side)):
        images = jnp.asarray(generator.normal(size=(1, height, width, 3)), jnp.float32)
        kernel = jnp.asarray(generator.normal(size=(side, side, 3, 5)) / side, jnp.float32)
        low = (side - 4) // 2
        arguments = (images, kernel, (4, 4), ((low, low), (low, low)))
        layout = {"dimension_numbers": LAYOUT, "precision": "highest"}
        found = patch_convolution(*arguments, **layout)
        wanted = lax.conv_general_dilated(*arguments, **layout)
        np.testing.assert_allclose(found, wanted, rtol=0, atol=2e-5)


@pytest.mark.parametrize("leading", [(), (5,), (2, 3), (2, 3, 4), (2, 0)])
def test_a_product_over_the_last_axis_is_the_contraction_and_its_gradients(leading):
    x, kernel = drawn(*leading, 6), drawn(6, 4)
    found, back = jax.vjp(last_axis_product, x, kernel)
    expected, backward = jax.vjp(lambda a, b: jnp.einsum("...i,io->...o", a, b), x, kernel)
    assert found.shape == (*leading, 4)
    for ours, theirs in zip((found, *back(found)), (expected, *backward(expected)), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-6)


def test_a_wide_product_of_narrow_numbers_has_gradients_of_narrow_ones():
    """In float32, as JAX transposes it, one side is converted and the product takes twice the time on a GPU."""
    x, y = drawn(2, 5, 3, 16).astype(jnp.bfloat16), drawn(2, 7, 3, 16).astype(jnp.bfloat16)
    cotangent = drawn(2, 3, 5, 7)

    def both(product, x, y, cotangent):
        out, back = jax.vjp(product, x, y)
        return out, *back(cotangent)

    def wide(x, y):
        return wide_einsum("bqhd,bkhd->bhqk", x, y)

    def wanted(x, y):
        return jnp.einsum("bqhd,bkhd->bhqk", x, y, preferred_element_type=jnp.float32)

    found = both(wide, x, y, cotangent)
    assert [array.dtype for array in found] == [jnp.float32, jnp.bfloat16, jnp.bfloat16]
    np.testing.assert_array_equal(found[0], wanted(x, y))
    exact, terms = (both(wanted, *given)[1:] for given in ((x, y, cotangent), map(jnp.abs, (x, y, cotangent))))
    for one, other, sizes in zip(found[1:], exact, terms, strict=True):
        error = np.abs(one.astype(np.float32) - other.astype(np.float32))
        # Cotangent, result and up to seven sums may be rounded to the eight bits of bfloat16: newer XLA does for CPUs.
        assert (error <= (7 + 2) * 2**-9 * sizes.astype(np.float32)).all()
    products = [str(jax.make_jaxpr(partial(both, product))(x, y, cotangent)) for product in (wide, wanted)]
    in_float32 = [text.count("preferred_element_type=float32") for text in products]
    assert in_float32 == [1, 3]


def test_a_wide_product_of_float32_is_the_plain_one():
    x, y, cotangent = drawn(2, 5, 8), drawn(2, 7, 8), drawn(2, 5, 7)
    found, wanted = (
        jax.vjp(product, x, y)
        for product in (partial(wide_einsum, "bqd,bkd->bqk"), partial(jnp.einsum, "bqd,bkd->bqk"))
    )
    np.testing.assert_array_equal(found[0], wanted[0])
    for one, other in zip(found[1](cotangent), wanted[1](cotangent), strict=True):
        np.testing.assert_array_equal(one, other)
