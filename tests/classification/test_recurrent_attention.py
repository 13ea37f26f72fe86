import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from quick import drawn

from vitjax.classification.policy_loss import PolicyLoss
from vitjax.classification.recurrent_attention import RecurrentAttention
from vitjax.structs import ClassTargets, Images

MODEL = RecurrentAttention(num_classes=3, glimpses=2, glimpse_size=8, scales=1, overview=4, channels=8)
IMAGES = Images(
    jnp.asarray(np.random.default_rng(0).normal(size=(2, 16, 16, 3)), jnp.float32), jnp.ones((2, 16, 16), bool)
)
TARGETS = ClassTargets(jax.nn.one_hot(jnp.array([0, 2]), 3), jnp.ones(2, bool))


@functools.cache
def variables(model):
    shapes = jax.eval_shape(functools.partial(model.init, train=False), jax.random.key(0), IMAGES)
    return drawn({"params": shapes["params"]})


@functools.partial(jax.jit, static_argnums=0, static_argnames="train")
def run(model, variables, images, key=None, *, train=False):
    rngs = None if key is None else {"dropout": key}
    answer, kept = model.apply(variables, images, train=train, rngs=rngs, mutable=["intermediates"])
    return answer, kept["intermediates"]["locations"][0]


def test_evaluation_looks_at_the_means_without_random_numbers_and_sees_no_padding():
    logits, locations = run(MODEL, variables(MODEL), IMAGES)
    assert logits.shape == (2, 3) and logits.dtype == jnp.float32
    assert locations.shape == (2, 2, 2) and locations.min() >= 0 and locations.max() <= 1
    frame = ((0, 0), (0, 4), (0, 8))
    framed = Images(jnp.pad(IMAGES.pixels, (*frame, (0, 0))), jnp.pad(IMAGES.valid, frame))
    for found, wanted in zip(run(MODEL, variables(MODEL), framed), (logits, locations), strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-4)


def test_in_training_places_are_drawn_around_the_means():
    first = run(MODEL, variables(MODEL), IMAGES)[1][:, 0]
    run_at = functools.partial(run, MODEL, variables(MODEL), IMAGES, train=True)
    answer, locations = run_at(jax.random.key(0))
    assert answer.logits.shape == (2, 2, 3) and answer.log_probs.shape == answer.baselines.shape == (2, 2)
    again, other = run_at(jax.random.key(0)), run_at(jax.random.key(1))
    assert all(np.array_equal(*pair) for pair in zip(*map(jax.tree.leaves, (again[0], answer)), strict=True))
    assert not np.array_equal(locations, other[1]) and not np.array_equal(answer.logits, other[0].logits)
    assert 0 < np.abs(locations[:, 0] - first).max() < 5 * MODEL.deviation


def test_with_central_glimpses_the_overview_tells_nothing_about_the_class():
    still = MODEL.clone(policy="central")
    own = variables(still)
    changed = jax.tree_util.tree_map_with_path(lambda path, x: x + (path[1].key in ("coarse_view", "start")), own)
    logits, locations = run(still, own, IMAGES)
    assert np.array_equal(run(still, changed, IMAGES)[0], logits) and np.all(locations == 0.5)


def test_random_glimpses_are_the_same_for_all_images_of_an_evaluation():
    anywhere = MODEL.clone(policy="random", glimpses=1)
    locations = run(anywhere, variables(anywhere), IMAGES)[1]
    assert np.all(locations[0] == locations[1])


@pytest.mark.parametrize(("policy", "dtype"), [("reinforce", "bfloat16"), ("gumbel", "float32")])
def test_gradients_reach_the_policy_and_are_finite(policy, dtype):
    model, loss = MODEL.clone(policy=policy, dtype=dtype), PolicyLoss()

    @jax.jit
    @jax.grad
    def gradient(params):
        answer = model.apply({"params": params}, IMAGES, train=True, rngs={"dropout": jax.random.key(0)})
        assert answer.logits.dtype == jnp.float32 and (answer.log_probs is None) == (policy == "gumbel")
        return loss.total(loss(answer, TARGETS))

    found = gradient(variables(model)["params"])
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(found))
    for part in ("policy", "coarse_view", "glimpse", "head"):
        assert max(np.abs(leaf).max() for leaf in jax.tree.leaves(found[part])) > 0, part


def test_without_classes_it_says_so():
    with pytest.raises(ValueError, match="RecurrentAttention needs num_classes; got None"):
        MODEL.clone(num_classes=None).init(jax.random.key(0), IMAGES, train=False)
