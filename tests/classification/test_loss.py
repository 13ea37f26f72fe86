import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vitjax.classification.loss import CrossEntropy
from vitjax.structs import ClassTargets

GENERATOR = np.random.default_rng(0)
LOGITS = jnp.asarray(GENERATOR.normal(size=(4, 5)), jnp.float32)
SHARES = jnp.asarray(GENERATOR.dirichlet(np.ones(5), size=4), jnp.float32)
VALID = jnp.array([True, True, False, True])


def test_soft_targets_are_smoothed_and_only_valid_images_count():
    terms = CrossEntropy(smoothing=0.2)(LOGITS, ClassTargets(SHARES, VALID))
    total = 0.0
    for logits, shares, valid in zip(np.float64(LOGITS), np.float64(SHARES), VALID, strict=True):
        log_probabilities = logits - np.log(np.exp(logits).sum())
        total -= valid * ((0.8 * shares + 0.2 / 5) * log_probabilities).sum()
    np.testing.assert_allclose(terms["cross_entropy"].total, [total], rtol=1e-6)
    assert terms["cross_entropy"].count.tolist() == [3]
    np.testing.assert_allclose(CrossEntropy(0.2).total(terms), total / 3, rtol=1e-6)


def test_smoothing_before_images_are_mixed_is_the_same_as_after():
    sharp = jax.nn.one_hot(jnp.array([1, 4, 0, 2]), 5)
    smooth = 0.9 * sharp + 0.1 / 5
    mixed = 0.3 * sharp + 0.7 * sharp[::-1]
    before = CrossEntropy(0.0)(LOGITS, ClassTargets(0.3 * smooth + 0.7 * smooth[::-1], VALID))["cross_entropy"]
    after = CrossEntropy(0.1)(LOGITS, ClassTargets(mixed, VALID))["cross_entropy"]
    np.testing.assert_allclose(before.total, after.total, rtol=1e-6)


def test_the_class_error_counts_images_whose_likeliest_class_is_missed():
    right = jax.nn.one_hot(LOGITS.argmax(-1), 5)
    targets = right.at[0].set(right[0][::-1] if LOGITS[0].argmax() != 2 else jnp.roll(right[0], 1))
    assert CrossEntropy()(LOGITS, ClassTargets(targets, VALID))["class_error"].value.tolist() == [
        pytest.approx(100 / 3)
    ]


def test_a_batch_without_a_valid_image_costs_nothing_and_has_no_gradient():
    targets, loss = ClassTargets(SHARES, jnp.zeros(4, bool)), CrossEntropy()
    value, gradient = jax.value_and_grad(lambda logits: loss.total(loss(logits, targets)))(LOGITS)
    assert value == 0 and not gradient.any()


def test_bfloat16_logits_are_summed_in_float32():
    terms = CrossEntropy()(LOGITS.astype(jnp.bfloat16), ClassTargets(SHARES, VALID))
    assert terms["cross_entropy"].total.dtype == jnp.float32


def test_a_smoothing_that_is_no_share_is_refused():
    with pytest.raises(ValueError, match=r"got 1\.5"):
        CrossEntropy(smoothing=1.5)


def test_class_weights_weigh_sum_and_count_as_torch_does_it():
    """torch 2.4: nll and smoothing are weighed by class, and divided by the weights of the labels."""
    weights, labels = np.array([0.1, 2.0, 1.0, 0.0, 3.0]), np.array([1, 4, 0, 2])
    targets = ClassTargets(jax.nn.one_hot(labels, 5), VALID)
    loss = CrossEntropy(0.2, class_weights=tuple(weights))
    logs = np.float64(jax.nn.log_softmax(LOGITS))
    rows = [row for row in range(4) if VALID[row]]
    each = [0.8 * weights[labels[row]] * -logs[row, labels[row]] - 0.2 / 5 * weights @ logs[row] for row in rows]
    wanted = sum(each) / weights[labels[rows]].sum()
    terms = loss(LOGITS, targets)
    np.testing.assert_allclose(loss.total(terms), wanted, rtol=1e-6)
    light = CrossEntropy(0.2, class_weights=tuple(weights / 1000))
    np.testing.assert_allclose(light.total(light(LOGITS, targets)), wanted, rtol=1e-6)  # only ratios matter
    assert float(loss.total(loss(LOGITS, ClassTargets(SHARES, jnp.zeros(4, bool))))) == 0
    assert terms["class_error"].count.tolist() == [3]
