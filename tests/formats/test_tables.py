import re
from collections.abc import Iterator

import numpy as np
import pytest
from flax import traverse_util
from jax import ShapeDtypeStruct

from vitjax.families.detr import NAMES as DETR
from vitjax.families.identify import told_by
from vitjax.families.known import every_family
from vitjax.formats.tables import (
    PublishedError,
    Rule,
    Table,
    from_published,
    renamed_norms,
    to_published,
)

BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}
Shapes = Iterator[tuple[str, tuple[int, ...]]]


def norm_shapes(name: str, channels: int) -> Shapes:
    for part in ("weight", "bias", "running_mean", "running_var"):
        yield f"{name}.{part}", (channels,)


def resnet_shapes(depth: int, prefix: str = "") -> Shapes:
    """Names and shapes of torchvision's ResNet without fc; an eighth as wide as published, to keep the test small."""
    yield f"{prefix}conv1.weight", (8, 3, 7, 7)
    yield from norm_shapes(f"{prefix}bn1", 8)
    before = 8
    for stage, blocks in enumerate(BLOCKS[depth]):
        width = 8 * 2**stage
        after = 4 * width if depth >= 50 else width
        for block in range(blocks):
            name = f"{prefix}layer{stage + 1}.{block}"
            bottleneck = [(width, before, 1, 1), (width, width, 3, 3), (after, width, 1, 1)]
            kernels = bottleneck if depth >= 50 else [(width, before, 3, 3), (width, width, 3, 3)]
            for n, kernel in enumerate(kernels, start=1):
                yield f"{name}.conv{n}.weight", kernel
                yield from norm_shapes(f"{name}.bn{n}", kernel[0])
            if block == 0 and (stage > 0 or depth >= 50):
                yield f"{name}.downsample.0.weight", (after, before, 1, 1)
                yield from norm_shapes(f"{name}.downsample.1", after)
            before = after


def layer_shapes(name: str, channels: int, attentions: tuple[str, ...]) -> Shapes:
    for attention in attentions:
        yield f"{name}.{attention}.in_proj_weight", (3 * channels, channels)
        yield f"{name}.{attention}.in_proj_bias", (3 * channels,)
        yield f"{name}.{attention}.out_proj.weight", (channels, channels)
        yield f"{name}.{attention}.out_proj.bias", (channels,)
    for linear, shape in (("linear1", (24, channels)), ("linear2", (channels, 24))):
        yield f"{name}.{linear}.weight", shape
        yield f"{name}.{linear}.bias", shape[:1]
    for n in range(len(attentions) + 1):
        yield f"{name}.norm{n + 1}.weight", (channels,)
        yield f"{name}.norm{n + 1}.bias", (channels,)


def detr_shapes(depth: int = 50, *, learned: bool = False, pre_norm: bool = False) -> Shapes:
    """Names and shapes of a DETR checkpoint of six and six layers, 12 channels wide."""
    for i in range(6):
        yield from layer_shapes(f"transformer.encoder.layers.{i}", 12, ("self_attn",))
        yield from layer_shapes(f"transformer.decoder.layers.{i}", 12, ("self_attn", "multihead_attn"))
    for coder in ("encoder", "decoder") if pre_norm else ("decoder",):
        yield f"transformer.{coder}.norm.weight", (12,)
        yield f"transformer.{coder}.norm.bias", (12,)
    for name, shape in (("class_embed", (5, 12)), *((f"bbox_embed.layers.{n}", (12, 12)) for n in range(3))):
        yield f"{name}.weight", shape
        yield f"{name}.bias", shape[:1]
    yield "query_embed.weight", (7, 12)
    yield "input_proj.weight", (12, 256, 1, 1)
    yield "input_proj.bias", (12,)
    yield from resnet_shapes(depth, "backbone.0.body.")
    if learned:
        yield "backbone.1.row_embed.weight", (50, 6)
        yield "backbone.1.col_embed.weight", (50, 6)


def drawn(shapes: Shapes) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {name: rng.standard_normal(shape, dtype=np.float32) for name, shape in shapes}


def read(state, **options):
    """The variables that published tensors are, whatever family they are of."""
    return from_published(state, table=told_by(state).table, **options)


