import jax.numpy as jnp

from vitjax.segmentation.label_map import BestLabel


def test_a_pixel_has_its_most_probable_class_and_of_equal_ones_the_first():
    logits = jnp.array([[[[0.0, 2.0, 1.0], [3.0, 3.0, -1.0]]]])
    labels = BestLabel()(logits)
    assert labels.dtype == jnp.uint8 and labels.tolist() == [[[1, 0]]]
