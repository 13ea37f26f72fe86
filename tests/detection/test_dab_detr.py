import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vitjax.backbones.resnet import ResNet
from vitjax.detection.dab_detr import DABDETR, spread_anchors
from vitjax.errors import FieldError
from vitjax.structs import Images

BACKBONE = ResNet(depth=18, width=8, stage_blocks=(1,))


def shapes_of(**fields):
    images = Images(jnp.zeros((1, 32, 32, 3)), jnp.ones((1, 32, 32), bool))
    model = DABDETR(BACKBONE, num_classes=3, encoder_layers=1, decoder_layers=2, **fields)
    predictions, variables = jax.eval_shape(lambda: model.init_with_output(jax.random.key(0), images, train=False))
    return predictions.logits.shape, variables["params"]


def test_patterns_share_the_queries():
    logits, params = shapes_of(num_queries=12, patterns=3)
    assert logits == (2, 1, 12, 3)
    assert params["anchors"].shape == (4, 4) and params["patterns"].shape == (3, 256)
    assert "patterns" not in shapes_of()[1]


@pytest.mark.parametrize("patterns", [-1, 5])
def test_patterns_that_cannot_share_the_queries_are_named(patterns):
    with pytest.raises(FieldError, match=f"patterns must be 0 or divide num_queries=12, .*; got {patterns}"):
        shapes_of(num_queries=12, patterns=patterns)


def test_centres_start_evenly_spread_and_sizes_as_others_do():
    boxes = jax.nn.sigmoid(spread_anchors(jax.random.key(0), (2000, 4)))
    for column in (0, 1):
        np.testing.assert_allclose(np.histogram(boxes[:, column], 4, (0, 1))[0] / 2000, 0.25, atol=0.04)
    assert np.histogram(boxes[:, 2], 4, (0, 1))[0][0] / 2000 < 0.17


def test_positions_enter_the_cross_attention_of_the_first_layer_or_of_all():
    for keep, there in ((False, [True, False]), (True, [True, True])):
        decoder = shapes_of(keep_query_position=keep)[1]["decoder"]
        assert ["query_position" in decoder[f"layer_{i}"]["cross_attention"] for i in range(2)] == there


def test_a_slope_is_learned_where_the_activation_has_one():
    for activation, there in (("prelu", True), ("relu", False)):
        params = shapes_of(activation=activation)[1]
        assert ("slope" in params["encoder"]["layer_0"]["feed_forward"]) is there
        assert ("slope" in params["decoder"]["layer_1"]["feed_forward"]) is there
