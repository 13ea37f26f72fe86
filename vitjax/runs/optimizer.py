"""AdamW as DETR was trained with it: torch's clipping, learning rates by parameter path, frozen parameters left out."""

import dataclasses
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from vitjax.checkpoints.paths import flatten, matches, require_matches, unflatten
from vitjax.errors import FieldError
from vitjax.runs.numbers import AT_LEAST_0, COUNT, COUNT_FROM_1, DECAY, POSITIVE, or_none, require, require_number
from vitjax.structs import PyTree

Rate = Callable[[Any], Array]  # from a step to a scalar; also inside jit


@dataclass(frozen=True)
class StepSchedule:
    """The learning rate falls by `factor` at each of `drop_epochs`.

    Source: DETR main.py:140 (StepLR); the warm-up is that of mmdetection ("linear").
    """

    drop_epochs: tuple[float, ...] = (200,)
    """Epochs, counted from 0, at whose beginning the learning rate falls."""
    factor: float = 0.1
    """What the learning rate is multiplied with at each drop."""
    warmup_steps: int = 0
    """Steps over which the learning rate rises linearly from warmup_start."""
    warmup_start: float = 0.0
    """Multiplier of the learning rate at step 0 of the warm-up."""

    def __post_init__(self) -> None:
        """Raises a FieldError for a number that means nothing."""
        require(self, {"factor": AT_LEAST_0, "warmup_steps": COUNT, "warmup_start": AT_LEAST_0})
        for epoch in self.drop_epochs:
            require_number("drop_epochs", epoch, AT_LEAST_0)

    def drops(self, steps_per_epoch: int) -> tuple[int, ...]:
        """The steps at whose beginning the learning rate falls, which are those nearest to the epochs."""
        return tuple(round(epoch * steps_per_epoch) for epoch in self.drop_epochs)

    def scale(self, total_steps: int, steps_per_epoch: int) -> Rate:
        """Multiplier of the base learning rate by step."""
        drops = jnp.asarray(self.drops(steps_per_epoch), jnp.int32)

        def multiplier(step: Any) -> Array:
            passed = jnp.sum(step >= drops)
            return _warmup(step, self.warmup_steps, self.warmup_start) * jnp.float32(self.factor) ** passed

        return multiplier


@dataclass(frozen=True)
class CosineSchedule:
    """The learning rate falls along half a cosine from 1 at step 0 to `final` at the last step.

    The warm-up replaces the beginning of the cosine and does not shift it, hence a small step down where it ends.

    Source: timm CosineLRScheduler as CrossFormer calls it (lr_scheduler.py, t_in_epochs=False, no warmup_prefix).
    """

    warmup_steps: int = 0
    """Steps over which the learning rate rises linearly from warmup_start."""
    warmup_epochs: float = 0.0
    """Epochs of the same, in addition to warmup_steps."""
    warmup_start: float = 0.0
    """Multiplier of the learning rate at step 0 of the warm-up."""
    final: float = 0.0
    """Multiplier of the learning rate at the end."""

    def __post_init__(self) -> None:
        """Raises a FieldError for a number that means nothing."""
        wishes = dict.fromkeys(("warmup_epochs", "warmup_start", "final"), AT_LEAST_0)
        require(self, {"warmup_steps": COUNT, **wishes})

    def drops(self, steps_per_epoch: int) -> tuple[int, ...]:
        """None: it falls all the time."""
        return ()

    def scale(self, total_steps: int, steps_per_epoch: int) -> Rate:
        """Multiplier of the base learning rate by step; `final` from total_steps on."""
        warmup = self.warmup_steps + round(self.warmup_epochs * steps_per_epoch)

        def multiplier(step: Any) -> Array:
            progress = jnp.minimum(jnp.float32(step) / max(total_steps, 1), 1.0)
            cosine = self.final + (1 - self.final) * 0.5 * (1 + jnp.cos(math.pi * progress))
            return jnp.where(step < warmup, _warmup(step, warmup, self.warmup_start), cosine)

        return multiplier


