"""What Conditional DETR and DAB-DETR promise alike."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export
from quick import drawn

from vitjax.backbones.resnet import ResNet
from vitjax.detection.conditional_detr import ConditionalDETR
from vitjax.detection.dab_detr import DABDETR
from vitjax.errors import FieldError
from vitjax.structs import Images

TINY = {"backbone": ResNet(depth=18, width=8, stage_blocks=(1,)), "num_classes": 3, "num_queries": 6, "channels": 16}
TINY |= {"heads": 2, "encoder_layers": 1, "decoder_layers": 2, "feed_forward": 32, "dropout": 0.3}
MODELS = {"conditional": ConditionalDETR(**TINY), "dab": DABDETR(**TINY, patterns=2)}
SIZES = ((24, 40), (19, 26))


@functools.cache
def variables_of(model):
    images = Images(jnp.zeros((1, 32, 32, 3)), jnp.ones((1, 32, 32), bool))
    return drawn(jax.eval_shape(lambda: model.init(jax.random.key(0), images, train=False)))


@functools.cache
def found(name, *rows, **fields):
    """Predictions on these images in one batch, and what is sown; the weights are those without `fields`."""
    height, width = np.max([SIZES[row] for row in rows], axis=0)
    pixels, valid = np.zeros((len(rows), height, width, 3), np.float32), np.zeros((len(rows), height, width), bool)
    for place, row in enumerate(rows):
        inside = (place, slice(SIZES[row][0]), slice(SIZES[row][1]))
        pixels[inside], valid[inside] = np.random.default_rng(row).normal(size=(*SIZES[row], 3)), True
    model = MODELS[name].clone(**fields)
    run = jax.jit(functools.partial(model.apply, train=False, mutable=["intermediates"]))
    predictions, state = jax.device_get(run(variables_of(MODELS[name]), Images(pixels, valid)))
    return predictions, state["intermediates"]


@pytest.mark.parametrize("name", MODELS)
def test_a_padded_image_gives_what_it_gives_alone(name):
    together, alone = found(name, 0, 1)[0], found(name, 1)[0]
    np.testing.assert_allclose(together.logits[:, 1], alone.logits[:, 0], rtol=0, atol=2e-5)
    np.testing.assert_allclose(together.boxes[:, 1], alone.boxes[:, 0], rtol=0, atol=2e-5)
    assert np.abs(together.boxes[0] - together.boxes[1]).max() > 1e-3


@pytest.mark.parametrize("name", MODELS)
def test_what_is_looked_at_is_sown_for_explanations(name):
    sown = found(name, 0, 1)[1]
    assert sown["positions"][0].shape == (2, 6, 10, 16) and sown["memory"][0].shape == (2, 60, 16)
    assert sown["encoder"]["layer_0"]["self_attention"]["weights"][0].shape == (2, 2, 60, 60)
    weights = sown["decoder"]["layer_1"]["cross_attention"]["weights"][0]
    np.testing.assert_allclose(weights.sum(-1), np.ones((2, 2, 6)), atol=1e-5)
    assert weights.shape == (2, 2, 6, 60) and not weights[1].reshape(2, 6, 6, 10)[..., 5:, :].any()


@pytest.mark.parametrize("name", MODELS)
def test_bfloat16_with_recomputed_layers_predicts_in_float32_and_stays_close(name):
    wanted, (low, sown) = found(name, 0, 1)[0], found(name, 0, 1, dtype="bfloat16", remat=True)
    assert low.logits.dtype == low.boxes.dtype == np.float32 and sown["memory"][0].dtype == jnp.bfloat16
    assert not np.array_equal(low.logits, wanted.logits)
    np.testing.assert_allclose(low.boxes, wanted.boxes, atol=0.05)
    np.testing.assert_allclose(low.logits, wanted.logits, atol=0.15)


@pytest.mark.parametrize("name", MODELS)
def test_layers_are_computed_anew_in_the_backward_pass_if_asked(name):
    images, model = Images(jnp.zeros((1, 32, 32, 3)), jnp.ones((1, 32, 32), bool)), MODELS[name].clone(remat=True)

    def total(variables):
        return model.apply(variables, images, train=True, rngs={"dropout": jax.random.key(0)}).boxes.sum()

    assert str(jax.make_jaxpr(total)(variables_of(MODELS[name]))).count("prevent_cse=True") == 3


@pytest.mark.parametrize("name", MODELS)
def test_the_number_of_images_may_be_left_open_for_exports(name):
    (batch,) = export.symbolic_shape("batch")
    pixels, valid = ((batch, 32, 32, 3), jnp.float32), ((batch, 32, 32), jnp.bool_)
    given = Images(*(jax.ShapeDtypeStruct(*one) for one in (pixels, valid)))
    run = jax.jit(lambda variables, images: MODELS[name].apply(variables, images, train=False).boxes)
    assert export.export(run)(variables_of(MODELS[name]), given).out_avals[0].shape == (2, batch, 6, 4)


@pytest.mark.parametrize("name", MODELS)
def test_classes_must_be_known(name):
    images = Images(jnp.zeros((1, 32, 32, 3)), jnp.ones((1, 32, 32), bool))
    model = MODELS[name].clone(num_classes=None)
    with pytest.raises(FieldError, match=f"{type(model).__name__} needs num_classes; got None"):
        jax.eval_shape(lambda: model.init(jax.random.key(0), images, train=False))
