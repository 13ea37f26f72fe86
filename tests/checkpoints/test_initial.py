import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file

from vitjax.backbones.resnet import ResNet
from vitjax.checkpoints.initial import initialize_from
from vitjax.checkpoints.published import RESNET, to_published
from vitjax.data.errors import DataError
from vitjax.detection.detr import DETR
from vitjax.structs import Images
from vitjax.training.paths import flatten


def drawn(classes, seed):
    """A thin DETR's variables, drawn with NumPy."""
    backbone = ResNet(depth=18, width=8)
    model = DETR(backbone=backbone, num_classes=classes, channels=16, heads=2, feed_forward=16, num_queries=5)
    images = Images(jnp.zeros((1, 64, 64, 3)), jnp.ones((1, 64, 64), bool))
    shapes = jax.eval_shape(functools.partial(model.init, train=False), jax.random.key(0), images)
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), shapes)


@pytest.mark.parametrize("form", ["safetensors", "npz"])
def test_published_weights_start_all_but_a_class_head_of_another_size(form, tmp_path):
    published, mine = drawn(classes=91, seed=0), drawn(classes=3, seed=1)
    path = tmp_path / f"detr.{form}"
    state = to_published(published)
    save_file(state, path) if form == "safetensors" else np.savez(path, **state)
    started, notes = initialize_from(path, mine)
    for name, array in flatten(started).items():
        source = mine if "class_head" in name else published
        np.testing.assert_array_equal(array, flatten(source)[name])
    assert any("starts anew: params/class_head/kernel (16, 4)" in note for note in notes)


def test_imagenet_weights_of_a_resnet_start_the_backbone_only(tmp_path):
    whole, mine = drawn(classes=3, seed=0), drawn(classes=3, seed=1)
    bare = {kind: tree["backbone"] for kind, tree in whole.items() if "backbone" in tree}
    save_file(to_published(bare, table=RESNET), tmp_path / "resnet.safetensors")
    started, _ = initialize_from(tmp_path / "resnet.safetensors", mine)
    for name, array in flatten(started).items():
        np.testing.assert_array_equal(array, flatten(whole if "/backbone/" in name else mine)[name])


def test_weights_that_do_not_fit_anywhere_are_refused(tmp_path):
    np.savez(tmp_path / "other.npz", **to_published(drawn(classes=3, seed=0)))
    wanted = {"params": {"backbone": {"stem_conv": {"kernel": np.zeros((7, 7, 3, 64), np.float32)}}}}
    with pytest.raises(DataError, match="none of this model's parameters"):
        initialize_from(tmp_path / "other.npz", wanted)


@pytest.mark.parametrize("name", ["nowhere.safetensors", "weights.pth", "folder"])
def test_what_holds_no_weights_is_named(name, tmp_path):
    (tmp_path / "weights.pth").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    with pytest.raises(DataError, match=name):
        initialize_from(tmp_path / name, {"params": {}})
