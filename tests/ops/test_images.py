import jax.numpy as jnp
import numpy as np

from vitjax.ops.images import framed_images, normalize, valid_pixels


def test_valid_pixels_are_the_top_left_rows_and_columns_of_each_image():
    valid = valid_pixels(jnp.array([[2, 3], [4, 5], [0, 0]]), 4, 5)
    assert valid.shape == (3, 4, 5) and valid.sum((1, 2)).tolist() == [6, 20, 0]
    assert valid[0, :2, :3].all()


def test_pixels_are_normalised_by_the_published_statistics_and_zero_on_padding():
    pixels = jnp.asarray(np.random.default_rng(0).integers(0, 256, (2, 4, 5, 3)), jnp.uint8)
    sizes = jnp.array([[2, 3], [4, 5]])
    valid = valid_pixels(sizes, 4, 5)
    found = np.asarray(normalize(pixels, valid))
    wanted = (np.asarray(pixels) / 255.0 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    np.testing.assert_allclose(found[np.asarray(valid)], wanted[np.asarray(valid)], atol=1e-5)
    assert not found[~np.asarray(valid)].any() and found.dtype == np.float32
    framed = framed_images(pixels, sizes)
    np.testing.assert_array_equal(framed.pixels, found)
    np.testing.assert_array_equal(framed.valid, valid)
