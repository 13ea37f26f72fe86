from typing import get_args

import pytest
from plug_ins import require_no_harm_by_padding_alone

from vitjax.attention.spatial_transformer import SpatialTransformer
from vitjax.backbones.resnet import Attention

MODULES = {kind.__name__: kind() for kind in get_args(Attention)}
MODULES["SpatialTransformer from edge to edge"] = SpatialTransformer(convention="edges")


@pytest.mark.parametrize("name", MODULES)
def test_an_image_of_nothing_but_padding_gives_finite_numbers_and_leaves_the_others_alone(name):
    require_no_harm_by_padding_alone(MODULES[name])
