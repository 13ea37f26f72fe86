"""The loss of a classifier that learns where to look: cross entropy, REINFORCE and the regression of its baseline."""

import dataclasses
import math
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Float

from vitjax.classification.recurrent_attention import Glimpsed
from vitjax.errors import FieldError
from vitjax.ops.policy_gradient import reinforce, rewards_to_go
from vitjax.structs import ClassTargets, Mean, Terms


@dataclasses.dataclass(frozen=True)
class PolicyLoss:
    """Cross entropy after every glimpse, and for choices that are rewarded -log pi (R - b) and (R - b)^2.

    R is the mean reward of a glimpse and those after it: every glimpse earns, where RAM rewards the last one alone, so
    that early choices learn sooner. Each choice climbs the expectation of its own R, of which its term is an unbiased
    gradient. Source: Mnih et al. 2014, section 3.1, equations 2 and 3, with this reward.
    """

    task: ClassVar[str] = "classification"
    scores: ClassVar[str] = "classes"

    smoothing: float = 0.0
    """Share of the target's probability that goes to all classes alike."""
    reward: Literal["correct", "log_probability"] = "correct"
    """What a glimpse earns: 1 if the class is right after it, or the log of its probability against that of a guess
    (Ba et al. 2015)."""
    reinforce: float = 1.0
    """Weight of the policy's term."""
    baseline: float = 1.0
    """Weight of the baseline's squared error."""

    def __post_init__(self) -> None:
        """Raises a FieldError for a smoothing that is no share, or a weight below 0."""
        if not 0 <= self.smoothing < 1:
            raise FieldError(f"smoothing is a share of 1, at least 0 and below 1; got {self.smoothing}.")
        for name in ("reinforce", "baseline"):
            if getattr(self, name) < 0:
                raise FieldError(f"{name} is a weight of the loss, at least 0; got {getattr(self, name)}.")

    @jax.named_scope("loss")
    def __call__(self, answer: Glimpsed, targets: ClassTargets) -> Terms:
        """Sums over the valid images with an entry for every glimpse; `reward` and `class_error` are for the log."""
        logs = jax.nn.log_softmax(answer.logits.astype(jnp.float32))
        wanted = targets.probabilities * (1 - self.smoothing) + self.smoothing / logs.shape[-1]
        right = logs.argmax(-1) == targets.probabilities.argmax(-1)[:, None]
        terms = {"cross_entropy": -(wanted[:, None] * logs).sum(-1), "class_error": 100.0 * ~right}
        if answer.log_probs is not None and answer.baselines is not None:
            # Counted from a guess among all classes, where a baseline starts: a constant moves no optimum.
            gained = (targets.probabilities[:, None] * logs).sum(-1) + math.log(logs.shape[-1])
            reward = right.astype(jnp.float32) if self.reward == "correct" else lax.stop_gradient(gained)
            left = jnp.arange(reward.shape[1], 0, -1)
            returns = rewards_to_go(reward) / left
            terms["policy"] = -reinforce(answer.log_probs, returns, answer.baselines)
            terms["baseline"] = (answer.baselines - returns) ** 2
            terms["reward"] = reward
        count = targets.valid.sum(dtype=jnp.float32)
        return {
            name: Mean(jnp.where(targets.valid[:, None], value, 0).sum(0), jnp.full(value.shape[1], count))
            for name, value in terms.items()
        }

    def total(self, terms: Terms) -> Float[Array, ""]:
        """The weighted means over images and glimpses; 0 for a batch without a valid image."""
        weights = {"cross_entropy": 1.0, "policy": self.reinforce, "baseline": self.baseline}
        means = {name: (mean.total / jnp.maximum(mean.count, 1)).mean() for name, mean in terms.items()}
        return jnp.asarray(sum(weight * means[name] for name, weight in weights.items() if name in means))
