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
from vitjax.detection.deformable_detr import DeformableDETR
from vitjax.structs import Images

PUBLISHED = {  # fields, and how many parameters train by the published code
    "single scale": ({"levels": 1, "backbone_levels": 1}, 33_844_193),
    "single scale dc5": (
        {"levels": 1, "backbone_levels": 1, "backbone": ResNet(depth=50, dilation=True)},
        33_844_193,
    ),
    "multi-scale": ({}, 39_847_265),
    "refine": ({"refine": True}, 40_627_260),
    "two-stage": ({"refine": True, "two_stage": True}, 40_959_129),
}
TINY = DeformableDETR(
    backbone=ResNet(depth=18, width=8, stage_blocks=(1, 1)),
    num_classes=3,
    num_queries=5,
    channels=16,
    heads=2,
    encoder_layers=1,
    decoder_layers=1,
    feed_forward=32,
    dropout=0.0,
    levels=3,
    backbone_levels=2,
    encoder_points=2,
    decoder_points=2,
)
REFINE = {"decoder_layers": 2, "refine": True}
TWO_STAGE = {"refine": True, "two_stage": True}
SIZES = [(71, 90), (57, 103), (90, 41)]


def batch_of(sizes):
    """Noise of these sizes, padded to the largest height and width."""
    height, width = np.max(sizes, axis=0)
    pixels, valid = np.zeros((len(sizes), height, width, 3), np.float32), np.zeros((len(sizes), height, width), bool)
    for i, (h, w) in enumerate(sizes):
        pixels[i, :h, :w] = np.random.default_rng(i).normal(size=(h, w, 3))
        valid[i, :h, :w] = True
    return Images(jnp.asarray(pixels), jnp.asarray(valid))


@functools.cache
def compiled(model, train=False):
    return jax.jit(functools.partial(model.apply, train=train, mutable=["intermediates"]))


def run(model, variables, images):
    """Predictions, and what is sown."""
    predictions, state = jax.device_get(compiled(model)(variables, images))
    return predictions, state["intermediates"]


def shapes_of(model, height=64, width=64):
    images = Images(jnp.zeros((1, height, width, 3)), jnp.ones((1, height, width), bool))
    return jax.eval_shape(lambda: model.init(jax.random.key(0), images, train=False))


@functools.cache
def variables_of(model):
    return drawn(shapes_of(model))


