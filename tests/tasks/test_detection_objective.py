"""What a detector is given in training: images, and the targets too if it says so."""

from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from vitjax.detection.loss import SetLoss
from vitjax.detection.matcher import match
from vitjax.structs import ANSWER, Batch, Predictions, PredictionSet, Targets
from vitjax.tasks.detection import detection_objective

LOSS = SetLoss()
BATCH = Batch(
    pixels=jnp.zeros((2, 4, 4, 3), jnp.uint8),
    sizes=jnp.full((2, 2), 4),
    targets=Targets(jnp.full((2, 3, 4), 0.5), jnp.zeros((2, 3), int), jnp.arange(3) < jnp.array([[1], [2]])),
    records=jnp.arange(2),
    original_sizes=jnp.full((2, 2), 4),
    broken=jnp.full(2, -1),
)


class Plain(nn.Module):
    """Answers with a learned logit for every query, of which dropout takes some away."""

    def setup(self):
        self.logits = self.param("logits", nn.initializers.ones, (5, 3))
        self.dropout = nn.Dropout(0.5)

    def __call__(self, images, *, train):
        logits = self.dropout(jnp.broadcast_to(self.logits, (1, 2, 5, 3)), deterministic=not train)
        return Predictions({ANSWER: PredictionSet(logits, jnp.full((1, 2, 5, 4), 0.4))})


class Denoising(Plain):
    """Guesses each object from its own box, moved at random."""

    takes_targets: ClassVar[bool] = True

    def __call__(self, images, *, train, targets=None):
        answer = super().__call__(images, train=train)
        if targets is None:
            return answer
        noise = 0.1 * jax.random.uniform(self.make_rng("noise"), targets.boxes.shape)
        objects = jnp.where(targets.valid, jnp.arange(3), -1)[None]
        guesses = PredictionSet(jnp.zeros((1, 2, 3, 3)), (targets.boxes + noise)[None], objects=objects, rule="given")
        return Predictions(answer.sets | {"denoising": guesses})


def terms_of(model, seed=0):
    variables = model.init(jax.random.key(0), None, train=False)  # no targets, and no noise
    objective = detection_objective(model, LOSS, lambda *inputs: match(LOSS.cost, *inputs))
    terms = jax.jit(objective.evaluate)(variables, BATCH, jax.random.key(seed)).terms
    return objective.total(terms), terms


def test_a_model_that_takes_targets_is_given_them_and_random_numbers_in_training():
    total, terms = terms_of(Denoising())
    assert 0 < terms["denoising_box"].value < 0.4 and terms["denoising_box"].count == 3
    np.testing.assert_allclose(total, LOSS.total(terms))
    assert terms_of(Denoising(), seed=1)[1]["denoising_box"].total != terms["denoising_box"].total


def test_the_others_do_not_notice():
    """Their dropout has the step's key itself, as it always had."""
    _, terms = terms_of(Plain())
    assert not [name for name in terms if name.startswith("denoising")]
    variables, key = {"params": {"logits": jnp.ones((5, 3))}}, jax.random.key(0)

    @jax.jit
    def plain():
        predictions = Plain().apply(variables, None, train=True, rngs={"dropout": key})
        return LOSS(predictions, BATCH.targets, match(LOSS.cost, predictions, BATCH.targets))

    wanted = plain()
    for name, mean in wanted.items():
        np.testing.assert_allclose(terms[name].value, mean.value, rtol=1e-6)


def test_in_evaluation_no_targets_are_asked_for():
    model = Denoising()
    answer = model.apply(model.init(jax.random.key(0), None, train=False), None, train=False)
    assert answer.sets.keys() == {ANSWER}