def flat(variables) -> dict[str, np.ndarray]:
    return traverse_util.flatten_dict(variables, sep="/")


def shapes_of(variables) -> dict:
    leaves = {path: ShapeDtypeStruct(value.shape, value.dtype) for path, value in flat(variables).items()}
    return traverse_util.unflatten_dict(leaves, sep="/")


@pytest.fixture(scope="module")
def state() -> dict[str, np.ndarray]:
    return drawn(detr_shapes())


@pytest.mark.parametrize(
    "shapes",
    [
        pytest.param(lambda: detr_shapes(50), id="detr_r50"),
        pytest.param(lambda: detr_shapes(101), id="detr_r101"),
        pytest.param(lambda: detr_shapes(18, learned=True, pre_norm=True), id="detr_r18_learned_pre_norm"),
        pytest.param(lambda: resnet_shapes(50, "backbone.0.body."), id="bare_backbone_r50"),
        pytest.param(lambda: resnet_shapes(34), id="torchvision_r34"),
        pytest.param(lambda: resnet_shapes(101), id="torchvision_r101"),
    ],
)
def test_there_and_back_again_is_the_same_bits(shapes):
    state = drawn(shapes())
    back = to_published(read(state), table=told_by(state).table)
    assert back.keys() == state.keys()
    assert all(back[name].dtype == np.float32 and back[name].tobytes() == state[name].tobytes() for name in state)


def test_published_detr_has_as_many_entries_as_the_official_checkpoints():
    assert len(list(detr_shapes(50))) == 458
    assert len(list(detr_shapes(101))) == 713


def test_frozen_norms_are_apart_from_what_trains(state):
    variables = read(state)
    assert set(variables) == {"params", "frozen"}
    assert set(variables["frozen"]) == {"backbone"}
    norms = [path for path in flat(variables["params"]) if path.startswith("backbone") and "norm" in path]
    assert not norms


def test_fused_projection_holds_query_key_and_value_in_this_order(state):
    fused = state["transformer.decoder.layers.2.multihead_attn.in_proj_weight"]
    attention = read(state)["params"]["decoder"]["layer_2"]["cross_attention"]
    parts = [attention[name]["kernel"] for name in ("query", "key", "value")]
    np.testing.assert_array_equal(np.concatenate([part.T for part in parts]), fused)


def test_convolutions_become_height_width_in_out(state):
    kernel = read(state)["params"]["backbone"]["stage_2"]["block_0"]["conv_2"]["kernel"]
    published = state["backbone.0.body.layer2.0.conv2.weight"]
    assert kernel[0, 2, 3, 4] == published[4, 3, 0, 2]


def test_counters_are_left_behind():
    state = drawn(resnet_shapes(18))
    counted = read(state | {"bn1.num_batches_tracked": np.array(3)})
    assert flat(counted).keys() == flat(read(state)).keys()


def test_the_head_of_torchvision_comes_along_where_it_is_there():
    backbone = drawn(resnet_shapes(18))
    whole = backbone | {"fc.weight": np.ones((10, 64), np.float32), "fc.bias": np.ones(10, np.float32)}
    head = read(whole)["params"]["head"]
    assert {name: array.shape for name, array in head.items()} == {"kernel": (64, 10), "bias": (10,)}
    assert read(backbone)["params"].keys() == {"backbone"}
    with pytest.raises(PublishedError, match=r"nothing fills \(2\): params/head/kernel"):
        read(backbone, like=shapes_of(read(whole)))


def test_batch_norms_take_the_form_that_the_other_side_has():
    frozen = [f"frozen/norm_1/{name}" for name in ("scale", "bias", "mean", "var")]
    learning = ["params/norm_1/scale", "params/norm_1/bias", "batch_stats/norm_1/mean", "batch_stats/norm_1/var"]
    others = ["params/conv_1/kernel", "params/norm_2/scale", "params/norm_2/bias", "frozen/norm_3/mean"]
    pairs = dict(zip(frozen, learning, strict=True))
    assert renamed_norms(frozen + others, learning + others) == pairs
    assert renamed_norms(learning + others, frozen + others) == {new: old for old, new in pairs.items()}
    assert renamed_norms(frozen + others, frozen + others) == {}


