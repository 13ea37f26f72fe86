"""What a classifier is asked for, what it is given to learn, and how its page looks."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from vitjax.batch import Batch, Targets
from vitjax.classification.classifier import Classifier
from vitjax.classification.loss import CrossEntropy
from vitjax.classification.policy_loss import PolicyLoss
from vitjax.classification.postprocess import TopClasses
from vitjax.classification.recurrent_attention import RecurrentAttention
from vitjax.data.crops import CenterCrop
from vitjax.data.source import Classes, Sample
from vitjax.errors import FieldError
from vitjax.inference.task import Asked
from vitjax.prediction import Answer, Recognition
from vitjax.tasks.classification import Classification, ImageClassifier, class_targets_of

ANIMALS = Classes(("ant", "bee", "cat"), (0, 1, 2))


@dataclasses.dataclass(frozen=True)
class SharpClasses(TopClasses):
    """A user's own, whose logits are sharpened."""

    sharpness: float = 1.0

    def __call__(self, logits):
        return super().__call__(self.sharpness * logits)


TASK = ImageClassifier(nn.Module(), CenterCrop(), SharpClasses(k=2, sharpness=9.0))


@pytest.mark.parametrize(("asked", "labels"), [(Asked(), [2, 0]), (Asked(top=1), [2]), (Asked(top=3), [2, 0, 1])])
def test_as_many_classes_are_given_as_are_asked_for_by_the_post_processing_that_the_model_has(asked, labels):
    found = TASK.asked(asked).finish(jnp.array([[0.2, 0.1, 0.5]]), None)
    assert found.labels[0].tolist() == labels
    wanted = np.exp(9.0 * 0.5) / np.exp([9.0 * 0.2, 9.0 * 0.1, 9.0 * 0.5]).sum()
    np.testing.assert_allclose(found.scores[0, 0], wanted, rtol=1e-5)


@pytest.mark.parametrize(
    ("truth", "caption"),
    [([1], "bee 0.75"), ([2], "bee 0.75\nwrong: is cat"), ([], "bee 0.75")],
    ids=["right", "wrong", "unknown"],
)
def test_a_picture_is_called_wrong_where_it_shows_another_class(truth, caption):
    told = Recognition(("bee", "cat"), np.array([0.75, 0.25], np.float32), np.array([1, 2]))
    sample = Sample(np.zeros((8, 8, 3), np.uint8), np.zeros((0, 4), np.float32), np.zeros(0, np.int32))
    answer = Answer(0, np.array(truth, np.int32), told)
    assert TASK.page_picture(answer, sample, ANIMALS, "a.png")[1] == caption


def test_an_image_without_a_label_is_no_target():
    valid = np.array([[True, False], [False, False]])
    targets = Targets(np.zeros((2, 2, 4), np.float32), np.array([[2, 0], [1, 1]]), valid)
    rows = np.arange(2)
    batch = Batch(np.zeros((2, 4, 4, 3), np.uint8), np.full((2, 2), 4), targets, rows, np.full((2, 2), 4), rows - 9)
    found = class_targets_of(batch, 3)
    assert found.probabilities.tolist() == [[0, 0, 1], [0, 1, 0]] and found.valid.tolist() == [True, False]


@pytest.mark.parametrize(("model", "loss"), [(RecurrentAttention(), CrossEntropy()), (Classifier(), PolicyLoss())])
def test_glimpses_and_their_loss_go_together_and_with_nothing_else(model, loss):
    with pytest.raises(FieldError, match="RecurrentAttention goes with PolicyLoss"):
        Classification(model=model, loss=loss)
