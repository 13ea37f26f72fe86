import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vitjax.ops.policy_gradient import (
    categorical_log_prob,
    entropy,
    expected_reward,
    gaussian_log_prob,
    policy_gradient,
    reinforce,
    rewards_to_go,
    straight_through_gumbel,
)

LOGITS = jnp.array([0.4, -1.1, 0.9, 0.0])
REWARDS = jnp.array([1.0, 0.0, -0.5, 2.0])
PROBABILITIES = jax.nn.softmax(LOGITS)
SCORES = jnp.eye(4) - PROBABILITIES  # gradients of log softmax, written by hand
BASELINES = {"none": 0.0, "mean": float(PROBABILITIES @ REWARDS), "any": 1.7}
SAMPLES = 20_000


def variance_of(baseline):
    """That of one sample's estimate, logit by logit, by counting all actions."""
    estimates = SCORES * (REWARDS - baseline)[:, None]
    return PROBABILITIES @ (estimates - PROBABILITIES @ estimates) ** 2


@pytest.fixture(scope="module")
def actions():
    return jax.nn.one_hot(jax.random.categorical(jax.random.key(0), LOGITS, shape=(SAMPLES,)), 4)


def test_the_exact_gradient_is_that_of_the_expected_reward():
    exact = jax.grad(expected_reward)(LOGITS, REWARDS)
    np.testing.assert_allclose(policy_gradient(LOGITS, REWARDS), exact, atol=1e-7)


@pytest.mark.parametrize("baseline", BASELINES.values(), ids=BASELINES.keys())
def test_the_mean_of_many_estimates_lies_around_the_exact_gradient(actions, baseline):
    def surrogate(logits):
        return reinforce(categorical_log_prob(logits, actions), actions @ REWARDS, baseline).mean()

    estimate = jax.grad(surrogate)(LOGITS)
    variance = variance_of(baseline)
    error = np.abs(estimate - policy_gradient(LOGITS, REWARDS))
    assert np.all(error <= 4.5 * np.sqrt(variance / SAMPLES))
    assert np.all(4.5 * np.sqrt(variance / SAMPLES) < 0.03)  # narrow enough to mean something


def test_no_gradient_goes_to_rewards_and_baselines():
    gradients = jax.grad(lambda *a: reinforce(*a).sum(), argnums=(0, 1, 2))(*jnp.array([[0.5], [2.0], [0.7]]))
    np.testing.assert_allclose(gradients, [[1.3], [0.0], [0.0]], rtol=1e-6)


def test_a_choice_gets_the_rewards_that_come_after_it():
    assert rewards_to_go(jnp.array([[1.0, 2.0, 4.0], [0.0, 0.0, 1.0]])).tolist() == [[7, 6, 4], [1, 1, 1]]


def test_the_entropy_of_certain_and_of_uniform_policies():
    np.testing.assert_allclose(entropy(jnp.array([[0.0, 0.0], [0.0, -jnp.inf]])), [np.log(2), 0], atol=1e-7)


def test_the_density_of_a_normal_distribution():
    z = np.array([[0.5, -1.0]])
    wanted = np.log(np.exp(-((z / 0.2) ** 2) / 2) / np.sqrt(2 * np.pi) / 0.2).sum(-1)
    np.testing.assert_allclose(gaussian_log_prob(jnp.asarray(z + 3), jnp.full((1, 2), 3.0), 0.2), wanted, rtol=1e-5)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16], ids=["float32", "bfloat16"])
def test_straight_through_is_one_hot_with_the_gradient_of_a_softmax(dtype):
    key, weights = jax.random.key(1), jnp.array([1.0, -2.0, 0.5, 3.0], dtype)
    logits = jnp.broadcast_to(LOGITS.astype(dtype), (3, 4))

    @functools.partial(jax.value_and_grad, has_aux=True)
    def hard(logits):
        chosen = straight_through_gumbel(key, logits, 0.5)
        return (chosen * weights).sum(), chosen

    def soft(logits):
        return (jax.nn.softmax((logits + jax.random.gumbel(key, logits.shape, dtype)) / 0.5) * weights).sum()

    (_, chosen), gradient = jax.jit(hard)(logits)
    assert chosen.dtype == dtype and set(np.unique(np.float32(chosen))) == {0, 1}
    assert np.all(np.float32(chosen).sum(-1) == 1)
    np.testing.assert_allclose(np.float32(gradient), np.float32(jax.grad(soft)(logits)), atol=1e-6, rtol=2e-2)


def test_gumbel_samples_are_drawn_as_the_softmax_says():
    chosen = straight_through_gumbel(jax.random.key(2), jnp.broadcast_to(LOGITS, (SAMPLES, 4)), 3.0)
    deviation = np.sqrt(PROBABILITIES * (1 - PROBABILITIES) / SAMPLES)
    assert np.all(np.abs(chosen.mean(0) - PROBABILITIES) <= 4.5 * deviation)
