import itertools

import jax
import numpy as np
import pytest
from quick import drawn

from vitjax.attention.relative_position import DynamicPositionBias, RelativePositionBias, offsets, pairs

GROUPS = [(3, 3), (2, 4), (1, 5)]


def shapes_of(module, group):
    return jax.eval_shape(lambda: module.init(jax.random.key(0), group, method="of_group"))


def tokens(group):
    return list(itertools.product(range(group[0]), range(group[1])))


@pytest.mark.parametrize("group", GROUPS, ids=str)
def test_the_offset_of_a_pair_is_query_minus_key(group):
    found = offsets(group)[pairs(group)]
    for q, query in enumerate(tokens(group)):
        for k, key in enumerate(tokens(group)):
            assert found[q, k].tolist() == [query[0] - key[0], query[1] - key[1]]


def normalized(x, params):
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt(x.var(-1, keepdims=True) + 1e-5) * params["scale"] + params["bias"]


def written_out(params, offset, *, residual):
    """The published network for one offset."""
    x = np.float32(offset) @ params["project"]["kernel"] + params["project"]["bias"]
    for i in range(3):
        hidden = np.maximum(normalized(x, params[f"norm_{i}"]), 0)
        y = hidden @ params[f"layer_{i}"]["kernel"] + params[f"layer_{i}"]["bias"]
        x = x + y if residual and i < 2 else y
    return x


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("group", GROUPS, ids=str)
def test_the_dynamic_bias_of_a_pair_is_the_network_at_its_offset(group, residual):
    module = DynamicPositionBias(heads=2, hidden=6, residual=residual)
    variables = drawn(shapes_of(module, group))
    found = np.asarray(module.apply(variables, group, method="of_group"))
    assert found.shape == (2, len(tokens(group)), len(tokens(group)))
    for (q, query), (k, key) in itertools.product(enumerate(tokens(group)), repeat=2):
        wanted = written_out(variables["params"], (query[0] - key[0], query[1] - key[1]), residual=residual)
        np.testing.assert_allclose(found[:, q, k], wanted, atol=1e-5)


def test_the_dynamic_bias_has_the_same_parameters_for_any_group():
    module = DynamicPositionBias(heads=3, hidden=6)
    assert shapes_of(module, (7, 7)) == shapes_of(module, (14, 5))


@pytest.mark.parametrize("group", [(3, 3), (2, 1)], ids=str)
def test_a_tables_bias_of_a_pair_is_the_parameter_of_its_offset(group):
    module = RelativePositionBias(heads=2, side=3)
    variables = drawn(shapes_of(module, group))
    table = variables["params"]["table"].reshape(5, 5, 2)
    found = np.asarray(module.apply(variables, group, method="of_group"))
    for (q, query), (k, key) in itertools.product(enumerate(tokens(group)), repeat=2):
        np.testing.assert_array_equal(found[:, q, k], table[query[0] - key[0] + 2, query[1] - key[1] + 2])


def test_a_group_beyond_the_table_is_refused():
    with pytest.raises(ValueError, match="groups of 3 x 3 tokens; the group has 2 x 4"):
        shapes_of(RelativePositionBias(heads=2, side=3), (2, 4))


def test_a_table_may_reach_further_along_one_side():
    module = RelativePositionBias(heads=2, side=(2, 4))
    variables = drawn(shapes_of(module, (2, 4)))
    table = variables["params"]["table"].reshape(3, 7, 2)
    found = np.asarray(module.apply(variables, (2, 3), method="of_group"))
    for (q, query), (k, key) in itertools.product(enumerate(tokens((2, 3))), repeat=2):
        np.testing.assert_array_equal(found[:, q, k], table[query[0] - key[0] + 1, query[1] - key[1] + 3])
    with pytest.raises(ValueError, match="groups of 2 x 4 tokens; the group has 3 x 4"):
        shapes_of(module, (3, 4))
