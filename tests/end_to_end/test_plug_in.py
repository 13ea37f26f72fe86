"""A published or own checkpoint goes on with attention in its backbone, from the very outputs that it had."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from quick import drawn

from vitjax.attention.criss_cross import CrissCrossAttention
from vitjax.attention.dual import DualAttention
from vitjax.attention.non_local import NonLocal
from vitjax.attention.spatial_transformer import SpatialTransformer
from vitjax.attention.window import WindowSelfAttention
from vitjax.backbones.resnet import ResNet
from vitjax.backbones.spatially_transformed import SpatiallyTransformed
from vitjax.data.source import Classes
from vitjax.data.transforms import Resize
from vitjax.detection.detr import DETR
from vitjax.detection.postprocess import BestClass
from vitjax.export.convert import write_run_folder
from vitjax.families.model_file import ModelFile
from vitjax.runs.initial import initialize_from
from vitjax.structs import Images
from vitjax.training.first_weights import first_variables

BACKBONE = ResNet(depth=18, width=4, stage_blocks=(1, 1))
PLAIN = DETR(
    BACKBONE, 3, num_queries=4, channels=16, heads=2, encoder_layers=1, decoder_layers=1, feed_forward=16, dropout=0.0
)
IMAGES = Images(
    jnp.asarray(np.random.default_rng(0).normal(size=(1, 32, 32, 3)), jnp.float32),
    jnp.ones((1, 32, 32), bool).at[:, 20:].set(False),
)


def predict(model, variables):
    return jax.jit(lambda values: model.apply(values, IMAGES, train=False))(variables)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A run folder of the plain detector, and its predictions."""
    variables = drawn(jax.eval_shape(lambda: PLAIN.init(jax.random.key(0), IMAGES, train=False)))
    classes = Classes(("", "cat", "dog"), (0, 1, 2))
    file = ModelFile(PLAIN, variables, classes, Resize(size=32, max_side=32), BestClass())
    path = tmp_path_factory.mktemp("run")
    write_run_folder(file, path)
    return path, predict(PLAIN, variables)


STARTS_AS_IDENTITY = {
    "non-local": NonLocal(norm="frozen_batch"),
    "dual": DualAttention(),
    "criss-cross": CrissCrossAttention(),
    "windows": WindowSelfAttention(heads=2, window=3),
    "a spatial transformer in a stage": SpatialTransformer(),
}
BACKBONES = {
    name: BACKBONE.clone(attention=module, attention_stages=(2,)) for name, module in STARTS_AS_IDENTITY.items()
} | {"a spatial transformer in front": SpatiallyTransformed(BACKBONE)}


@pytest.mark.parametrize("name", BACKBONES)
def test_a_detector_with_new_attention_starts_with_the_predictions_of_its_checkpoint(checkpoint, name):
    path, wanted = checkpoint
    model = PLAIN.clone(backbone=BACKBONES[name])
    loaded, notes = initialize_from(str(path), first_variables(model, seed=1))
    assert "new" in "".join(notes)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), predict(model, loaded), wanted)