def count(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize("name", PUBLISHED)
def test_as_many_parameters_train_as_published(name):
    fields, wanted = PUBLISHED[name]
    params = shapes_of(DeformableDETR(num_classes=91, **fields))["params"]
    frozen = [params["backbone"][part] for part in ("stem_conv", "stage_1")]
    assert count(params) - count(frozen) == wanted


def test_shapes_are_those_of_the_paper():
    model = DeformableDETR(num_classes=91, encoder_layers=1, decoder_layers=2, refine=True, two_stage=True)
    images = Images(jnp.zeros((2, 640, 800, 3)), jnp.ones((2, 640, 800), bool))
    predictions, state = jax.eval_shape(
        lambda variables: model.apply(variables, images, train=False, mutable=["intermediates"]), shapes_of(model)
    )
    tokens = 80 * 100 + 40 * 50 + 20 * 25 + 10 * 13
    assert predictions.logits.shape == (2, 2, 300, 91) and predictions.boxes.shape == (2, 2, 300, 4)
    assert predictions.sets["proposal"].logits.shape == (1, 2, tokens, 91)
    assert predictions.sets["proposal"].boxes.shape == (1, 2, tokens, 4)
    sown = state["intermediates"]
    assert sown["memory"][0].shape == sown["encoder_input"][0].shape == (2, tokens, 256)
    assert sown["initial_reference"][0].shape == (2, 300, 4)
    assert [reference.shape for reference in sown["decoder"]["references"]] == [(2, 300, 4)] * 2


FEW_TOKENS = {**TWO_STAGE, "num_queries": 200}


@pytest.mark.parametrize("fields", [{}, TWO_STAGE, FEW_TOKENS], ids=["multi-scale", "two-stage", "few tokens"])
def test_a_padded_image_gives_what_it_gives_alone(fields):
    model = TINY.clone(**fields)
    variables, images = variables_of(model), batch_of(SIZES)
    together, _ = run(model, variables, images)
    for i, (height, width) in enumerate(SIZES):
        image = Images(images.pixels[i : i + 1, :height, :width], images.valid[i : i + 1, :height, :width])
        alone, _ = run(model, variables, image)
        queries = alone.logits.shape[2]
        np.testing.assert_allclose(together.logits[:, i, :queries], alone.logits[:, 0], rtol=0, atol=1e-4)
        np.testing.assert_allclose(together.boxes[:, i, :queries], alone.boxes[:, 0], rtol=0, atol=1e-4)
        if "proposal" in together.sets:
            np.testing.assert_array_equal(together.valid[:, i].sum(-1), queries)
            assert (np.asarray(together.logits)[:, i, queries:] < -10).all()
            counts = together.sets["proposal"].valid[0, i]
            for part in ("logits", "boxes"):
                padded, whole = (getattr(found.sets["proposal"], part)[0] for found in (together, alone))
                np.testing.assert_allclose(padded[i, counts], whole[0], rtol=0, atol=1e-4)


def test_padding_shows_when_it_is_handled_as_in_the_published_code():
    model = TINY.clone(**TWO_STAGE)
    variables, images = variables_of(model), batch_of(SIZES)
    exact, _ = run(model, variables, images)
    reference, _ = run(model.clone(padding="reference"), variables, images)
    assert reference.sets["proposal"].valid is None
    assert (np.abs(exact.logits - reference.logits).max((0, 2, 3)) > 1e-3).all()


def test_no_proposal_of_the_padding_is_chosen():
    model = TINY.clone(**TWO_STAGE)
    predictions, sown = run(model, variables_of(model), batch_of(SIZES))
    proposals = predictions.sets["proposal"]
    np.testing.assert_array_equal(proposals.valid[0], sown["tokens_valid"][0])
    for rank, boxes, counts, chosen in zip(
        proposals.logits[0, ..., 0], proposals.boxes[0], proposals.valid[0], sown["initial_reference"][0], strict=True
    ):
        best = np.argsort(-np.where(counts, rank, -np.inf), kind="stable")[: model.num_queries]
        np.testing.assert_allclose(chosen, boxes[best], atol=1e-6)


def test_more_queries_than_tokens_become_as_many_as_there_are_tokens():
    model = TINY.clone(**TWO_STAGE, num_queries=1000)
    predictions = jax.eval_shape(functools.partial(model.apply, train=False), variables_of(model), batch_of([(33, 40)]))
    tokens = 9 * 10 + 5 * 5 + 3 * 3
    assert predictions.logits.shape == (1, 1, tokens, 3) and predictions.boxes.shape == (1, 1, tokens, 4)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"num_classes": None}, "needs num_classes; got None"),
        ({"num_queries": None}, "needs num_queries; got None"),
        ({"two_stage": True}, "two_stage=True needs refine=True"),
        ({"levels": 1}, "backbone_levels must be 1 to levels=1; got 2"),
        ({"backbone_levels": 0}, "backbone_levels must be 1 to levels=3; got 0"),
        ({"levels": 4, "backbone_levels": 3}, "backbone_levels"),
    ],
    ids=[
        "no classes",
        "no queries",
        "nothing to refine",
        "too few levels",
        "no level",
        "more levels than the backbone has",
    ],
)
def test_fields_that_contradict_each_other_are_refused_with_the_way_out(fields, words):
    with pytest.raises(ValueError, match=words):
        shapes_of(TINY.clone(**fields))


@pytest.fixture(scope="module")
def gradients():
    """Gradients, by parameter path, of the last boxes and of the proposals' boxes of a two-stage model."""
    model, images = TINY.clone(**REFINE, two_stage=True, levels=1, backbone_levels=1), batch_of([(64, 64)])
    variables = variables_of(model)

    parts = {name: tree for name, tree in variables["params"].items() if name != "backbone"}

    @jax.jit
    def pull(parts, last, proposed):
        def boxes(parts):
            predictions = model.apply(variables | {"params": variables["params"] | parts}, images, train=True)
            return predictions.boxes[-1].sum(), predictions.sets["proposal"].boxes.sum()

        return jax.vjp(boxes, parts)[1]((last, proposed))[0]

    def by_path(last, proposed):
        found = pull(parts, jnp.float32(last), jnp.float32(proposed))
        return {path: np.asarray(x) for path, x in traverse_util.flatten_dict(found, sep="/").items()}

    return by_path(1, 0), by_path(0, 1)


def trained(gradients, part):
    leaves = [leaf for path, leaf in gradients.items() if path.startswith(part)]
    assert leaves
    return any(leaf.any() for leaf in leaves)


def test_refined_boxes_train_their_own_head_and_not_those_of_the_layers_before(gradients):
    last, _ = gradients
    assert trained(last, "box_head_1/") and not trained(last, "box_head_0/")
    assert trained(last, "decoder/layer_0/") and trained(last, "encoder/")


def test_decoded_boxes_do_not_train_what_proposed_their_references(gradients):
    last, proposed = gradients
    for part in ("box_head_2/", "proposals/projection/", "proposals/norm/"):
        assert trained(proposed, part) and not trained(last, part)
    assert trained(last, "proposals/query_projection/") and not trained(proposed, "proposals/query_projection/")
    assert trained(proposed, "encoder/") and not trained(proposed, "decoder/")


