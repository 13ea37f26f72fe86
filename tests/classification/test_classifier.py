import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from quick import drawn

from vitjax.backbones import crossformer
from vitjax.backbones.crossformer import CrossFormer
from vitjax.backbones.resnet import ResNet
from vitjax.classification.classifier import Classifier
from vitjax.structs import Images

THIN = CrossFormer(channels=8, depths=(1, 2), heads=(2, 2), group_sizes=(3, 3), intervals=(2, 2))
MODELS = {
    "crossformer": Classifier(THIN, num_classes=5),
    "resnet": Classifier(ResNet(depth=18, width=4, stage_blocks=(1, 1)), num_classes=5, norm=False),
}
PUBLISHED = {
    "tiny": 27_776_794,
    "small": 30_657_394,
    "base": 51_971_554,
    "large": 91_971_184,
    "pp_small": 23_325_340,
    "pp_base": 51_994_594,
    "pp_large": 92_001_904,
    "pp_huge": 95_962_944,
}


def images(height, width, bucket=None):
    pixels = np.random.default_rng(1).normal(size=(1, height, width, 3)).astype(np.float32)
    room = [
        (0, 0),
        *((0, large - side) for large, side in zip(bucket or (height, width), (height, width), strict=True)),
    ]
    return Images(
        jnp.pad(jnp.asarray(pixels), (*room, (0, 0))), jnp.pad(jnp.ones((1, height, width), bool), tuple(room))
    )


def shapes_of(model):
    return jax.eval_shape(functools.partial(model.init, train=False), jax.random.key(0), images(32, 32))


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_published_classifiers_have_exactly_the_published_parameters(name):
    model = Classifier(getattr(crossformer, f"crossformer_{name}")(), num_classes=1000)
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes_of(model))) == PUBLISHED[name]


def test_resnet50_has_the_parameters_of_torchvisions():
    model = Classifier(ResNet(depth=50), num_classes=1000, norm=False)
    shapes = shapes_of(model)
    affine = sum(leaf.size for path, leaf in jax.tree_util.tree_leaves_with_path(shapes["frozen"])) // 2
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes["params"])) + affine == 25_557_032


@pytest.mark.parametrize("name", MODELS)
def test_the_head_sees_the_mean_of_the_last_map(name):
    model = MODELS[name]
    variables, image = drawn(shapes_of(model)), images(32, 48)
    calls = {"capture_intermediates": lambda module, method: (module.name, method) == ("backbone", "__call__")}
    options = {"mutable": ["intermediates"], **calls}
    logits, state = jax.jit(lambda v: model.apply(v, image, train=False, **options))(variables)
    x = np.asarray(state["intermediates"]["backbone"]["__call__"][0][-1].values)
    params = variables["params"]
    if model.norm:
        centred = x - x.mean(-1, keepdims=True)
        x = centred / np.sqrt(x.var(-1, keepdims=True) + 1e-5) * params["norm"]["scale"] + params["norm"]["bias"]
    pooled = x.mean((1, 2))
    np.testing.assert_allclose(state["intermediates"]["pooled"][0], pooled, atol=1e-4)
    np.testing.assert_allclose(logits, pooled @ params["head"]["kernel"] + params["head"]["bias"], atol=1e-4)


@pytest.mark.parametrize("name", MODELS)
def test_a_padded_image_is_classified_as_it_is_alone(name):
    model = MODELS[name]
    variables = drawn(shapes_of(model))
    run = jax.jit(lambda image: model.apply(variables, image, train=False))
    np.testing.assert_allclose(run(images(30, 37, bucket=(48, 64))), run(images(30, 37)), atol=1e-4)


def test_it_trains_with_drop_path_in_bfloat16():
    model = Classifier(THIN.clone(dtype="bfloat16", drop_path=0.5), num_classes=5)
    variables = drawn(shapes_of(model))

    def loss(params):
        rngs = {"dropout": jax.random.key(0)}
        return (model.apply({"params": params}, images(32, 32), train=True, rngs=rngs) ** 2).sum()

    gradients = jax.jit(jax.grad(loss))(variables["params"])
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients))
    assert np.any(gradients["backbone"]["stage_1"]["embedding"]["conv_3"]["kernel"])


def test_without_a_number_of_classes_it_says_what_it_needs():
    with pytest.raises(ValueError, match="Classifier needs num_classes"):
        shapes_of(Classifier(THIN))
