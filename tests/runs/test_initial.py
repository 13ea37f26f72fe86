import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file

from vitjax.backbones.resnet import ResNet
from vitjax.checkpoints.paths import flatten, unflatten
from vitjax.checkpoints.store import Store
from vitjax.classification.classifier import Classifier
from vitjax.data.errors import DataError
from vitjax.data.source import Classes
from vitjax.detection.detr import DETR
from vitjax.families.detr import NAMES as DETR_NAMES
from vitjax.families.mask_detr import NAMES as MASK_DETR
from vitjax.families.resnet import NAMES as RESNET
from vitjax.formats.tables import to_published
from vitjax.runs.adapt import not_whole
from vitjax.runs.initial import initialize_from, read_weights
from vitjax.segmentation.detr_masks import MaskDETR
from vitjax.structs import Images


def variables_of(model, seed):
    """A model's variables, drawn with NumPy."""
    images = Images(jnp.zeros((1, 64, 64, 3)), jnp.ones((1, 64, 64), bool))
    shapes = jax.eval_shape(functools.partial(model.init, train=False), jax.random.key(0), images)
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), shapes)


def drawn(classes, seed, norm="frozen_batch"):
    """A thin DETR's variables."""
    backbone = ResNet(depth=18, width=8, stage_blocks=(1, 1), norm=norm)
    model = DETR(backbone=backbone, num_classes=classes, channels=16, heads=2, feed_forward=16, num_queries=5)
    return variables_of(model, seed)


def classifier(classes, seed, norm):
    """A thin ResNet classifier's variables."""
    backbone = ResNet(depth=18, width=8, stage_blocks=(1, 1), norm=norm)
    return variables_of(Classifier(backbone, num_classes=classes, norm=False), seed)


def save_run(folder, variables, **more):
    """A run folder with one checkpoint, in which the head does not train."""
    params = variables["params"]
    frozen, constants = {"head": params["head"]}, {name: tree for name, tree in variables.items() if name != "params"}
    trainable = {name: tree for name, tree in params.items() if name != "head"}
    with Store(folder / "checkpoints") as store:
        store.save(1, {"trainable": trainable, "frozen": frozen, "constants": constants, **more})


def assert_same(found, wanted):
    assert flatten(found).keys() == flatten(wanted).keys()
    for name, array in flatten(wanted).items():
        np.testing.assert_array_equal(flatten(found)[name], array, err_msg=name)


@pytest.mark.parametrize("form", ["safetensors", "npz"])
def test_published_weights_start_all_but_a_class_head_of_another_size(form, tmp_path):
    published, mine = drawn(classes=91, seed=0), drawn(classes=3, seed=1)
    path = tmp_path / f"detr.{form}"
    state = to_published(published, table=DETR_NAMES)
    save_file(state, path) if form == "safetensors" else np.savez(path, **state)
    started, notes = initialize_from(path, mine)
    for name, array in flatten(started).items():
        source = mine if "class_head" in name else published
        np.testing.assert_array_equal(array, flatten(source)[name])
    assert any(note.startswith("class_head") and note.endswith("new: (16, 4) here, (16, 92) there") for note in notes)


@pytest.mark.parametrize("masks", [False, True], ids=["a detector", "a model with masks"])
def test_weights_of_a_detector_and_of_one_with_masks_start_one_with_masks(masks, tmp_path):
    sizes = {"channels": 32, "feed_forward": 16, "encoder_layers": 1, "decoder_layers": 1}
    thin = DETR(ResNet(depth=18, width=8, stage_blocks=(1, 1)), num_queries=5, num_classes=91, **sizes)
    model = MaskDETR(thin.clone(num_queries=4, num_classes=3), finer=1)
    published, mine = variables_of(MaskDETR(thin, finer=1), 0), variables_of(model, 1)
    tensors = to_published(published, table=MASK_DETR)
    kept = {name: tensor for name, tensor in tensors.items() if masks or name.startswith("detr.")}
    save_file(
        {name if masks else name.removeprefix("detr."): x for name, x in kept.items()}, tmp_path / "a.safetensors"
    )
    frozen = (lambda path: path.startswith("detr/backbone")) if masks else None
    started, notes = initialize_from(tmp_path / "a.safetensors", mine, frozen=frozen, inside="detr")
    assert flatten(started).keys() == flatten(mine).keys()
    for name, array in flatten(started).items():
        new = "class_head" in name or not (masks or "/detr/" in name)
        if "query_embedding" in name:
            np.testing.assert_array_equal(array, flatten(published)[name][:4])
        else:
            np.testing.assert_array_equal(array, flatten(mine if new else published)[name], err_msg=name)
    assert any(note.startswith("query_embedding") and "cut from 5 to 4" in note for note in notes)
    if not masks:
        with pytest.raises(DataError, match=r"nothing for \d+ parameters that are frozen.*: mask_attention/"):
            initialize_from(tmp_path / "a.safetensors", mine, frozen=lambda path: "mask" in path, inside="detr")


