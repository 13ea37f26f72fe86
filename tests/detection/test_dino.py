import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util
from quick import drawn

from vitjax.backbones.resnet import ResNet
from vitjax.detection.denoising import draw_noise
from vitjax.detection.dino import DINO
from vitjax.detection.dino_loss import DINOLoss
from vitjax.detection.matcher import match
from vitjax.structs import Images, Targets

PUBLISHED = {4: (46_893_182, 46_670_782), 5: (47_255_806, 47_033_406)}  # all parameters, and those that train
TINY = DINO(
    backbone=ResNet(depth=18, width=8, stage_blocks=(1, 1)),
    num_classes=3,
    num_queries=5,
    channels=16,
    heads=2,
    encoder_layers=1,
    decoder_layers=2,
    feed_forward=32,
    levels=3,
    backbone_levels=2,
    encoder_points=2,
    decoder_points=2,
    denoising=4,
)
SMALL = TINY.clone(levels=1, backbone_levels=1)
SIZES = [(71, 90), (57, 103), (90, 41)]


def batch_of(sizes):
    """Noise of these sizes, padded to the largest height and width."""
    height, width = np.max(sizes, axis=0)
    pixels, valid = np.zeros((len(sizes), height, width, 3), np.float32), np.zeros((len(sizes), height, width), bool)
    for i, (h, w) in enumerate(sizes):
        pixels[i, :h, :w] = np.random.default_rng(i).normal(size=(h, w, 3))
        valid[i, :h, :w] = True
    return Images(jnp.asarray(pixels), jnp.asarray(valid))


def targets_of(counts, most=3):
    generator = np.random.default_rng(0)
    boxes = generator.uniform(0.2, 0.6, (len(counts), most, 4)).astype(np.float32)
    labels = generator.integers(0, 3, (len(counts), most)).astype(np.int32)
    return Targets(jnp.asarray(boxes), jnp.asarray(labels), jnp.arange(most) < jnp.array(counts)[:, None])


PAIR, TARGETS = batch_of([(64, 64), (48, 64)]), targets_of((2, 1))


def shapes_of(model, height=64, width=64):
    images = Images(jnp.zeros((1, height, width, 3)), jnp.ones((1, height, width), bool))
    return jax.eval_shape(lambda: model.init(jax.random.key(0), images, train=False))


@functools.cache
def variables_of(model):
    return drawn(shapes_of(model))


@functools.cache
def compiled(model, train):
    return jax.jit(functools.partial(model.apply, train=train, mutable=["intermediates"]))


def run(model, images, *, train=False, **given):
    """Predictions, and what is sown."""
    predictions, state = jax.device_get(compiled(model, train)(variables_of(model), images, **given))
    return predictions, state["intermediates"]


def noise_of(model, seed=0, targets=TARGETS):
    slots = 2 * max(model.denoising, targets.labels.shape[1])
    return draw_noise(jax.random.key(seed), (len(targets.labels), slots), model.num_classes)


