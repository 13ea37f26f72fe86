import jax.numpy as jnp
import numpy as np
import pytest

from vitjax.ops.resize import resize_bilinear


def oracle(x, size, *, align_corners):
    """Every output pixel by itself, in float64."""
    out = np.zeros((len(x), *size, x.shape[-1]))
    for row in range(size[0]):
        for column in range(size[1]):
            value = 0.0
            for y, of_y in corners(row, x.shape[1], size[0], align_corners):
                for x_, of_x in corners(column, x.shape[2], size[1], align_corners):
                    value = value + of_y * of_x * x[:, y, x_]
            out[:, row, column] = value
    return out


def corners(place, given, length, align_corners):
    if align_corners:
        at = place * (given - 1) / (length - 1) if length > 1 else 0.0
    else:
        at = max((place + 0.5) * given / length - 0.5, 0.0)
    low = min(int(at), given - 1)
    return (low, 1 - (at - low)), (min(low + 1, given - 1), at - low)


@pytest.mark.parametrize("align_corners", [True, False])
@pytest.mark.parametrize("size", [(10, 9), (3, 2), (1, 7), (5, 5)])
def test_it_is_bilinear_interpolation_of_every_pixel(size, align_corners):
    x = np.random.default_rng(0).standard_normal((2, 5, 4, 3))
    found = resize_bilinear(jnp.asarray(x, jnp.float32), size, align_corners=align_corners)
    np.testing.assert_allclose(found, oracle(x, size, align_corners=align_corners), atol=2e-6)


def test_the_dtype_stays():
    assert resize_bilinear(jnp.ones((1, 2, 2, 1), jnp.bfloat16), (4, 4), align_corners=True).dtype == jnp.bfloat16
