import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vitjax.data.source import NO_LABEL
from vitjax.segmentation import pixel_loss
from vitjax.segmentation.pixel_loss import PixelCrossEntropy
from vitjax.structs import PixelLogits

GENERATOR = np.random.default_rng(0)
OUTPUTS = jnp.asarray(GENERATOR.normal(size=(3, 2, 3, 4, 5)), jnp.float32)
AUXILIARY = jnp.asarray(GENERATOR.normal(size=(2, 3, 4, 5)), jnp.float32)
LABELS = jnp.asarray(
    np.where(GENERATOR.random((2, 3, 4)) < 0.3, NO_LABEL, GENERATOR.integers(0, 5, (2, 3, 4))), "uint8"
)


def mean_entropy(logits):
    """The cross entropy of every labelled pixel, one by one in float64."""
    logits, labels = np.float64(logits), np.asarray(LABELS)
    losses = [
        np.log(np.exp(logits[place]).sum()) - logits[place][labels[place]]
        for place in np.ndindex(labels.shape)
        if labels[place] != 255
    ]
    return np.mean(losses), len(losses)


def test_the_loss_and_the_data_mean_the_same_by_no_label():
    assert pixel_loss.NO_LABEL == NO_LABEL


def test_every_output_has_the_mean_over_the_labelled_pixels_and_its_weight():
    loss = PixelCrossEntropy(further=0.5, auxiliary=0.25)
    terms = loss(PixelLogits(OUTPUTS, AUXILIARY), LABELS)
    names = ["cross_entropy", "cross_entropy_1", "cross_entropy_2", "auxiliary"]
    wanted = [mean_entropy(logits) for logits in (*OUTPUTS, AUXILIARY)]
    for name, (mean, count) in zip(names, wanted, strict=True):
        np.testing.assert_allclose(terms[name].value, [mean], rtol=1e-5)
        assert terms[name].count.tolist() == [count]
    main, *further, auxiliary = (mean for mean, _ in wanted)
    np.testing.assert_allclose(loss.total(terms), main + 0.5 * sum(further) + 0.25 * auxiliary, rtol=1e-5)


def test_the_pixel_error_counts_labelled_pixels_that_are_missed():
    missed = (np.asarray(OUTPUTS[0]).argmax(-1) != LABELS)[np.asarray(LABELS) != NO_LABEL]
    terms = PixelCrossEntropy()(PixelLogits(OUTPUTS[:1]), LABELS)
    assert terms.keys() == {"cross_entropy", "pixel_error"}
    assert terms["pixel_error"].value.tolist() == [pytest.approx(100 * missed.mean())]


def test_a_batch_without_a_labelled_pixel_costs_nothing_and_has_no_gradient():
    loss, nothing = PixelCrossEntropy(), jnp.full_like(LABELS, NO_LABEL)
    value, gradient = jax.value_and_grad(lambda x: loss.total(loss(PixelLogits(x), nothing)))(OUTPUTS)
    assert value == 0 and not gradient.any()
    assert all(np.isfinite(mean.value).all() for mean in loss(PixelLogits(OUTPUTS), nothing).values())


def test_a_weight_below_zero_is_refused():
    with pytest.raises(ValueError, match="auxiliary is the weight of a loss, at least 0; got -1"):
        PixelCrossEntropy(auxiliary=-1.0)


def test_class_weights_weigh_every_pixel_and_what_it_is_divided_by():
    weights = np.array([0.5, 0.0, 2.0, 1.0, 0.001])
    terms = PixelCrossEntropy(class_weights=tuple(weights))(PixelLogits(OUTPUTS, None), LABELS)
    logs, labels = np.float64(jax.nn.log_softmax(OUTPUTS[0])), np.asarray(LABELS)
    places = [place for place in np.ndindex(labels.shape) if labels[place] != 255]
    lost = sum(-weights[labels[place]] * logs[place][labels[place]] for place in places)
    wanted = lost / sum(weights[labels[place]] for place in places)
    np.testing.assert_allclose(terms["cross_entropy"].value, [wanted], rtol=1e-5)
    plain = PixelCrossEntropy()(PixelLogits(OUTPUTS, None), LABELS)
    assert terms["pixel_error"].value == plain["pixel_error"].value
    nothing = PixelCrossEntropy(class_weights=(1.0,) * 5)(PixelLogits(OUTPUTS, None), jnp.full_like(LABELS, NO_LABEL))
    assert nothing["cross_entropy"].value.tolist() == [0.0]
