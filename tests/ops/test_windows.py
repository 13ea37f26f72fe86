import jax.numpy as jnp
import numpy as np
import pytest

from vitjax.ops.windows import Windows


def swins(height, width, side, shift):
    """Swin's mask for a map of whole windows, from the numbers of its nine regions."""
    regions = np.zeros((height, width))
    slices = (slice(0, -side), slice(-side, -shift), slice(-shift, None))
    for number, (rows, columns) in enumerate((rows, columns) for rows in slices for columns in slices):
        regions[rows, columns] = number
    cut = regions.reshape(height // side, side, width // side, side).swapaxes(1, 2).reshape(-1, side * side)
    return cut[:, :, None] == cut[:, None, :]


@pytest.mark.parametrize("shift", [0, 2])
@pytest.mark.parametrize("size", [(8, 12), (7, 5), (3, 9)], ids=str)
def test_joining_the_cut_gives_the_map(size, shift):
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, *size, 3)).astype(np.float32))
    windows = Windows(*size, 4, shift)
    np.testing.assert_array_equal(windows.join(windows.cut(x)), x)
    numbers = windows.numbers()
    assert sorted(numbers[numbers >= 0]) == list(range(size[0] * size[1]))


@pytest.mark.parametrize("side, shift", [(4, 2), (7, 3)])
def test_what_sees_each_other_is_swins_mask(side, shift):
    height, width = 2 * side, 3 * side
    np.testing.assert_array_equal(Windows(height, width, side, shift).seen(), swins(height, width, side, shift))


def test_padding_is_not_seen():
    valid = np.zeros((2, 7, 5), bool)
    valid[0, :6, :3] = valid[1] = True
    windows = Windows(7, 5, 4, 2)
    seen = np.asarray(windows.seen(jnp.asarray(valid))).reshape(2, -1, 16, 16)
    numbers = np.broadcast_to(windows.numbers()[:, None], seen.shape[1:])
    for i, image in enumerate(valid):
        assert (image.ravel()[numbers[seen[i]]] & (numbers[seen[i]] >= 0)).all()
    np.testing.assert_array_equal(seen[1], windows.seen())
