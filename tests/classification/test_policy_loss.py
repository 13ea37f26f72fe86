import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vitjax.classification.loss import CrossEntropy
from vitjax.classification.policy_loss import PolicyLoss
from vitjax.classification.recurrent_attention import Glimpsed
from vitjax.structs import ClassTargets

GENERATOR = np.random.default_rng(0)
LOGITS = jnp.asarray(GENERATOR.normal(size=(3, 2, 4)), jnp.float32)
LOG_PROBS, BASELINES = jnp.asarray(GENERATOR.normal(size=(2, 3, 2)), jnp.float32)
LABELS = np.array([1, 3, 0])
TARGETS = ClassTargets(jax.nn.one_hot(LABELS, 4), jnp.array([True, True, False]))
RIGHT = (np.asarray(LOGITS).argmax(-1) == LABELS[:, None])[:2]
RETURNS = {"correct": np.stack([RIGHT.mean(1), RIGHT[:, 1]], 1)}
GAINS = np.asarray(jax.nn.log_softmax(LOGITS))[[[0], [1]], [[0, 1]], LABELS[:2, None]] + np.log(4)
RETURNS["log_probability"] = np.stack([GAINS.mean(1), GAINS[:, 1]], 1)


def test_every_glimpse_has_the_cross_entropy_of_its_logits():
    terms = PolicyLoss(smoothing=0.1)(Glimpsed(LOGITS, None, None), TARGETS)
    assert terms.keys() == {"cross_entropy", "class_error"}
    for glimpse in range(2):
        wanted = CrossEntropy(0.1)(LOGITS[:, glimpse], TARGETS)
        for name, mean in terms.items():
            np.testing.assert_allclose(mean.value[glimpse], wanted[name].value[0], rtol=1e-5)
    np.testing.assert_allclose(PolicyLoss().total(terms), terms["cross_entropy"].value.mean(), rtol=1e-6)


@pytest.mark.parametrize("reward", ["correct", "log_probability"])
def test_a_choice_is_rewarded_for_its_glimpse_and_those_after_it(reward):
    loss, off = PolicyLoss(reward=reward, reinforce=0.5, baseline=2.0), RETURNS[reward] - np.asarray(BASELINES)[:2]

    @jax.jit
    @functools.partial(jax.value_and_grad, argnums=(0, 1, 2))
    def total(*answer):
        return loss.total(loss(Glimpsed(*answer), TARGETS))

    value, by_part = total(LOGITS, LOG_PROBS, BASELINES)
    gradient = dict(zip(("logits", "log_probs", "baselines"), by_part, strict=True))
    entropy = loss(Glimpsed(LOGITS, None, None), TARGETS)["cross_entropy"].value.mean()
    wanted = entropy + (-0.5 * np.asarray(LOG_PROBS)[:2] * off + 2.0 * off**2).mean()
    np.testing.assert_allclose(value, wanted, rtol=1e-5)
    np.testing.assert_allclose(gradient["log_probs"], np.pad(-0.5 * off / 4, ((0, 1), (0, 0))), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(gradient["baselines"], np.pad(-4.0 * off / 4, ((0, 1), (0, 0))), rtol=1e-4, atol=1e-6)
    plain = jax.grad(lambda logits: loss(Glimpsed(logits, None, None), TARGETS)["cross_entropy"].value.mean())(LOGITS)
    np.testing.assert_allclose(gradient["logits"], plain, atol=1e-6)  # a reward is no way to be paid for better logits


def test_over_all_choices_each_climbs_the_expectation_of_its_own_reward():
    """Two glimpses of three places each, all nine ways to look counted: the mean gradient is the exact one."""
    first, second = jnp.asarray(GENERATOR.normal(size=3)), jnp.asarray(GENERATOR.normal(size=(3, 3)))
    ways = np.array([(a, b) for a in range(3) for b in range(3)])
    logits = jnp.asarray(GENERATOR.normal(size=(9, 2, 4)), jnp.float32)
    logits = logits.at[:, 0].set(logits[::3, 0].repeat(3, 0))  # after the first glimpse the second is not known
    reward = np.asarray(logits.argmax(-1) == 1, float)
    target = ClassTargets(jax.nn.one_hot(jnp.array([1]), 4), jnp.array([True]))

    def log_probs(first, second):
        return jnp.stack([jax.nn.log_softmax(first)[ways[:, 0]], jax.nn.log_softmax(second)[ways[:, 0], ways[:, 1]]], 1)

    chance = np.exp(log_probs(first, second).sum(1))

    def estimate(first, second, baselines):
        """The policy's term summed over all ways by their chances, negative as what is climbed is."""
        of_way = jax.vmap(
            lambda *answer: PolicyLoss()(Glimpsed(*(part[None] for part in answer)), target)["policy"].total
        )
        return -(of_way(logits, log_probs(first, second), baselines).sum(1) * chance).sum()

    def of_first(first):
        """The expected mean of both rewards, as the first choice sees it."""
        return (
            jax.nn.softmax(first)[ways[:, 0]] * jax.nn.softmax(second)[ways[:, 0], ways[:, 1]] * reward.mean(1)
        ).sum()

    def of_second(second):
        """The expected reward of the second glimpse."""
        return (jax.nn.softmax(first)[ways[:, 0]] * jax.nn.softmax(second)[ways[:, 0], ways[:, 1]] * reward[:, 1]).sum()

    baselines = jnp.stack([jnp.full(9, 0.4), jnp.asarray([0.1, 0.7, 0.3])[ways[:, 0]]], 1)  # known before the choice
    found = jax.jit(jax.grad(estimate, argnums=(0, 1)))(first, second, baselines)
    np.testing.assert_allclose(found[0], jax.grad(of_first)(first), atol=1e-6)
    np.testing.assert_allclose(found[1], jax.grad(of_second)(second), atol=1e-6)


def test_a_batch_without_a_valid_image_costs_nothing():
    loss = PolicyLoss()
    assert loss.total(loss(Glimpsed(LOGITS, LOG_PROBS, BASELINES), TARGETS.replace(valid=jnp.zeros(3, bool)))) == 0


@pytest.mark.parametrize(("field", "value"), [("smoothing", 1.0), ("reinforce", -1.0), ("baseline", -0.5)])
def test_numbers_that_mean_nothing_are_refused(field, value):
    with pytest.raises(ValueError, match=f"{field} is .*; got {value}"):
        PolicyLoss(**{field: value})
