"""Runner of the hard attention cases: exact gradients and the moments of their estimators, by counting all actions.

The toys are small and their tolerances tight, so all is computed in float64.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from vitjax.ops.policy_gradient import (
    entropy,
    expected_reward,
    gaussian_log_prob,
    policy_gradient,
)

from .comparison import Results
from .golden import Case, GoldenError

Values = dict[str, jax.Array]


def run_policy(case: Case) -> Results:
    """What a case's inputs ask for: a bandit, two glimpses, a linear policy, a classifier's reward, or a Gaussian.

    Raises: GoldenError where the inputs are those of none.
    """
    with jax.enable_x64(True):
        inputs = {name: jnp.asarray(value, jnp.float64) for name, value in case.inputs().items()}
        runner = _TOYS.get(frozenset(inputs))
        if runner is None:
            raise GoldenError(f"{case.id}: no toy has the inputs {sorted(inputs)}")
        actions = case.settings.get("config", {}).get("K")
        wrong = {name: x.shape for name, x in inputs.items() if name in _BY_ACTION and x.shape[-1] != actions}
        if actions is not None and wrong:
            raise GoldenError(f"{case.id}: there are {actions} actions, and these have others: {wrong}")
        if "label" in case.settings:
            inputs["label"] = case.settings["label"]
        found = runner(**inputs)
        return Results({name: np.asarray(value, np.float64) for name, value in found.items()})


def optimal_baseline(probabilities: jax.Array, scores: jax.Array, rewards: jax.Array) -> jax.Array:
    """The one baseline of least total variance, E[|s|^2 R] / E[|s|^2], with scores s = d log pi / d parameters."""
    weights = probabilities * (scores**2).sum(-1)
    return (weights * rewards).sum() / weights.sum()


def estimator_moments(
    probabilities: jax.Array, scores: jax.Array, rewards: jax.Array, baseline: float | jax.Array = 0.0
) -> tuple[jax.Array, jax.Array]:
    """Mean and variance, parameter by parameter, of one sample's estimate s (R - b), by counting all actions."""
    estimates = scores * (rewards - baseline)[:, None]
    mean = probabilities @ estimates
    return mean, probabilities @ (estimates - mean) ** 2


def _bandit(logits: jax.Array, rewards: jax.Array) -> Values:
    probabilities = jax.nn.softmax(logits)
    scores = jax.jacobian(jax.nn.log_softmax)(logits)
    total = expected_reward(logits, rewards)
    best = optimal_baseline(probabilities, scores, rewards)
    found = {
        "probs": probabilities,
        "grad_log_prob": scores,
        "expected_reward": total[None],
        "grad_logits": policy_gradient(logits, rewards),
        "baseline_mean": total[None],
        "baseline_optimal": best[None],
        "entropy": entropy(logits)[None],
        "grad_entropy": jax.grad(entropy)(logits),
    }
    for name, baseline in (("none", 0.0), ("mean", total), ("optimal", best)):
        found[f"mean_{name}"], found[f"var_{name}"] = estimator_moments(probabilities, scores, rewards, baseline)
    return found


def _two_glimpses(logits1: jax.Array, logits2: jax.Array, rewards: jax.Array) -> Values:
    def logs(first: jax.Array, second: jax.Array) -> jax.Array:
        return (jax.nn.log_softmax(first)[:, None] + jax.nn.log_softmax(second)).ravel()

    def total(first: jax.Array, second: jax.Array) -> jax.Array:
        return expected_reward(first, expected_reward(second, rewards))

    probabilities = jnp.exp(logs(logits1, logits2))
    gradients = jax.grad(total, argnums=(0, 1))(logits1, logits2)
    found = {
        "trajectory_probs": probabilities.reshape(rewards.shape),
        "expected_reward": total(logits1, logits2)[None],
        "value_after_first": expected_reward(logits2, rewards),
    }
    jacobians = jax.jacobian(logs, argnums=(0, 1))(logits1, logits2)
    for i, (scores, gradient) in enumerate(zip(jacobians, gradients, strict=True), start=1):
        found[f"grad_logits{i}"] = gradient
        scores = scores.reshape(probabilities.size, -1)
        for name, baseline in (("none", 0.0), ("mean", total(logits1, logits2))):
            moments = estimator_moments(probabilities, scores, rewards.ravel(), baseline)
            for kind, value in zip(("mean", "var"), moments, strict=True):
                found[f"{kind}_{name}_logits{i}"] = value.reshape(gradient.shape)
    return found