def test_gradients_are_finite(gradients):
    assert all(np.isfinite(leaf).all() for part in gradients for leaf in part.values())


def test_activations_computed_anew_change_neither_outputs_nor_gradients():
    model = TINY.clone(levels=1, backbone_levels=1, dropout=0.3)
    variables, images = variables_of(model), batch_of([(32, 48)])

    def outputs(parts, model):
        params = variables["params"] | parts
        predictions = model.apply(variables | {"params": params}, images, train=True, rngs={"dropout": key})
        return (predictions.logits**2).sum() + (predictions.boxes**2).sum()

    key, graded = jax.random.key(0), jax.jit(jax.value_and_grad(outputs), static_argnums=1)
    parts = {name: variables["params"][name] for name in ("encoder", "decoder")}
    plain, again = (graded(parts, model.clone(remat=remat)) for remat in (False, True))
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-4), again, plain)


def test_bfloat16_predicts_in_float32_and_stays_close():
    variables, images = variables_of(TINY), batch_of(SIZES[:1])
    found, sown = run(TINY.clone(dtype="bfloat16"), variables, images)
    wanted, _ = run(TINY, variables, images)
    assert found.logits.dtype == found.boxes.dtype == np.float32
    assert sown["memory"][0].dtype == jnp.bfloat16
    attention = sown["decoder"]["layer_0"]["cross_attention"]
    assert attention["locations"][0].dtype == attention["weights"][0].dtype == np.float32
    assert sown["initial_reference"][0].dtype == sown["decoder"]["references"][0].dtype == np.float32
    np.testing.assert_allclose(found.boxes, wanted.boxes, atol=0.05)


def test_references_stay_without_refinement_and_are_the_boxes_before_with_it():
    images = batch_of(SIZES[:1])
    _, sown = run(TINY, variables_of(TINY), images)
    np.testing.assert_array_equal(sown["decoder"]["references"][0], sown["initial_reference"][0])
    refining = TINY.clone(**REFINE)
    predictions, sown = run(refining, variables_of(refining), images)
    np.testing.assert_array_equal(np.stack(sown["decoder"]["references"]), predictions.boxes)


@functools.cache
def initial(**fields):
    """Freshly initialised parameters by path."""
    images = jax.eval_shape(lambda: batch_of([(32, 32)]))
    backbone = ResNet(depth=18, width=8, stage_blocks=(1,))
    model = TINY.clone(backbone=backbone, num_queries=50, levels=2, backbone_levels=1, **fields)
    key = jax.random.key(0, impl="rbg")  # compiles quickly
    params = jax.jit(lambda key: model.lazy_init(key, images, train=False))(key)["params"]
    return {path: np.asarray(leaf) for path, leaf in traverse_util.flatten_dict(params, sep="/").items()}


def test_queries_and_levels_start_standard_normal():
    params = initial()
    for path in ("query_embedding", "level_embedding"):
        assert stats.kstest(params[path].ravel(), stats.norm.cdf).pvalue > 1e-3, path


def test_every_class_starts_with_a_probability_of_a_hundredth():
    params = initial(**TWO_STAGE)
    for path in ("class_head_0/bias", "class_head_1/bias"):
        np.testing.assert_allclose(jax.nn.sigmoid(params[path]), 0.01, rtol=1e-5)


@pytest.mark.parametrize(
    ("fields", "small"),
    [({}, {"box_head"}), (REFINE, {"box_head_0"}), (TWO_STAGE, set())],
    ids=["shared", "refine", "two-stage"],
)
def test_boxes_start_at_their_reference_small_only_where_it_is_a_point(fields, small):
    params = initial(**fields)
    heads = {path.split("/")[0] for path in params if path.startswith("box_head")}
    assert small <= heads and len(heads) == (fields.get("decoder_layers", 1) + fields.get("two_stage", 0))
    for head in heads:
        assert not params[f"{head}/layer_2/kernel"].any() and params[f"{head}/layer_1/kernel"].any()
        wanted = [0, 0, -2, -2] if head in small else [0, 0, 0, 0]
        np.testing.assert_array_equal(params[f"{head}/layer_2/bias"], wanted)


def test_references_of_learned_queries_start_as_xavier_has_it_and_projections_too():
    params = initial()
    kernels = {
        "reference_points": math.sqrt(6 / (16 + 2)),
        "input_projection_0": math.sqrt(6 / (8 + 16)),
        "input_projection_1": math.sqrt(6 / (9 * (8 + 16))),
    }
    for name, bound in kernels.items():
        assert 0.9 * bound < np.abs(params[f"{name}/kernel"]).max() <= bound * (1 + 1e-6), name
        assert not params[f"{name}/bias"].any()
