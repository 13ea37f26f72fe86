"""Gradients through choices: REINFORCE with a baseline, and the straight-through Gumbel-softmax.

All gradients are of the expected reward, to be climbed; a loss is their negative.
Sources: Williams 1992 (REINFORCE), sections 4 and 6; Bengio et al. 2013 (straight-through); Jang et al. 2017
(Gumbel-softmax), sections 2.1 and 2.2.
"""

import jax
import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Float


def reinforce(
    log_probs: Float[Array, "*batch"], rewards: Float[Array, "*batch"], baselines: Float[Array, "*#batch"] | float = 0.0
) -> Float[Array, "*batch"]:
    """log pi(action) (R - b), whose gradient to the policy is the REINFORCE estimator of each sample.

    No gradient goes to rewards and baselines. The estimator is unbiased for every baseline that does not depend on the
    action. The value itself means nothing.
    """
    return log_probs * lax.stop_gradient(rewards - baselines)


def rewards_to_go(rewards: Float[Array, "*batch glimpses"]) -> Float[Array, "*batch glimpses"]:
    """The sum of each glimpse's reward and those after it: no action can change what came before it."""
    return jnp.flip(jnp.cumsum(jnp.flip(rewards, -1), -1), -1)


def gaussian_log_prob(
    value: Float[Array, "*batch axes"], mean: Float[Array, "*#batch axes"], deviation: float | Float[Array, ""]
) -> Float[Array, "*batch"]:
    """log N(value; mean, deviation^2 I), summed over the axes."""
    z = (value - mean) / deviation
    return -(z**2 / 2 + jnp.log(deviation) + jnp.log(2 * jnp.pi) / 2).sum(-1)


def categorical_log_prob(
    logits: Float[Array, "*#batch actions"], chosen: Float[Array, "*batch actions"]
) -> Float[Array, "*batch"]:
    """log softmax(logits) at the action that is 1 in `chosen`."""
    return (jax.nn.log_softmax(logits) * chosen).sum(-1)


def expected_reward(
    logits: Float[Array, "*batch actions"], rewards: Float[Array, "*batch actions"]
) -> Float[Array, "*batch"]:
    """J = sum over actions of softmax(logits) R. Its gradient is what REINFORCE estimates."""
    return (jax.nn.softmax(logits) * rewards).sum(-1)


def policy_gradient(
    logits: Float[Array, "*batch actions"], rewards: Float[Array, "*batch actions"]
) -> Float[Array, "*batch actions"]:
    """The exact gradient of `expected_reward` to the logits: p (R - J)."""
    return jax.nn.softmax(logits) * (rewards - expected_reward(logits, rewards)[..., None])


def entropy(logits: Float[Array, "*batch actions"]) -> Float[Array, "*batch"]:
    """-sum p log p of softmax(logits), in nats; an action of probability 0 adds 0."""
    logs = jax.nn.log_softmax(logits)
    return -jnp.where(jnp.isneginf(logs), 0, jnp.exp(logs) * logs).sum(-1)


def straight_through_gumbel(
    key: Array, logits: Float[Array, "*batch actions"], temperature: float | Float[Array, ""] = 1.0
) -> Float[Array, "*batch actions"]:
    """A one-hot sample of softmax(logits) with the gradient of softmax((logits + g) / temperature), g of Gumbel(0, 1).

    The sample is exact at every temperature; the gradient is biased, and less so the lower the temperature.
    """
    soft = jax.nn.softmax((logits + jax.random.gumbel(key, logits.shape, logits.dtype)) / temperature)
    return straight_through(soft)


def straight_through(soft: Float[Array, "*batch actions"]) -> Float[Array, "*batch actions"]:
    """One-hot at the largest entry, with the gradient of `soft`."""
    hard = jax.nn.one_hot(soft.argmax(-1), soft.shape[-1], dtype=soft.dtype)
    return hard + (soft - lax.stop_gradient(soft))  # the bracket is exactly 0
