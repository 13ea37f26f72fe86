import math

import pytest

from vitjax.training.patience import evaluations_in_vain


@pytest.mark.parametrize(
    ("scores", "vain"),
    [
        ([], 0),
        ([0, 0, 0], 0),
        ([math.nan, 0, 0.1], 0),
        ([0.1, 0.1], 1),
        ([0.1, 0.3, 0.2, math.nan, 0.3], 3),
        ([0.3, 0.1, 0.1, 0.4, 0.2], 1),
    ],
)
def test_evaluations_count_that_are_no_better_than_one_before_from_the_first_score_on(scores, vain):
    assert evaluations_in_vain(scores) == vain