def test_a_group_norm_is_never_a_batch_norm():
    group = ["params/norm_1/scale", "params/norm_1/bias"]
    frozen = [f"frozen/norm_1/{name}" for name in ("scale", "bias", "mean", "var")]
    assert renamed_norms(group, frozen) == renamed_norms(frozen, group) == {}


def test_every_name_without_a_place_is_listed(state):
    with pytest.raises(PublishedError, match=r"\(2\): mask_head.lay1.weight \(3,\), query_embed.bias \(2,\)"):
        read(state | {"mask_head.lay1.weight": np.zeros(3), "query_embed.bias": np.zeros(2)})


def test_every_parameter_that_is_not_filled_is_listed(state):
    like = shapes_of(read(state))
    missing = {
        name: value for name, value in state.items() if not re.match(r"query_embed|.*layer1\.0\.bn1\.bias", name)
    }
    with pytest.raises(PublishedError) as error:
        read(missing, like=like)
    assert "nothing fills (2)" in str(error.value)
    assert "params/query_embedding (7, 12)" in str(error.value)
    assert "frozen/backbone/stage_1/block_0/norm_1/bias (8,)" in str(error.value)


def test_parameters_that_the_model_does_not_have_are_listed(state):
    like = shapes_of(read(state))
    more = state | {"transformer.encoder.norm.weight": np.ones(12, np.float32)}
    with pytest.raises(PublishedError, match=r"model does not have \(1\): params/encoder/norm/scale \(12,\)"):
        read(more, like=like)


def test_every_shape_that_differs_is_listed(state):
    like = shapes_of(read(state))
    other = state | {"class_embed.weight": np.zeros((9, 12)), "class_embed.bias": np.zeros(9)}
    with pytest.raises(PublishedError, match=r"shapes that differ \(2\)") as error:
        read(other, like=like)
    assert "params/class_head/kernel is (12, 9), the model has (12, 5)" in str(error.value)


@pytest.mark.parametrize(
    ("name", "shape"),
    [("class_embed.weight", (5,)), ("transformer.encoder.layers.0.self_attn.in_proj_bias", (35,))],
    ids=["too few axes", "three parts of unequal size"],
)
def test_a_tensor_of_another_form_is_named(state, name, shape):
    with pytest.raises(PublishedError, match=re.escape(f"(1): {name}: expected")):
        read(state | {name: np.zeros(shape)})


def test_names_of_no_family_are_refused():
    with pytest.raises(
        match=r"no known family \(detr, .*, crossformer, .*\) has any of the 1",
    ):
        read({"encoder.weight": np.zeros(2)})


def test_tensors_that_share_a_place_must_be_equal():
    table = Table("tied", (Rule("head.{n}.weight", ("params/head/kernel",), (1, 0)),))
    head = np.arange(6, dtype=np.float32).reshape(2, 3)
    variables = from_published({"head.0.weight": head, "head.1.weight": head.copy()}, table=table)
    np.testing.assert_array_equal(variables["params"]["head"]["kernel"], head.T)
    with pytest.raises(PublishedError, match=r"head\.1\.weight differs"):
        from_published({"head.0.weight": head, "head.1.weight": head + 1}, table=table)


def test_a_part_of_the_variables_can_be_written_alone(state):
    gradients = {"params": {"class_head": read(state)["params"]["class_head"]}}
    assert to_published(gradients, table=DETR).keys() == {"class_embed.weight", "class_embed.bias"}


def test_paths_without_a_published_name_and_torn_projections_are_listed(state):
    attention = {"query": {"kernel": np.zeros((4, 4))}}
    with pytest.raises(PublishedError) as error:
        encoder = {"layer_0": {"self_attention": attention}}
        to_published({"params": {"encoder": encoder, "extra": np.zeros(3)}}, table=DETR)
    assert "without a published name (1): params/extra (3,)" in str(error.value)
    assert "self_attention/key/kernel (part of transformer.encoder.layers.0.self_attn.in_proj_weight)" in str(
        error.value
    )


def test_no_published_name_has_two_places():
    for table in [table for family in every_family() if family.official for table in family.official.tables]:
        names = [rule.published for rule in table.rules]
        paths = [path for path, _ in table.paths]
        assert len(set(names)) == len(names)
        assert len(set(paths)) == len(paths)
