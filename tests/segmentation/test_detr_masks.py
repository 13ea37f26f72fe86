import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vitjax.backbones.resnet import ResNet
from vitjax.detection.detr import DETR
from vitjax.families.known import detector_inside
from vitjax.segmentation.detr_masks import MaskDETR
from vitjax.structs import Images

IMAGES = Images(jnp.zeros((2, 64, 96, 3)), jnp.ones((2, 64, 96), bool))


def shapes(model):
    return jax.eval_shape(lambda: model.init(jax.random.key(0), IMAGES, train=False))


def size(tree):
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(tree))


def test_the_published_model_has_as_many_parameters_and_a_mask_of_a_quarter_of_the_sides():
    model = MaskDETR(DETR(num_classes=250))
    variables = shapes(model)
    inside, variables_inside = detector_inside(model, variables)
    assert size(variables["params"]) - size(variables_inside["params"]) == 1_333_657
    assert jax.tree.map(jnp.shape, variables_inside) == jax.tree.map(jnp.shape, shapes(inside))
    found = jax.eval_shape(lambda v: model.apply(v, IMAGES, train=False), variables)
    assert found.masks.shape == (2, 100, 16, 24) and found.valid.shape == (2, 16, 24)
    assert found.predictions.logits.shape == (6, 2, 100, 251)


def test_a_backbone_of_few_maps_is_refused():
    model = MaskDETR(DETR(ResNet(depth=18, width=8, stage_blocks=(1, 1, 1)), num_classes=2))
    with pytest.raises(ValueError, match="4 feature maps or more; got 3 from a ResNet"):
        shapes(model)
