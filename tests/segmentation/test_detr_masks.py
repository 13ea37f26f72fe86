import jax
import jax.numpy as jnp
import numpy as np
import pytest
from quick import drawn

from vitjax.backbones.crossformer import CrossFormer
from vitjax.backbones.resnet import ResNet
from vitjax.detection.conditional_detr import ConditionalDETR
from vitjax.detection.dab_detr import DABDETR
from vitjax.detection.deformable_detr import DeformableDETR
from vitjax.detection.detr import DETR
from vitjax.detection.dino import DINO
from vitjax.families.known import detector_inside
from vitjax.segmentation.detr_masks import MaskDETR
from vitjax.structs import ANSWER, Assignment, Images

THIN = {"num_classes": 2, "channels": 32, "encoder_layers": 1, "decoder_layers": 1, "feed_forward": 16}
SMALL = ResNet(depth=18, width=8, stage_blocks=(1, 1), norm="group")
LEVELS = {"levels": 2, "backbone_levels": 1, "num_queries": 4}
TWO_STAGES = LEVELS | {"refine": True, "two_stage": True}
CROSS = CrossFormer(channels=8, depths=(1, 1), heads=(1, 2), group_sizes=(3, 3), intervals=(2, 2), drop_path=0.0)
DETECTORS = {
    "detr": DETR(SMALL, num_queries=4, **THIN),
    "detr on CrossFormer": DETR(CROSS, num_queries=4, **THIN),
    "conditional detr": ConditionalDETR(SMALL, num_queries=4, **THIN),
    "dab detr": DABDETR(SMALL, num_queries=4, **THIN),
    "deformable detr": DeformableDETR(SMALL, **LEVELS, **THIN),
    "deformable detr of two stages on CrossFormer": DeformableDETR(CROSS, **TWO_STAGES, **THIN),
    "dino": DINO(SMALL, **LEVELS, **THIN),
}
MORE = 9  # objects than are computed together
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


@pytest.mark.parametrize("name", DETECTORS)
def test_every_detector_has_masks_and_its_parameters_stand_within(name):
    detector = DETECTORS[name]
    model = MaskDETR(detector, finer=1)
    variables = shapes(model)
    assert variables["params"].keys() == {"detr", "mask_attention", "mask_head"}
    assert detector_inside(model, variables)[0] == detector

    def matching(predictions):
        layers = predictions.logits.shape[0]
        return Assignment({ANSWER: jnp.zeros((layers, 2, MORE), int), "proposal": jnp.zeros((1, 2, MORE), int)})

    def both(variables):
        return model.apply(variables, IMAGES, train=False), model.apply(
            variables, IMAGES, train=False, matching=matching
        )

    alone, matched = jax.eval_shape(both, variables)
    assert alone.masks.shape == (2, 4, *alone.valid.shape[1:]) and alone.queries is None
    assert matched.masks.shape == (2, MORE, *alone.valid.shape[1:]) and matched.queries.shape == (2, MORE)


@pytest.fixture(scope="module")
def thin():
    """A model with masks on two levels, and its variables."""
    model = MaskDETR(DETECTORS["deformable detr of two stages on CrossFormer"], finer=1, max_masks=3)
    return model, drawn(shapes(model))


def test_a_padded_image_gives_the_masks_that_it_gives_alone_and_the_best_queries_have_them(thin):
    model, variables = thin
    rng = np.random.default_rng(0)
    pixels = rng.normal(size=(1, 40, 56, 3)).astype(np.float32)
    run = jax.jit(lambda *images: model.apply(variables, Images(*images), train=False))
    alone = run(pixels, np.ones((1, 40, 56), bool))
    room = ((0, 0), (0, 24), (0, 40))
    padded = run(np.pad(pixels, (*room, (0, 0)), constant_values=3), np.pad(np.ones((1, 40, 56), bool), room))
    rows, columns = alone.masks.shape[2:]
    assert padded.valid.sum() == rows * columns and padded.masks.shape[2] > rows
    np.testing.assert_array_equal(padded.queries, alone.queries)
    np.testing.assert_allclose(padded.masks[:, :, :rows, :columns], alone.masks, atol=2e-4)
    best = np.sort(np.argsort(-np.asarray(alone.predictions.logits[-1, 0]).max(-1))[:3])
    np.testing.assert_array_equal(alone.queries[0], best)