def test_imagenet_weights_of_a_resnet_start_the_backbone_only(tmp_path):
    whole, mine = drawn(classes=3, seed=0), drawn(classes=3, seed=1)
    bare = {kind: {"backbone": tree["backbone"]} for kind, tree in whole.items() if "backbone" in tree}
    save_file(to_published(bare, table=RESNET), tmp_path / "resnet.safetensors")
    started, _ = initialize_from(tmp_path / "resnet.safetensors", mine)
    for name, array in flatten(started).items():
        np.testing.assert_array_equal(array, flatten(whole if "/backbone/" in name else mine)[name])


@pytest.mark.parametrize("norm", ["frozen_batch", "batch"])
def test_torchvisions_weights_start_a_classifier_of_either_norm(norm, tmp_path):
    published = classifier(7, seed=0, norm="frozen_batch")
    state = to_published(published, table=RESNET)
    np.savez(tmp_path / "resnet.npz", **state)
    started, notes = initialize_from(tmp_path / "resnet.npz", classifier(7, seed=1, norm=norm))
    assert_same(to_published(started, table=RESNET), state)
    changed = [note.split(" change")[0] for note in notes if "batch norms change" in note]
    assert changed == (["6 batch norms"] if norm == "batch" else [])


def test_a_head_of_another_number_of_classes_starts_anew(tmp_path):
    published, mine = classifier(7, seed=0, norm="frozen_batch"), classifier(3, seed=1, norm="frozen_batch")
    np.savez(tmp_path / "resnet.npz", **to_published(published, table=RESNET))
    started, notes = initialize_from(tmp_path / "resnet.npz", mine)
    assert_same(started["params"], {**published["params"], "head": mine["params"]["head"]})
    new = ["new: (3,) here, (7,) there", "new: (16, 3) here, (16, 7) there"]
    assert [note.split("  ")[-1] for note in notes if note.startswith("head")] == new


def test_a_classifier_trained_with_batch_norm_becomes_the_frozen_backbone_of_a_detector(tmp_path):
    trained, mine = classifier(7, seed=0, norm="batch"), drawn(classes=3, seed=1)
    save_run(tmp_path, trained)
    started, notes = initialize_from(tmp_path, mine)
    norm, given = started["frozen"]["backbone"]["stem_norm"], {**trained["params"]["backbone"]["stem_norm"]}
    assert_same(norm, given | trained["batch_stats"]["backbone"]["stem_norm"])
    assert_same(started["params"]["decoder"], mine["params"]["decoder"])
    kernel = started["params"]["backbone"]["stage_2"]["block_0"]["conv_1"]["kernel"]
    np.testing.assert_array_equal(kernel, trained["params"]["backbone"]["stage_2"]["block_0"]["conv_1"]["kernel"])
    assert any(note.startswith("6 batch norms change between frozen and learning") for note in notes)
    assert [note.split() for note in notes if note.endswith("not used")] == [["head", "2", "not", "used"]]


def test_a_frozen_run_starts_a_detector_whose_norms_learn(tmp_path):
    trained, mine = classifier(7, seed=0, norm="frozen_batch"), drawn(classes=3, seed=1, norm="batch")
    save_run(tmp_path, trained)
    started, _ = initialize_from(tmp_path, mine)
    norm = {**started["params"]["backbone"]["stem_norm"], **started["batch_stats"]["backbone"]["stem_norm"]}
    assert_same(norm, trained["frozen"]["backbone"]["stem_norm"])


@pytest.mark.parametrize("kept", [True, False], ids=["averaged", "not averaged"])
def test_the_averaged_weights_of_a_run_are_taken_where_it_keeps_them(kept, tmp_path):
    variables, other = classifier(7, seed=0, norm="batch"), classifier(7, seed=1, norm="batch")
    save_run(tmp_path, variables, average={"backbone": other["params"]["backbone"]} if kept else None)
    backbone = (other if kept else variables)["params"]["backbone"]
    assert_same(
        read_weights(tmp_path).variables, {**variables, "params": {**variables["params"], "backbone": backbone}}
    )


