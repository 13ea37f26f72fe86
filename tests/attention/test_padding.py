import inspect

import pytest
from plug_ins import require_no_harm_by_padding_alone

import vitjax.attention
from vitjax.attention.spatial_transformer import SpatialTransformer

PUBLIC = {name: getattr(vitjax.attention, name) for name in vitjax.attention.__all__}
# What has a `place` can stand in a ResNet.
MODULES = {name: kind() for name, kind in PUBLIC.items() if inspect.isclass(kind) and hasattr(kind, "place")}
MODULES["SpatialTransformer from edge to edge"] = SpatialTransformer(convention="edges")


def test_all_modules_of_the_zoo_are_looked_at():
    assert len(MODULES) >= 10


@pytest.mark.parametrize("name", MODULES)
def test_an_image_of_nothing_but_padding_gives_finite_numbers_and_leaves_the_others_alone(name):
    require_no_harm_by_padding_alone(MODULES[name])
