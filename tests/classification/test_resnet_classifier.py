import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.errors import ModifyScopeVariableError
from quick import drawn

from vitjax.backbones.resnet import ResNet
from vitjax.classification.classifier import Classifier
from vitjax.structs import Images

THIN = Classifier(ResNet(depth=18, width=8, stage_blocks=(1, 1), norm="batch"), num_classes=5, norm=False)
PUBLISHED = {18: 11_689_512, 34: 21_797_672, 50: 25_557_032, 101: 44_549_160}


def images(bucket=(32, 48)):
    """Two images, the second smaller than the bucket."""
    pixels = np.random.default_rng(1).normal(size=(2, *bucket, 3)).astype(np.float32)
    valid = np.ones((2, *bucket), bool)
    valid[1, 30:] = valid[1, :, 37:] = False
    return Images(jnp.asarray(pixels), jnp.asarray(valid))


def shapes_of(model):
    return jax.eval_shape(functools.partial(model.init, train=False), jax.random.key(0), images())


@pytest.mark.parametrize("depth", PUBLISHED)
def test_resnets_that_train_have_exactly_torchvisions_parameters(depth):
    shapes = shapes_of(Classifier(ResNet(depth=depth, norm="batch"), num_classes=1000, norm=False))
    assert set(shapes) == {"params", "batch_stats"}
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes["params"])) == PUBLISHED[depth]


def test_training_moves_every_running_statistic_and_has_a_gradient_for_every_parameter():
    variables = drawn(shapes_of(THIN))

    def loss(params):
        changing = {"train": True, "mutable": ["batch_stats"]}
        logits, changed = THIN.apply({**variables, "params": params}, images(), **changing)
        return (logits**2).sum(), changed

    gradients, changed = jax.jit(jax.grad(loss, has_aux=True))(variables["params"])
    assert all(np.isfinite(leaf).all() and np.any(leaf) for leaf in jax.tree.leaves(gradients))
    assert changed.keys() == {"batch_stats"}
    moved = jax.tree.map(lambda new, old: np.all(new != old), changed["batch_stats"], variables["batch_stats"])
    assert all(jax.tree.leaves(moved))


def test_only_training_writes_the_running_statistics():
    variables, batch = shapes_of(THIN), images()
    logits = jax.eval_shape(functools.partial(THIN.apply, train=False), variables, batch)
    assert logits.shape == (2, 5)
    with pytest.raises(ModifyScopeVariableError, match="batch_stats"):
        jax.eval_shape(functools.partial(THIN.apply, train=True), variables, batch)