@pytest.mark.parametrize("kept", ["checkpoints alone", "a file of seven classes"])
def test_classes_are_not_matched_with_those_of_weights_that_do_not_tell_theirs(kept, tmp_path):
    mine, source = classifier(7, seed=1, norm="frozen_batch"), tmp_path / "weights.npz"
    if kept == "checkpoints alone":
        source = tmp_path / "run"
        save_run(source, classifier(7, seed=0, norm="frozen_batch"))
    else:
        np.savez(source, **to_published(classifier(7, seed=0, norm="frozen_batch"), table=RESNET))
    names = Classes(tuple("abcdefg"), tuple(range(7)))
    with pytest.raises(DataError, match="does not tell what its classes are called"):
        initialize_from(source, mine, classes=names)


def test_weights_that_do_not_fit_anywhere_are_refused(tmp_path):
    np.savez(tmp_path / "other.npz", **to_published(drawn(classes=3, seed=0), table=DETR_NAMES))
    wanted = {"params": {"backbone": {"stem_conv": {"kernel": np.zeros((7, 7, 3, 64), np.float32)}}}}
    with pytest.raises(DataError, match="none of this model's parameters"):
        initialize_from(tmp_path / "other.npz", wanted)


def refused(tmp_path, variables, mine, **options):
    """What is said of weights from which nothing is started; `mine` must not even be drawn, being given as shapes."""
    np.savez(tmp_path / "weights.npz", **to_published(variables, table=RESNET))
    with pytest.raises(DataError) as caught:
        initialize_from(tmp_path / "weights.npz", mine, **options)
    return str(caught.value)


def test_weights_of_another_backbone_are_refused_before_anything_is_drawn(tmp_path):
    deeper = variables_of(Classifier(ResNet(18, width=8, stage_blocks=(1, 2)), num_classes=7, norm=False), seed=0)
    shapes = jax.eval_shape(lambda: classifier(7, seed=1, norm="frozen_batch"))

    def never(paths):
        pytest.fail(f"{paths} were drawn")

    assert "looks like a ResNet of 1+2 blocks" in refused(tmp_path, deeper, shapes, some=never)


def test_frozen_parameters_that_weights_do_not_have_are_refused_and_named(tmp_path):
    published, mine = classifier(7, seed=0, norm="frozen_batch"), classifier(3, seed=1, norm="frozen_batch")
    said = refused(tmp_path, published, mine, frozen=lambda path: path.startswith(("head", "backbone/stem")))
    assert "has nothing for 2 parameters that are frozen" in said and "head/bias, head/kernel. Give" in said
    initialize_from(tmp_path / "weights.npz", mine, frozen=lambda path: path.startswith("backbone"))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nothing_is_trained_from_weights_that_are_not_finite(value, tmp_path):
    published, mine = classifier(7, seed=0, norm="frozen_batch"), classifier(3, seed=1, norm="frozen_batch")
    published["params"]["backbone"]["stem_conv"]["kernel"].flat[3] = value
    published["params"]["head"]["kernel"].flat[3] = value  # which is not taken
    said = refused(tmp_path, published, mine)
    assert "has NaN or infinity in 1 of its" in said and "params/backbone/stem_conv/kernel" in said


@pytest.mark.parametrize("name", ["nowhere.safetensors", "weights.pth", "folder"])
def test_what_holds_no_weights_is_named(name, tmp_path):
    (tmp_path / "weights.pth").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    with pytest.raises(DataError, match=name):
        initialize_from(tmp_path / name, {"params": {}})


def test_only_what_weights_lack_is_drawn_and_the_start_is_the_same(tmp_path):
    np.savez(tmp_path / "weights.npz", **to_published(classifier(7, seed=0, norm="frozen_batch"), table=RESNET))
    for classes, lacking in ((7, []), (3, ["params/head/bias", "params/head/kernel"])):
        mine, asked = classifier(classes, seed=1, norm="frozen_batch"), []

        def some(paths, mine=mine, asked=asked):
            asked.extend(paths)
            return unflatten({path: leaf for path, leaf in flatten(mine).items() if path in paths})

        shapes = jax.eval_shape(lambda mine=mine: mine)
        wanted, _ = initialize_from(tmp_path / "weights.npz", mine)
        assert_same(initialize_from(tmp_path / "weights.npz", shapes, some=some)[0], wanted)
        assert sorted(asked) == lacking


def test_of_heads_that_are_matched_by_name_the_other_columns_are_drawn():
    arrays = {"params/head/bias": np.zeros(3), "params/head/kernel": np.zeros((4, 3)), "params/stem/kernel": np.ones(2)}
    assert not_whole(arrays, arrays, by_name=True) == {"params/head/bias", "params/head/kernel"}
    assert not_whole(arrays, arrays, by_name=False) == set()
    larger = arrays | {"params/stem/kernel": np.ones(3), "params/new": np.ones(1)}
    assert not_whole(arrays, larger, by_name=False) == {"params/stem/kernel", "params/new"}
