import jax
import jax.numpy as jnp
import numpy as np

from vitjax.layers.drop_path import DropPath


def dropped(rate, x, seed=0, *, train=True):
    return np.asarray(DropPath(rate).apply({}, x, train=train, rngs={"dropout": jax.random.key(seed)}))


def test_an_image_keeps_its_whole_branch_or_loses_it_and_the_mean_stays():
    out = dropped(0.3, jnp.ones((4000, 3, 2)))
    assert (out == out[:, :1, :1]).all()
    kept = out[:, 0, 0] > 0
    np.testing.assert_allclose(out[kept], 1 / 0.7, rtol=1e-6)
    assert abs(kept.mean() - 0.7) < 0.03 and abs(out.mean() - 1) < 0.05


def test_images_of_another_step_are_dropped():
    assert (dropped(0.5, jnp.ones((64, 1))) != dropped(0.5, jnp.ones((64, 1)), seed=1)).any()


def test_nothing_is_dropped_outside_training_or_at_rate_zero():
    x = jnp.ones((16, 2))
    np.testing.assert_array_equal(dropped(0.5, x, train=False), x)
    np.testing.assert_array_equal(DropPath(0.0).apply({}, x, train=True), x)
