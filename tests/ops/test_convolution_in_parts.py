import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from ops.test_convolution import LAYOUT, ONE, PASSED_ON, drawn

from vitjax.ops.convolution_in_parts import convolution_in_parts


def test_gradients_in_parts_are_those_of_the_whole_in_the_form_that_is_fast():
    images, kernel, weights = drawn(3, 2, 7, 9, 6), drawn(3, 3, 6, 4), drawn(3, 2, 7, 9, 4)

    def total(convolve, kernel, images):
        def each(part):
            return (convolve(part[0], kernel, (1, 1), ONE, dimension_numbers=LAYOUT) * part[1]).sum()

        return jax.lax.map(each, (images, weights)).sum()

    ours, xla = (
        jax.jit(jax.value_and_grad(functools.partial(total, convolve), argnums=(0, 1))).lower(kernel, images).compile()
        for convolve in (convolution_in_parts, lax.conv_general_dilated)
    )
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5), ours(kernel, images), xla(kernel, images)
    )
    forms = {k: set(re.findall(r"dim_labels=(\S+?)[,\s]", v.as_text())) for k, v in (("ours", ours), ("xla", xla))}
    assert forms["ours"] == {"b01f_01io->b01f"} < forms["xla"]


@pytest.mark.parametrize("name", PASSED_ON)
def test_what_has_no_such_form_is_passed_on(name):
    shape, options = PASSED_ON[name]
    image, kernel = drawn(2, 7, 9, 6), drawn(*shape)

    def gradient(convolve):
        given = {"window_strides": (1, 1), "dimension_numbers": LAYOUT, **options}
        return jax.grad(lambda kernel: jnp.sin(convolve(image, kernel, **given)).sum())(kernel)

    ours, wanted = gradient(convolution_in_parts), gradient(lax.conv_general_dilated)
    np.testing.assert_allclose(ours, wanted, rtol=1e-4, atol=1e-5)