def count(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize("levels", PUBLISHED)
def test_there_are_as_many_parameters_as_published(levels):
    params = shapes_of(DINO(num_classes=91, levels=levels, backbone_levels=levels - 1))["params"]
    frozen = [params["backbone"][part] for part in ("stem_conv", "stage_1")]
    assert (count(params), count(params) - count(frozen)) == PUBLISHED[levels]


def test_shapes_are_those_of_the_paper():
    model = DINO(num_classes=91, encoder_layers=1, decoder_layers=2)
    images = Images(jnp.zeros((2, 640, 800, 3)), jnp.ones((2, 640, 800), bool))
    targets = targets_of((2, 1), most=93)

    def train(variables):
        return model.apply(variables, images, train=True, targets=targets, rngs={"noise": jax.random.key(0)})

    sets = jax.eval_shape(train, shapes_of(model)).sets
    assert {name: one.logits.shape for name, one in sets.items()} == {
        "decoder": (2, 2, 900, 91),
        "denoising": (2, 2, 200, 91),
        "proposal": (1, 2, 900, 91),
    }


@pytest.mark.parametrize("fields", [{}, {"num_queries": 200}], ids=["few queries", "few tokens"])
def test_a_padded_image_gives_what_it_gives_alone(fields):
    model, images = TINY.clone(**fields), batch_of(SIZES)
    together, _ = run(model, images)
    for i, (height, width) in enumerate(SIZES):
        image = Images(images.pixels[i : i + 1, :height, :width], images.valid[i : i + 1, :height, :width])
        alone, _ = run(model, image)
        for name, one in alone.sets.items():
            padded, counts = together.sets[name], one.valid[:, 0]
            np.testing.assert_array_equal(padded.valid[:, i], counts)
            np.testing.assert_allclose(padded.logits[:, i][counts], one.logits[:, 0][counts], rtol=0, atol=1e-4)
            np.testing.assert_allclose(padded.boxes[:, i][counts], one.boxes[:, 0][counts], rtol=0, atol=1e-4)
            assert (together.logits[~together.valid] < -10).all()


def test_queries_without_a_token_are_not_valid_in_either_padding():
    tokens = 9 * 10 + 5 * 5 + 3 * 3
    for padding in ("exact", "reference"):
        model = TINY.clone(num_queries=200, padding=padding)
        found, _ = run(model, batch_of([(33, 40)]))
        assert found.logits.shape == (2, 1, 200, 3)
        np.testing.assert_array_equal(found.valid.sum(-1), tokens)


def test_padding_shows_when_it_is_handled_as_in_the_published_code():
    exact, _ = run(TINY, batch_of(SIZES))
    reference, _ = jax.device_get(compiled(TINY.clone(padding="reference"), False)(variables_of(TINY), batch_of(SIZES)))
    assert reference.valid is None
    assert (np.abs(exact.logits - reference.logits).max((0, 2, 3)) > 1e-3).all()


def test_the_tokens_with_the_best_score_of_any_class_become_queries_in_that_order():
    predictions, sown = run(TINY, batch_of(SIZES))
    scores = np.where(sown["tokens_valid"][0], sown["proposals"]["scores"][0], -np.inf)
    np.testing.assert_array_equal(sown["proposals"]["chosen"][0], np.argsort(-scores, axis=1, kind="stable")[:, :5])
    found = predictions.sets["proposal"]
    np.testing.assert_allclose(found.logits[0].max(-1), -np.sort(-scores, axis=1)[:, :5], rtol=1e-5)
    np.testing.assert_allclose(sown["initial_reference"][0], found.boxes[0], atol=1e-6)


def test_in_evaluation_there_is_nothing_of_denoising():
    plain, _ = run(SMALL, PAIR)
    given, _ = run(SMALL, PAIR, targets=TARGETS)
    assert given.sets.keys() == {"decoder", "proposal"}
    jax.tree.map(np.testing.assert_array_equal, plain, given)
    program = jax.jit(functools.partial(SMALL.apply, train=False)).lower(variables_of(SMALL), PAIR, targets=TARGETS)
    assert not any(word in program.as_text() for word in ("rng", "threefry", "random"))


def test_denoising_changes_nothing_of_what_matching_queries_say():
    without, _ = run(SMALL, PAIR, train=True)
    found, _ = run(SMALL, PAIR, train=True, targets=TARGETS, noise=noise_of(SMALL))
    assert found.sets["denoising"].logits.shape == (2, 2, 8, 3)
    for part in ("logits", "boxes", "valid"):
        np.testing.assert_allclose(getattr(found, part), getattr(without, part), atol=1e-5)


def test_a_group_does_not_see_the_noise_of_another():
    one = noise_of(SMALL)
    other = one.replace(part=one.part.at[:, 4:].set(0.9), label=one.label.at[:, 4:].add(1))  # the second group of four
    found, changed = (run(SMALL, PAIR, train=True, targets=TARGETS, noise=x)[0].sets["denoising"] for x in (one, other))
    np.testing.assert_allclose(found.logits[:, :, :4], changed.logits[:, :, :4], atol=1e-5)
    assert (np.abs(found.logits - changed.logits)[:, :, 4:].max((0, 2, 3)) > 1e-3).all()


def test_noise_comes_from_the_key_of_that_name():
    def boxes(seed):
        given = {"targets": TARGETS, "rngs": {"noise": jax.random.key(seed)}}
        return run(SMALL, PAIR, train=True, **given)[0].sets["denoising"].boxes

    np.testing.assert_array_equal(boxes(0), boxes(0))
    assert not np.allclose(boxes(0), boxes(1))


@pytest.fixture(scope="module")
def gradients():
    """From fields of the model: the parameters that the loss of the last decoder layer, or of noise, trains."""

    @functools.cache
    def pull(**fields):
        model, variables = SMALL.clone(**fields), variables_of(SMALL.clone(**fields))
        parts = {name: tree for name, tree in variables["params"].items() if name != "backbone"}

        def values(parts):
            changed = variables | {"params": variables["params"] | parts}
            sets = model.apply(changed, PAIR, train=True, targets=TARGETS, noise=noise_of(model)).sets
            return sets["decoder"].boxes[-1].sum(), sets["denoising"].logits.sum(), sets["proposal"].boxes.sum()

        return jax.jit(lambda parts: jax.jacrev(values)(parts))(parts)

    def trained(which, part, **fields):
        tree = traverse_util.flatten_dict(pull(**fields)[which], sep="/")
        leaves = [np.asarray(leaf) for path, leaf in tree.items() if path.startswith(part)]
        assert leaves and all(np.isfinite(leaf).all() for leaf in leaves)
        return any(leaf.any() for leaf in leaves)

    return trained


def test_the_decoder_does_not_train_what_proposed_its_queries(gradients):
    decoder, _, proposals = range(3)
    for part in ("proposals/projection/", "proposals/box_head/", "proposals/norm/"):
        assert gradients(proposals, part) and not gradients(decoder, part)
    assert gradients(decoder, "query_embedding") and gradients(decoder, "query_position/")
    assert gradients(decoder, "encoder/") and not gradients(proposals, "decoder/")


def test_noise_trains_the_embedding_of_labels_and_nothing_else_does(gradients):
    assert gradients(1, "label_embedding") and not gradients(0, "label_embedding")


def test_without_mixed_selection_the_tokens_are_the_content_and_are_not_trained_by_it(gradients):
    fields = {"mixed_selection": False}
    assert "query_embedding" not in variables_of(SMALL.clone(**fields))["params"]
    assert not gradients(0, "proposals/projection/", **fields) and gradients(0, "encoder/", **fields)


def test_looking_once_changes_no_value_but_the_gradient():
    params = variables_of(SMALL)["params"]

    def boxes(params, twice):
        model = SMALL.clone(look_forward_twice=twice)
        return model.apply(variables_of(SMALL) | {"params": params}, PAIR, train=True).boxes[-1].sum()

    graded = jax.jit(jax.value_and_grad(boxes), static_argnums=1)
    (twice, both), (once, one) = graded(params, True), graded(params, False)
    np.testing.assert_allclose(twice, once, rtol=1e-6)
    assert not np.allclose(both["box_head"]["layer_2"]["bias"], one["box_head"]["layer_2"]["bias"], rtol=1e-2)


def test_the_loss_of_all_sets_is_finite_whatever_there_is_to_be_found():
    model, loss = SMALL, DINOLoss()

    @jax.jit
    @jax.value_and_grad
    def total(variables, targets, noise):
        predictions = model.apply(variables, PAIR, train=True, targets=targets, noise=noise)
        return loss.total(loss(predictions, targets, match(loss.cost, predictions, targets)))

    for counts in ((0, 0), (3, 0), (3, 3)):
        targets = targets_of(counts)
        value, gradient = total(variables_of(model), targets, noise_of(model, targets=targets))
        assert np.isfinite(value) and all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))


