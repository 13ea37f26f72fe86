import jax
import jax.numpy as jnp
import numpy as np
import pytest
from plug_ins import refusal
from quick import drawn

from vitjax.attention.spatial_transformer import SpatialTransformer
from vitjax.ops.affine import affine_grid, sample

SMALL = SpatialTransformer(features=(3,), kernel=3, cells=2, hidden=4)
SIZES = [(9, 11), (6, 7)]


def picture(height, width):
    return jnp.asarray(np.random.default_rng(height).normal(size=(1, height, width, 3)).astype(np.float32))


def shapes_of(module):
    return jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, 8, 8, 3)))["params"]


def moved():
    """Parameters that transform: a first layer as drawn, a last one not far from the identity."""
    params = drawn(shapes_of(SMALL))
    identity = np.array([1, 0, 0, 0, 1, 0], np.float32)
    return {"params": params | {"last": {"kernel": 0.3 * params["last"]["kernel"], "bias": identity}}}


def padded():
    x, valid = np.full((2, 12, 12, 3), 7.0, np.float32), np.zeros((2, 12, 12), bool)
    for i, (height, width) in enumerate(SIZES):
        x[i, :height, :width], valid[i, :height, :width] = picture(height, width)[0], True
    return jnp.asarray(x), jnp.asarray(valid)


def test_it_starts_as_the_identity():
    x = picture(9, 8)
    found, _ = jax.jit(SMALL.init_with_output)(jax.random.key(0), x)
    np.testing.assert_allclose(found, x, atol=1e-5)


@pytest.mark.parametrize("options", [{}, {"convention": "edges"}, {"convention": "open"}, {"size": (9, 8)}], ids=str)
def test_it_says_whether_it_starts_as_the_identity(options):
    assert SMALL.clone(**options).starts_as_identity == (options.get("convention") != "open" and "size" not in options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kernel": 4}, "an odd side; got kernel=4"),
        ({"kernel": -1}, "an odd side; got kernel=-1"),
        ({"convention": "middle"}, "one of corners, edges, open; got convention='middle'"),
    ],
    ids=str,
)
def test_what_cannot_be_done_is_refused_in_words(options, message):
    with refusal(message):
        shapes_of(SMALL.clone(**options))


def test_the_sown_theta_tells_where_it_looked():
    module, x = SMALL.clone(size=(5, 4), convention="edges"), picture(9, 8)
    found, sown = jax.jit(lambda x: module.apply(moved(), x, mutable=["intermediates"]))(x)
    theta = sown["intermediates"]["theta"][0]
    assert np.abs(theta - np.eye(2, 3)).max() > 0.1

    @jax.jit  # places are in pixels: operation by operation they round otherwise than in one program
    def looked_at(x, theta):
        return sample(x, affine_grid(theta, (5, 4), convention="edges"), convention="edges")

    np.testing.assert_allclose(found, looked_at(x, theta), atol=1e-6)


@pytest.mark.parametrize("convention", ["corners", "edges", "open"])
def test_the_sown_outline_has_the_places_of_the_corners_as_shares_of_each_image(convention):
    x, valid = padded()
    params = moved()["params"]
    params["last"] = {"kernel": np.zeros((4, 6), np.float32), "bias": np.float32([0.5, 0, 0.5, 0.1, 1, 0])}
    module = SMALL.clone(convention=convention)
    _, sown = jax.jit(lambda: module.apply({"params": params}, x, valid, mutable=["intermediates"]))()
    for outline, (height, width) in zip(sown["intermediates"]["outline"][0], SIZES, strict=True):
        rim = np.array([0, 0] if convention == "edges" else [0.5 / width, 0.5 / height])
        places = np.array([[0, -1.1], [1, -0.9], [1, 1.1], [0, 0.9]])  # x' = (x + 1) / 2, y' = y + x / 10
        np.testing.assert_allclose(outline, rim + (places + 1) / 2 * (1 - 2 * rim), atol=1e-6)


@pytest.mark.parametrize("size", [None, (5, 4)], ids=str)
def test_a_padded_image_gives_what_it_gives_alone(size):
    module, (x, valid) = SMALL.clone(size=size), padded()
    run = jax.jit(module.apply)
    together = np.asarray(run(moved(), x, valid))
    for i, (height, width) in enumerate(SIZES):
        rows, columns = size or (height, width)
        alone = run(moved(), picture(height, width))
        np.testing.assert_allclose(together[i, :rows, :columns], alone[0], atol=1e-5)
    assert size or not together[~valid].any()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_it_works_under_jit_with_gradients_to_all(dtype):
    module, (x, valid) = SMALL.clone(dtype=dtype), padded()

    def energy(variables, x):
        return (module.apply(variables, x, valid).astype(jnp.float32) ** 2).sum()

    gradients = jax.jit(jax.grad(energy, argnums=(0, 1)))(moved(), jnp.asarray(x, dtype))
    assert all(np.isfinite(leaf).all() and np.any(leaf) for leaf in jax.tree.leaves(gradients))
    assert not np.any(gradients[1][~valid])