def _linear(x: jax.Array, weight: jax.Array, bias: jax.Array, rewards: jax.Array) -> Values:
    def total(x: jax.Array, weight: jax.Array, bias: jax.Array) -> jax.Array:
        return expected_reward(x @ weight + bias, rewards).mean()

    gradients = jax.grad(total, argnums=(0, 1, 2))(x, weight, bias)
    probabilities = jax.nn.softmax(x @ weight + bias)

    def variance(row: jax.Array, probabilities: jax.Array, rewards: jax.Array) -> jax.Array:
        scores = jax.jacobian(lambda weight: jax.nn.log_softmax(row @ weight + bias))(weight)
        return estimator_moments(probabilities, scores.reshape(len(rewards), -1), rewards)[1].reshape(weight.shape)

    return {
        "probs": probabilities,
        "expected_reward_mean": total(x, weight, bias)[None],
        "grad_x": gradients[0],
        "grad_weight": gradients[1],
        "grad_bias": gradients[2],
        "var_none_weight": jax.vmap(variance)(x, probabilities, rewards).sum(0) / len(x) ** 2,
    }


def _classification(logits: jax.Array, class_logits: jax.Array, label: int) -> Values:
    def total(logits: jax.Array, class_logits: jax.Array) -> jax.Array:
        return expected_reward(logits, jax.nn.log_softmax(class_logits)[:, label])

    rewards = jax.nn.log_softmax(class_logits)[:, label]
    by_policy, by_class = jax.grad(total, argnums=(0, 1))(logits, class_logits)
    return {
        "probs": jax.nn.softmax(logits),
        "rewards": rewards,
        "expected_reward": total(logits, class_logits)[None],
        "grad_logits": by_policy,
        "grad_class_logits": by_class,
        "log_marginal": jax.nn.logsumexp(jax.nn.log_softmax(logits) + rewards)[None],
    }


def _gaussian(mu: jax.Array, target: jax.Array, A: jax.Array, sigma: jax.Array) -> Values:
    """The policy's normal distribution at the nodes of Gauss and Hermite, which are exact for polynomials."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(12)
    grid, shares = (
        jnp.stack(jnp.meshgrid(*[values] * mu.size, indexing="ij"), -1).reshape(-1, mu.size)
        for values in (nodes, weights / weights.sum())
    )
    probabilities = shares.prod(-1)

    def reward(mu: jax.Array) -> jax.Array:
        off = mu + sigma * grid - target
        return -jnp.einsum("ni,ij,nj->n", off, A, off)

    places = mu + sigma * grid
    scores = jax.jacobian(lambda mu: gaussian_log_prob(places, mu, sigma[0]))(mu)
    mean, variance = estimator_moments(probabilities, scores, reward(mu))
    return {"expected_reward": (probabilities @ reward(mu))[None], "grad_mu": mean, "var_none": variance}


_BY_ACTION = {"logits", "logits1", "logits2", "bias"}  # inputs whose last axis is the actions
_TOYS: dict[frozenset[str], Callable[..., Values]] = {
    frozenset({"logits", "rewards"}): _bandit,
    frozenset({"logits1", "logits2", "rewards"}): _two_glimpses,
    frozenset({"x", "weight", "bias", "rewards"}): _linear,
    frozenset({"logits", "class_logits"}): _classification,
    frozenset({"mu", "target", "A", "sigma"}): _gaussian,
}