def test_activations_computed_anew_change_neither_outputs_nor_gradients():
    variables = variables_of(SMALL)

    def outputs(parts, remat):
        changed = variables | {"params": variables["params"] | parts}
        found = SMALL.clone(remat=remat).apply(changed, PAIR, train=True, targets=TARGETS, noise=noise_of(SMALL))
        return sum((one.logits**2).sum() + one.boxes.sum() for one in found.sets.values())

    parts = {name: variables["params"][name] for name in ("encoder", "decoder")}
    graded = jax.jit(jax.value_and_grad(outputs), static_argnums=1)
    plain, again = (graded(parts, remat) for remat in (False, True))
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-4), again, plain)


def test_bfloat16_predicts_in_float32_and_stays_close():
    half = SMALL.clone(dtype="bfloat16")
    found, state = compiled(half, True)(variables_of(SMALL), PAIR, targets=TARGETS, noise=noise_of(SMALL))
    wanted, _ = run(SMALL, PAIR, train=True, targets=TARGETS, noise=noise_of(SMALL))
    sown = state["intermediates"]
    assert sown["memory"][0].dtype == sown["queries"][0].dtype == jnp.bfloat16
    assert sown["initial_reference"][0].dtype == sown["decoder"]["references"][0].dtype == np.float32
    for name, one in found.sets.items():
        assert one.logits.dtype == one.boxes.dtype == np.float32
        np.testing.assert_allclose(one.boxes, wanted.sets[name].boxes, atol=0.05)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"num_classes": None}, "DINO needs num_classes; got None"),
        ({"num_queries": None}, "DINO needs num_queries; got None"),
        ({"labels": 2}, "labels must be at least num_classes=3, or None; got 2"),
        ({"num_queries": 0}, "num_queries must be at least 1; got 0"),
        ({"denoising": -1}, "denoising must be at least 0; got -1"),
        ({"denoising_groups": 0}, "denoising_groups must be at least 1; got 0"),
        ({"denoising_images": 0}, "denoising_images must be at least 1; got 0"),
        ({"box_noise": -0.1}, "box_noise must be at least 0; got -0.1"),
        ({"levels": 1}, "backbone_levels must be 1 to levels=1; got 2"),
        ({"levels": 4, "backbone_levels": 3}, "the backbone gives 2 maps; backbone_levels=3"),
    ],
    ids=str,
)
def test_fields_that_mean_nothing_are_refused_with_the_way_out(fields, words):
    with pytest.raises(ValueError, match=words):
        shapes_of(TINY.clone(**fields))
