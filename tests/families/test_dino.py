"""Published names of DINO: every alias is written, what cannot be read is named."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from quick import drawn

from vitjax.backbones.resnet import ResNet
from vitjax.detection.dino import DINO
from vitjax.families.dino import FAMILY, NAMES
from vitjax.families.identify import identify
from vitjax.formats.tables import PublishedError, TensorFile, from_published
from vitjax.structs import Images

TINY = DINO(
    backbone=ResNet(depth=18, width=8),
    num_classes=4,
    num_queries=6,
    channels=16,
    encoder_layers=1,
    decoder_layers=3,
    feed_forward=24,
    encoder_points=2,
    decoder_points=3,
)
MODELS = {
    "four levels": TINY,
    "five levels": TINY.clone(levels=5, backbone_levels=4),
    "room for more labels": TINY.clone(labels=9),
    "content of the tokens": TINY.clone(mixed_selection=False, num_queries=900),
}


@functools.cache
def variables_of(model):
    images = Images(jnp.zeros((1, 64, 64, 3)), jnp.ones((1, 64, 64), bool))
    return drawn(jax.eval_shape(lambda: model.init(jax.random.key(0), images, train=False)))


def file_of(model):
    return FAMILY.official.tensors_of(model, variables_of(model))


@pytest.mark.parametrize("name", MODELS)
def test_an_official_file_tells_its_model_and_goes_back_bitwise(name):
    model, tensors = MODELS[name], file_of(MODELS[name])
    found = identify(TensorFile(tensors, {}, "dino"))
    assert found.model == model and found.postprocess.k == 300
    again = FAMILY.official.tensors_of(found.model, found.variables)
    assert again.keys() == tensors.keys()
    assert all(again[key].tobytes() == tensors[key].tobytes() for key in tensors)


def test_shared_heads_are_there_for_every_layer_and_once_more_in_the_decoder():
    tensors = file_of(TINY)
    for kind, part in (("class", "bias"), ("bbox", "layers.1.weight")):
        names = [f"{top}{kind}_embed.{i}.{part}" for top in ("", "transformer.decoder.") for i in range(3)]
        assert len({tensors[name].tobytes() for name in names}) == 1
    assert f"{kind}_embed.3.{part}" not in tensors


def test_heads_that_differ_between_layers_are_refused_and_named():
    tensors = file_of(TINY)
    tensors["transformer.decoder.class_embed.2.bias"] = tensors["class_embed.0.bias"] + 1
    with pytest.raises(PublishedError, match=r"transformer\.decoder\.class_embed\.2\.bias differs from another tensor"):
        from_published(tensors, table=NAMES)


def test_a_backbone_that_there_is_not_is_named():
    tensors = {name: x for name, x in file_of(TINY).items() if not name.startswith("backbone.")}
    tensors["backbone.0.patch_embed.proj.weight"] = np.zeros((16, 3, 4, 4), np.float32)
    with pytest.raises(PublishedError, match="has a Swin backbone, which vitjax does not have"):
        identify(TensorFile(tensors, {}, "dino_swin"))