@dataclass(frozen=True)
class AdamW:
    """AdamW with decoupled weight decay on every trainable parameter; defaults are DETR's.

    Patterns are regular expressions that are searched in the parameter's path, such as
    'backbone/stage_3/block_0/conv_2/kernel'.

    Source: DETR main.py:131-140, engine.py:54-55; CrossFormer optimizer.py:32-42.
    """

    learning_rate: float = 1e-4
    """Base learning rate."""
    reference_batch_size: int | None = None
    """Batch size that learning_rate is for: another one scales it in proportion; None takes it as it is."""
    weight_decay: float = 1e-4
    """Decay per step, times the parameter's own learning rate."""
    decay_vectors: bool = True
    """Whether one-dimensional parameters, the biases and norms, decay too; False is CrossFormer's recipe."""
    b1: float = 0.9
    """Decay of the mean of gradients."""
    b2: float = 0.999
    """Decay of the mean of squared gradients."""
    eps: float = 1e-8
    """Added to the root of the mean of squared gradients."""
    clip_norm: float | None = 0.1
    """Largest norm of all trainable gradients together; None does not clip."""
    multipliers: dict[str, float] = field(default_factory=dict, hash=False)
    """Pattern to multiplier of the learning rate; the first that matches counts, 0 freezes."""
    frozen: tuple[str, ...] = ()
    """Patterns of parameters that are not trained, whatever the multipliers say."""
    schedule: StepSchedule | CosineSchedule = StepSchedule()
    """How the learning rate goes on over the steps."""

    def __post_init__(self) -> None:
        """Raises a FieldError for a pattern, multiplier or other number that can mean nothing."""
        for pattern in (*self.multipliers, *self.frozen):
            try:
                re.compile(pattern)
            except re.error as error:
                raise FieldError(f"the pattern {pattern!r} is not a regular expression: {error}") from error
        require(self, _NUMBERS)
        for pattern, multiplier in self.multipliers.items():
            if not (math.isfinite(multiplier) and multiplier >= 0):
                raise FieldError(f"the multiplier of {pattern!r} is {multiplier}; give 0 (frozen) or a positive number")

    def for_batch_size(self, batch_size: int) -> "AdamW":
        """The same with the learning rate of this many images per step, over all devices and micro-batches together."""
        if self.reference_batch_size is None:
            return self
        scaled = self.learning_rate * batch_size / self.reference_batch_size
        return dataclasses.replace(self, learning_rate=scaled, reference_batch_size=None)

    def multiplier(self, path: str) -> float:
        """What the learning rate of this parameter is multiplied with; 0 for a frozen one."""
        if any(matches(pattern, path) for pattern in self.frozen):
            return 0.0
        return next((value for pattern, value in self.multipliers.items() if matches(pattern, path)), 1.0)

    def partition(self, params: PyTree) -> tuple[PyTree, PyTree]:
        """(trainable, frozen): two nested dicts, which `merge` makes whole again.

        Raises:
            FieldError: a pattern matches no parameter, or nothing is left to train.
        """
        leaves = flatten(params)
        require_matches("multipliers", self.multipliers, leaves)
        require_matches("frozen", self.frozen, leaves)
        trainable = {path: leaf for path, leaf in leaves.items() if self.multiplier(path) > 0}
        if not trainable:
            raise FieldError(f"all {len(leaves)} parameters are frozen by {self.frozen or self.multipliers}")
        frozen = {path: leaf for path, leaf in leaves.items() if path not in trainable}
        return unflatten(trainable), unflatten(frozen)

    @staticmethod
    def merge(trainable: PyTree, frozen: PyTree) -> PyTree:
        """The whole tree of the two parts; free of cost, also inside jit.

        Raises:
            FieldError: both parts hold the same path.
        """
        first, second = flatten(trainable), flatten(frozen)
        if both := sorted(first.keys() & second.keys()):
            raise FieldError(f"a parameter is either trainable or frozen, and these are both: {', '.join(both)}")
        return unflatten(first | second)

    def learning_rates(self, total_steps: int, steps_per_epoch: int) -> Rate:
        """The base learning rate by step, as the schedule has it; for the log as well as for the update."""
        scale = self.schedule.scale(total_steps, steps_per_epoch)
        return lambda step: self.learning_rate * scale(step)

    def transformation(self, trainable: PyTree, total_steps: int, steps_per_epoch: int) -> optax.GradientTransformation:
        """The update of the trainable part, which holds arrays or only their shapes; `update` needs the parameters."""
        multipliers = unflatten({path: self.multiplier(path) for path in flatten(trainable)})
        matrices = partial(jax.tree.map, lambda leaf: leaf.ndim > 1)
        return optax.chain(
            optax.identity() if self.clip_norm is None else clip_by_global_norm(self.clip_norm),
            scale_by_adam(self.b1, self.b2, self.eps),
            optax.add_decayed_weights(self.weight_decay, mask=None if self.decay_vectors else matrices),
            optax.stateless(lambda updates, _: jax.tree.map(jnp.multiply, updates, multipliers)),
            optax.scale_by_learning_rate(self.learning_rates(total_steps, steps_per_epoch)),
        )


