import jax.numpy as jnp
import numpy as np
import pytest

from vitjax.ops.resize import resize_bilinear
from vitjax.segmentation.masks import Masks, object_masks, resize_maps


@pytest.mark.parametrize("size", [(9, 20), (3, 5), (5, 7)], ids=str)
def test_maps_are_resized_as_on_the_device(size):
    maps = np.random.default_rng(0).normal(size=(2, 5, 7)).astype(np.float32)
    wanted = resize_bilinear(jnp.asarray(maps.transpose(1, 2, 0)[None]), size, align_corners=False)
    np.testing.assert_allclose(resize_maps(maps, size), np.asarray(wanted[0]).transpose(2, 0, 1), atol=1e-6)


def test_the_part_of_the_frame_that_holds_the_image_is_brought_to_its_size():
    logits = np.full((1, 2, 2), -5, np.float32)
    logits[:, :, 0] = 5
    (mask,) = object_masks(logits, (8, 8), (8, 6), (4, 12))
    assert mask.shape == (4, 12)
    assert mask[:, :8].all() and not mask[:, 8:].any()  # the left 4 of the 6 columns that hold the image


def test_masks_are_made_on_demand_and_in_any_order():
    logits = np.stack([np.full((2, 3), value, np.float32) for value in (-1, 1, 100)])
    masks = Masks(logits, (8, 12), (5, 7))
    assert [bool(masks[i].all()) for i in range(len(masks))] == [False, True, True]
    taken = masks.take([2, 0])
    assert len(taken) == 2 and taken[0].shape == (5, 7) and taken[0].all() and not taken[1].any()
