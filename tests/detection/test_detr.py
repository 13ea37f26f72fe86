import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util
from quick import drawn
from scipy import stats

from vitjax.backbones.resnet import ResNet
from vitjax.detection.detr import DETR
from vitjax.runs.configs import load_config
from vitjax.structs import Images

CHANNELS, HIDDEN, CLASSES = 64, 96, 7
COUNTS = {  # of reference code: parameters that train, with the frozen convolutions, with the affine of frozen norms
    "detr_resnet50_coco": (41_302_368, 41_524_768, 41_577_888),
    "detr_resnet101_coco": (60_242_272, 60_464_672, 60_570_016),
}


def shapes_of(model, height=64, width=64):
    images = Images(jnp.zeros((1, height, width, 3)), jnp.ones((1, height, width), bool))
    return jax.eval_shape(lambda: model.init(jax.random.key(0), images, train=False))


def count(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize("name", COUNTS)
def test_parameters_are_as_many_as_published(name):
    experiment = load_config(name).experiment
    variables = shapes_of(experiment.model)
    trainable, _ = experiment.optimizer.partition(variables["params"])
    norms = traverse_util.flatten_dict(variables["frozen"])
    affine = [leaf for path, leaf in norms.items() if path[-1] in ("scale", "bias")]
    convolutions = count(variables["params"])
    assert (count(trainable), convolutions, convolutions + count(affine)) == COUNTS[name]
    transformer = [variables["params"][part] for part in ("encoder", "decoder")]
    assert count(transformer) == 17_363_456


def test_shapes_are_those_of_the_paper():
    model = DETR(num_classes=91)
    images = Images(jnp.zeros((2, 608, 760, 3)), jnp.ones((2, 608, 760), bool))
    predictions, state = jax.eval_shape(
        lambda variables: model.apply(variables, images, train=False, mutable=["intermediates"]), shapes_of(model)
    )
    assert predictions.logits.shape == (6, 2, 100, 92) and predictions.boxes.shape == (6, 2, 100, 4)
    inner = {name: state["intermediates"][name][0].shape for name in ("projected", "positions", "memory", "queries")}
    assert inner == {
        "projected": (2, 19, 24, 256),
        "positions": (2, 19, 24, 256),
        "memory": (2, 456, 256),
        "queries": (6, 2, 100, 256),
    }


def test_a_padded_image_gives_at_resnet_50_what_it_gives_alone():
    sizes, side = [(96, 128), (160, 97), (131, 160)], 160
    model = DETR(backbone=ResNet(depth=50), num_classes=91, encoder_layers=2, decoder_layers=2)
    variables = drawn(shapes_of(model))
    run = jax.jit(functools.partial(model.apply, train=False))
    generator = np.random.default_rng(1)
    pixels, valid = np.zeros((3, side, side, 3), np.float32), np.zeros((3, side, side), bool)
    for i, (height, width) in enumerate(sizes):
        pixels[i, :height, :width] = generator.normal(size=(height, width, 3))
        valid[i, :height, :width] = True
    together = jax.device_get(run(variables, Images(pixels, valid)))
    for i, (height, width) in enumerate(sizes):
        image = Images(pixels[i : i + 1, :height, :width], valid[i : i + 1, :height, :width])
        alone = jax.device_get(run(variables, image))
        np.testing.assert_allclose(together.logits[:, i], alone.logits[:, 0], rtol=0, atol=1e-4)
        np.testing.assert_allclose(together.boxes[:, i], alone.boxes[:, 0], rtol=0, atol=1e-4)


def test_padding_shows_when_it_is_handled_as_in_the_published_code(tiny):
    exact, reference = tiny.predict(tiny.variables), tiny.predict(tiny.variables, padding="reference")
    np.testing.assert_allclose(exact.logits[:, 0], reference.logits[:, 0], atol=1e-5)
    assert np.abs(exact.logits[:, 1] - reference.logits[:, 1]).max() > 1e-3


def test_permuting_the_queries_permutes_the_predictions(tiny):
    order = np.array([3, 0, 4, 2, 1])
    embedding = tiny.variables["params"]["query_embedding"][order]
    params = tiny.variables["params"] | {"query_embedding": embedding}
    before, after = tiny.predict(tiny.variables), tiny.predict(tiny.variables | {"params": params})
    np.testing.assert_allclose(after.logits, before.logits[:, :, order], atol=1e-5)
    np.testing.assert_allclose(after.boxes, before.boxes[:, :, order], atol=1e-5)
    assert not np.allclose(after.boxes, before.boxes, atol=1e-3)


def test_every_decoder_layer_predicts_as_a_model_that_ends_there(tiny):
    whole, shorter = tiny.predict(tiny.variables), tiny.predict(tiny.variables, decoder_layers=1)
    assert whole.logits.shape == (2, 2, 5, 4) and whole.boxes.shape == (2, 2, 5, 4)
    np.testing.assert_allclose(whole.logits[:1], shorter.logits, atol=1e-5)
    np.testing.assert_allclose(whole.boxes[:1], shorter.boxes, atol=1e-5)
    assert not np.allclose(whole.logits[0], whole.logits[1], atol=1e-3)


def test_an_image_has_the_same_predictions_whatever_is_beside_it(tiny):
    pixels = tiny.images.pixels * np.float32([1, -2])[:, None, None, None]
    found = tiny.predict(tiny.variables, tiny.images.replace(pixels=pixels))
    wanted = tiny.predict(tiny.variables)
    np.testing.assert_allclose(found.logits[:, 0], wanted.logits[:, 0], atol=1e-5)
    assert not np.allclose(found.logits[:, 1], wanted.logits[:, 1], atol=1e-3)


@pytest.mark.parametrize(
    "fields, norms",
    [({}, set()), ({"pre_norm": True}, {"norm"}), ({"position": "learned"}, set())],
    ids=["post norm", "pre norm", "learned positions"],
)
def test_every_variant_predicts_and_only_pre_norm_ends_the_encoder_with_a_norm(tiny, fields, norms):
    variables = tiny.variables_of(**fields)
    predictions = tiny.predict(variables, **fields)
    assert np.isfinite(predictions.logits).all() and ((predictions.boxes > 0) & (predictions.boxes < 1)).all()
    assert set(variables["params"]["encoder"]) == {"layer_0"} | norms
    assert set(variables["params"]["decoder"]) == {"layer_0", "layer_1", "norm"}


def test_where_the_norm_stands_makes_a_difference(tiny):
    variables = tiny.variables_of(pre_norm=True)
    before, after = tiny.predict(variables, pre_norm=True), tiny.predict(tiny.variables)
    assert not np.allclose(before.logits, after.logits, atol=1e-2)


def test_dropout_changes_predictions_in_training_only(tiny):
    resting, again = (tiny.predict(tiny.variables, seed=seed).logits for seed in (0, 1))
    np.testing.assert_array_equal(resting, again)
    first, second = (tiny.predict(tiny.variables, train=True, seed=seed).logits for seed in (0, 1))
    assert not np.allclose(first, second, atol=1e-2) and not np.allclose(first, resting, atol=1e-2)


def test_bfloat16_predicts_in_float32_and_stays_close(tiny):
    found, wanted = tiny.predict(tiny.variables, dtype="bfloat16"), tiny.predict(tiny.variables)
    assert found.logits.dtype == found.boxes.dtype == jnp.float32
    np.testing.assert_allclose(found.boxes, wanted.boxes, atol=0.05)


def test_a_model_without_number_of_classes_is_refused_with_the_way_out(tiny):
    with pytest.raises(ValueError, match="needs num_classes; got None"):
        shapes_of(tiny.model.clone(num_classes=None))


@pytest.fixture(scope="module")
def initial():
    """Freshly initialised parameters by path, of a model wide enough to see how they are distributed."""
    backbone = ResNet(depth=18, width=32, stage_blocks=(1,))
    model = DETR(
        backbone=backbone,
        num_classes=CLASSES,
        num_queries=50,
        channels=CHANNELS,
        encoder_layers=2,
        decoder_layers=1,
        feed_forward=HIDDEN,
    )
    images = Images(jnp.zeros((1, 32, 32, 3)), jnp.ones((1, 32, 32), bool))
    params = jax.jit(functools.partial(model.init, train=False))(jax.random.key(0), images)["params"]
    return {path: np.asarray(leaf) for path, leaf in traverse_util.flatten_dict(params, sep="/").items()}


def bound_of(path):
    """The published bound of a uniform kernel; the 1x1 projection sees the 32 channels of the backbone."""
    xavier = {
        "query": math.sqrt(6 / (CHANNELS + 3 * CHANNELS)),
        "key": math.sqrt(6 / (CHANNELS + 3 * CHANNELS)),
        "value": math.sqrt(6 / (CHANNELS + 3 * CHANNELS)),
        "out": math.sqrt(6 / (CHANNELS + CHANNELS)),
        "expand": math.sqrt(6 / (CHANNELS + HIDDEN)),
        "contract": math.sqrt(6 / (CHANNELS + HIDDEN)),
    }
    return xavier.get(path.split("/")[-2]) or torch_bound(path)


def torch_bound(path):
    fan_in = {"input_projection": 32, "contract": HIDDEN}.get(path.split("/")[-2], CHANNELS)
    return 1 / math.sqrt(fan_in)


def test_transformer_and_head_kernels_start_uniform_up_to_the_published_bounds(initial):
    kernels = {path: x for path, x in initial.items() if path.endswith("kernel") and not path.startswith("backbone")}
    assert len(kernels) == 2 * (4 + 2) + (8 + 2) + 1 + 1 + 3
    for path, kernel in kernels.items():
        bound = bound_of(path)
        assert 0.97 * bound < np.abs(kernel).max() <= bound * (1 + 1e-6), path
        assert stats.kstest(kernel.ravel() / bound, stats.uniform(-1, 2).cdf).pvalue > 1e-4, path


def test_biases_start_at_zero_in_attention_and_norms_and_as_in_torch_elsewhere(initial):
    biases = {path: x for path, x in initial.items() if path.endswith("bias")}
    assert len(biases) == 2 * (4 + 2 + 2) + (8 + 2 + 3) + 1 + 1 + 1 + 3
    for path, bias in biases.items():
        if "norm" in path or "attention" in path:
            assert not bias.any(), path
        else:
            assert 0.2 * torch_bound(path) < np.abs(bias).max() <= torch_bound(path), path


def test_queries_start_standard_normal(initial):
    assert stats.kstest(initial["query_embedding"].ravel(), stats.norm.cdf).pvalue > 1e-3


def test_layers_start_apart_from_each_other(initial):
    for path in ("self_attention/query/kernel", "feed_forward/expand/kernel"):
        assert not np.allclose(initial[f"encoder/layer_0/{path}"], initial[f"encoder/layer_1/{path}"])
