import jax
import jax.numpy as jnp
import numpy as np
from quick import drawn

from vitjax.attention.spatial_transformer import SpatialTransformer
from vitjax.backbones.resnet import ResNet
from vitjax.backbones.spatially_transformed import SpatiallyTransformed
from vitjax.structs import Images

RESNET = ResNet(depth=18, width=4, stage_blocks=(1,))
TRANSFORMER = SpatialTransformer(features=(3,), kernel=3, cells=2, hidden=4)
MODEL = SpatiallyTransformed(RESNET, TRANSFORMER)


def images(bucket, value=0.0):
    """One picture of 13 x 18 in a bucket."""
    pixels, valid = np.full((1, *bucket, 3), value, np.float32), np.zeros((1, *bucket), bool)
    pixels[:, :13, :18] = np.random.default_rng(0).normal(size=(1, 13, 18, 3))
    valid[:, :13, :18] = True
    return Images(jnp.asarray(pixels), jnp.asarray(valid))


def variables_of(model):
    return drawn(jax.eval_shape(model.init, jax.random.key(0), images((13, 18))))


def test_with_the_identity_it_is_the_backbone():
    variables = variables_of(MODEL)
    identity = np.array([1, 0, 0, 0, 1, 0], np.float32)
    variables["params"]["transformer"]["last"] = {"kernel": np.zeros((4, 6), np.float32), "bias": identity}
    own = {kind: {name: tree[name] for name in tree if name != "transformer"} for kind, tree in variables.items()}
    found, wanted = jax.jit(MODEL.apply)(variables, images((13, 18))), jax.jit(RESNET.apply)(own, images((13, 18)))
    for feature, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(feature.values, other.values, atol=1e-4)
        np.testing.assert_array_equal(feature.valid, other.valid)


def test_a_padded_image_gives_what_it_gives_alone():
    run = jax.jit(MODEL.apply)
    variables = variables_of(MODEL)
    together, alone = run(variables, images((16, 32), value=3.0))[-1], run(variables, images((13, 18)))[-1]
    _, height, width, _ = alone.values.shape
    np.testing.assert_allclose(together.values[:, :height, :width], alone.values, atol=1e-5)
    assert together.valid.sum() == height * width and not np.any(together.values[~together.valid])


def test_a_fixed_size_leaves_no_padding():
    model = SpatiallyTransformed(RESNET, TRANSFORMER.clone(size=(16, 8)))
    feature = jax.jit(model.apply)(variables_of(model), images((16, 32)))[-1]
    assert feature.values.shape == (1, 4, 2, 4) and feature.valid.all()
