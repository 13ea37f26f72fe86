import re
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util
from quick import drawn as drawn_like

from vitjax.backbones.crossformer import CrossFormer
from vitjax.backbones.resnet import ResNet
from vitjax.classification.classifier import Classifier
from vitjax.families.crossformer import NAMES as CROSSFORMER
from vitjax.families.deformable_detr import NAMES as DEFORMABLE_DETR
from vitjax.families.deformable_detr import NAMES_REFINE as DEFORMABLE_DETR_REFINE
from vitjax.families.identify import told_by
from vitjax.families.resnet import NAMES as RESNET
from vitjax.formats.tables import PublishedError, from_published, to_published
from vitjax.structs import Images

Shapes = Iterator[tuple[str, tuple[int, ...]]]


def deformable_layer_shapes(name: str, attention: str, norms: int) -> Shapes:
    for linear, shape in (("linear1", (24, 12)), ("linear2", (12, 24))):
        yield f"{name}.{linear}.weight", shape
        yield f"{name}.{linear}.bias", shape[:1]
    for part, size in (("sampling_offsets", 16), ("attention_weights", 8), ("value_proj", 12), ("output_proj", 12)):
        yield f"{name}.{attention}.{part}.weight", (size, 12)
        yield f"{name}.{attention}.{part}.bias", (size,)
    for n in range(norms):
        yield f"{name}.norm{n + 1}.weight", (12,)
        yield f"{name}.norm{n + 1}.bias", (12,)


def deformable_shapes(*, two_stage: bool = False) -> Shapes:
    """Names and shapes of a Deformable DETR without what is there twice: two levels, two layers, heads aside."""
    for i in range(2):
        yield from deformable_layer_shapes(f"transformer.encoder.layers.{i}", "self_attn", 2)
        decoder = f"transformer.decoder.layers.{i}"
        yield from deformable_layer_shapes(decoder, "cross_attn", 3)
        yield f"{decoder}.self_attn.in_proj_weight", (36, 12)
        yield f"{decoder}.self_attn.in_proj_bias", (36,)
        yield f"{decoder}.self_attn.out_proj.weight", (12, 12)
        yield f"{decoder}.self_attn.out_proj.bias", (12,)
        yield f"input_proj.{i}.0.weight", (12, 256, 1 + 2 * i, 1 + 2 * i)
        for part in ("0.bias", "1.weight", "1.bias"):
            yield f"input_proj.{i}.{part}", (12,)
    yield "transformer.level_embed", (2, 12)
    sizes = {"enc_output": 12, "pos_trans": 24} if two_stage else {}
    for name, size in sizes.items():
        yield f"transformer.{name}.weight", (size, size)
        for part in (".bias", "_norm.weight", "_norm.bias"):
            yield f"transformer.{name}{part}", (size,)
    if not two_stage:
        yield "query_embed.weight", (7, 24)
        yield "transformer.reference_points.weight", (2, 12)
        yield "transformer.reference_points.bias", (2,)
    yield "backbone.0.body.conv1.weight", (8, 3, 7, 7)


def head_shapes(heads: int) -> Shapes:
    for i in range(heads):
        sizes = {f"class_embed.{i}": 5, **{f"bbox_embed.{i}.layers.{n}": (12, 12, 4)[n] for n in range(3)}}
        for name, size in sizes.items():
            yield f"{name}.weight", (size, 12)
            yield f"{name}.bias", (size,)


def is_head(name: str) -> bool:
    return "_embed." in name and "query" not in name


def shared_heads(state: dict[str, np.ndarray], layers: int = 2) -> dict[str, np.ndarray]:
    """A state with one pair of heads, as published: once more for every layer after the first."""
    copies = {name: value for name, value in state.items() if is_head(name)}
    later = range(1, layers)
    return state | {name.replace("embed.0.", f"embed.{i}."): value for i in later for name, value in copies.items()}


def heads_in_decoder(state: dict[str, np.ndarray], pattern: str = "bbox_embed") -> dict[str, np.ndarray]:
    """A state with heads for every layer, as published: once more as parts of the decoder."""
    copies = {name: value for name, value in state.items() if is_head(name) and re.match(pattern, name)}
    return state | {f"transformer.decoder.{name}": value for name, value in copies.items()}


def read(state, **options):
    """The variables that published tensors are, whatever family they are of."""
    return from_published(state, table=told_by(state).table, **options)


def flat(variables) -> dict[str, np.ndarray]:
    return traverse_util.flatten_dict(variables, sep="/")


def deformable(heads: int, *, two_stage: bool = False) -> dict[str, np.ndarray]:
    """A checkpoint with so many pairs of heads, each tensor of it once."""
    rng = np.random.default_rng(0)
    shapes = [*deformable_shapes(two_stage=two_stage), *head_shapes(heads)]
    return {name: rng.standard_normal(shape, dtype=np.float32) for name, shape in shapes}


@pytest.mark.parametrize(
    ("state", "table"),
    [
        pytest.param(lambda: deformable(1), DEFORMABLE_DETR, id="shared"),
        pytest.param(lambda: deformable(2), DEFORMABLE_DETR_REFINE, id="refine"),
        pytest.param(lambda: deformable(3, two_stage=True), DEFORMABLE_DETR_REFINE, id="two_stage"),
    ],
)
def test_deformable_detr_without_copies_goes_there_and_back_again(state, table):
    state = state()
    assert told_by(state).table == table
    back = to_published(read(state), table=table)
    assert back.keys() == state.keys()
    assert all(back[name].tobytes() == state[name].tobytes() for name in state)