_NUMBERS = {
    "learning_rate": AT_LEAST_0,
    "reference_batch_size": or_none(COUNT_FROM_1),
    "weight_decay": AT_LEAST_0,
    "b1": DECAY,
    "b2": DECAY,
    "eps": AT_LEAST_0,
    "clip_norm": or_none(POSITIVE),
}


def clip_by_global_norm(max_norm: float) -> optax.GradientTransformation:
    """Gradients times min(1, max_norm / (norm + 1e-6)), as torch.nn.utils.clip_grad_norm_ does; optax has no 1e-6."""

    def clip(updates: PyTree, _: PyTree) -> PyTree:
        factor = jnp.minimum(1.0, max_norm / (global_norm(updates) + 1e-6))
        return jax.tree.map(lambda update: update * factor, updates)

    return optax.stateless(clip)


def global_norm(tree: PyTree) -> Array:
    """The root of the sum of all squares; `optax.tree.norm` has ten operations for each real array, to be traced."""
    return jnp.sqrt(sum(jnp.sum(jnp.square(leaf)) for leaf in jax.tree.leaves(tree)))


def scale_by_adam(b1: float, b2: float, eps: float) -> optax.GradientTransformation:
    """Adam's direction with the bias corrections exact to float32.

    optax.scale_by_adam takes 1 - 0.999**t in float32, which is off by 5e-5 in the first steps;
    torch takes it in float64.
    """

    def update(updates: PyTree, state: Any, params: PyTree = None) -> tuple[PyTree, optax.ScaleByAdamState]:
        del params
        count = optax.safe_increment(state.count)
        mu = jax.tree.map(lambda g, m: b1 * m + (1 - b1) * g, updates, state.mu)
        nu = jax.tree.map(lambda g, v: b2 * v + (1 - b2) * g**2, updates, state.nu)
        seen_mu, seen_nu = (-jnp.expm1(jnp.float32(count) * math.log(b)) for b in (b1, b2))
        updates = jax.tree.map(lambda m, v: m / seen_mu / (jnp.sqrt(v / seen_nu) + eps), mu, nu)
        return updates, optax.ScaleByAdamState(count, mu, nu)

    def init(params: PyTree) -> optax.ScaleByAdamState:
        first, second = (jax.tree.map(_zeros, params) for _ in range(2))
        return optax.ScaleByAdamState(jnp.zeros((), jnp.int32), first, second)

    return optax.GradientTransformation(init, update)


def _zeros(leaf: Any) -> Array:
    """Zeros by NumPy: JAX would compile a program for each shape."""
    return jnp.asarray(np.zeros(leaf.shape, leaf.dtype))


def _warmup(step: Any, steps: int, start: float) -> Array:
    risen = jnp.minimum(jnp.float32(step) / max(steps, 1), 1.0)
    return jnp.where(step < steps, start + (1 - start) * risen, 1.0)