@pytest.mark.parametrize(
    ("state", "copied", "table"),
    [
        pytest.param(lambda: deformable(1), shared_heads, DEFORMABLE_DETR, id="shared"),
        pytest.param(lambda: deformable(2), heads_in_decoder, DEFORMABLE_DETR_REFINE, id="refine"),
        pytest.param(
            lambda: deformable(3, two_stage=True),
            lambda state: heads_in_decoder(state, "bbox_embed|class_embed"),
            DEFORMABLE_DETR_REFINE,
            id="two_stage",
        ),
    ],
)
def test_copies_in_published_files_are_read_and_not_written(state, copied, table):
    state = state()
    with_copies = copied(state)
    assert len(with_copies) > len(state) and told_by(with_copies).table == table
    found, wanted = (flat(read(each)) for each in (with_copies, state))
    assert found.keys() == wanted.keys()
    assert all(np.array_equal(found[path], wanted[path]) for path in wanted)
    assert to_published(read(with_copies), table=table).keys() == state.keys()


@pytest.mark.parametrize(
    ("state", "name"),
    [
        pytest.param(lambda: shared_heads(deformable(1), layers=6), "class_embed.3.bias", id="shared"),
        pytest.param(
            lambda: heads_in_decoder(deformable(2)), "transformer.decoder.bbox_embed.1.layers.0.bias", id="refine"
        ),
    ],
)
def test_a_copy_that_differs_is_refused(state, name):
    state = state()
    with pytest.raises(PublishedError, match=r"that do not fit .* differs from another tensor"):
        read(state | {name: state[name] + 1})


def test_norms_of_deformable_decoder_layers_are_numbered_in_another_order():
    state = deformable(1)
    layer = read(state)["params"]["decoder"]["layer_1"]
    for ours, theirs in (("cross_attention", "norm1"), ("self_attention", "norm2"), ("feed_forward", "norm3")):
        published = state[f"transformer.decoder.layers.1.{theirs}.weight"]
        np.testing.assert_array_equal(layer[f"{ours}_norm"]["scale"], published)


def crossformer():
    """A small classifier with a cooling layer: its variables, and the same under their published names."""
    backbone = CrossFormer(channels=16, depths=(1, 4), heads=(1, 2), group_sizes=(2, 2), intervals=(2, 1), cooling=True)
    images = Images(jnp.zeros((1, 16, 16, 3)), jnp.ones((1, 16, 16), bool))
    model = Classifier(backbone, num_classes=3)
    variables = drawn_like(jax.eval_shape(lambda: model.init(jax.random.key(0), images, train=False)))
    return variables, to_published(variables, table=CROSSFORMER)


def test_crossformer_goes_to_published_names_and_back_again():
    variables, state = crossformer()
    assert {
        "patch_embed.projs.3.weight",
        "layers.0.downsample.reductions.1.weight",
        "layers.1.blocks.2.ex_conv.weight",
        "layers.1.blocks.0.attn.pos.pos3.2.bias",
        "norm.weight",
        "head.bias",
    } <= state.keys()
    assert state["layers.0.downsample.reductions.1.weight"].shape == (16, 16, 4, 4)
    assert state["layers.1.blocks.2.ex_conv.weight"].shape == (32, 1, 3, 3)
    assert told_by(state).table == CROSSFORMER
    found, wanted = flat(read(state, like=variables)), flat(variables)
    assert found.keys() == wanted.keys()
    assert all(np.array_equal(found[path], wanted[path]) for path in wanted)


@pytest.mark.parametrize("norm", ["frozen_batch", "batch"])
def test_a_resnet_classifier_goes_to_torchvisions_names_and_back_again(norm):
    model = Classifier(ResNet(depth=50, width=8, stage_blocks=(1, 1), norm=norm), num_classes=3, norm=False)
    images = Images(jnp.zeros((1, 32, 32, 3)), jnp.ones((1, 32, 32), bool))
    variables = drawn_like(jax.eval_shape(lambda: model.init(jax.random.key(0), images, train=False)))
    state = to_published(variables, table=RESNET)
    assert {"bn1.running_var", "layer2.0.downsample.1.weight", "layer2.0.bn3.running_mean", "fc.bias"} <= state.keys()
    assert state["fc.weight"].shape == (3, 64)
    assert told_by(state).table == RESNET
    found, wanted = flat(read(state, like=variables)), flat(variables)
    assert found.keys() == wanted.keys()
    assert all(np.array_equal(found[path], wanted[path]) for path in wanted)


def test_constants_in_crossformer_files_of_2021_are_left_behind():
    variables, state = crossformer()
    block = "layers.0.blocks.0.attn"
    constants = {f"{block}.biases": (9, 2), f"{block}.relative_position_index": (4, 4), f"{block}_mask": (4, 4)}
    old = state | {name: np.zeros(shape) for name, shape in constants.items()}
    assert flat(read(old, like=variables)).keys() == flat(variables).keys()


def test_the_backbone_of_an_mmdetection_file_is_found_under_its_prefix():
    _, state = crossformer()
    inside = {f"backbone.{name}": value for name, value in state.items() if not re.match(r"(norm|head)\.", name)}
    detector = inside | {"neck.fpn_convs.0.conv.weight": np.zeros(3), "bbox_head.retina_cls.bias": np.zeros(3)}
    assert told_by(detector).table == CROSSFORMER
    assert read(detector)["params"].keys() == {"backbone"}
