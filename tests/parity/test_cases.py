import json

import jax
import numpy as np
from flax.traverse_util import flatten_dict

from vitjax.backbones.crossformer import CrossFormer
from vitjax.families.identify import identify, told_by
from vitjax.families.known import family_of
from vitjax.formats.tables import TensorFile, from_published, to_published
from vitjax.ops.groups import Grouping

from .comparison import compare, require_equal
from .families import run
from .models import Detector, published_of, shapes_of, table_for
from .zoo_images import CLASSES, network_place
from .zoo_images import shapes_of as network_shapes


def test_the_official_numbers_are_reproduced(golden_case, record_property):
    rows = compare(golden_case, run(golden_case))
    worst = max(rows, key=lambda row: row.ratio)
    record_property("golden", (golden_case.id, worst.name, worst.ratio))
    require_equal(golden_case, rows)


def test_every_published_name_has_a_place_in_its_model_and_comes_back(key_list):
    published = json.loads(key_list.read_text())
    state = {name: np.zeros(shape, dtype) for name, shape, dtype in published["state_dict"]}
    copies = published.get("aliases", {}).keys()
    model, table = published_of(key_list.stem), told_by(state).table
    variables = from_published(state, table=table, like=shapes_of(model))
    assert table == table_for(model)
    back = to_published(variables, table=table)
    assert {name: value.shape for name, value in back.items()} == {
        name: value.shape for name, value in state.items() if name not in copies and not table.drops(name)
    }
    assert sum(leaf.size for leaf in jax.tree.leaves(variables["params"])) == published["parameters"]
    never_trained = ("stem_conv", "stage_1") if isinstance(model, Detector) else ()
    params = variables["params"].get("detr", variables["params"])
    frozen = [params["backbone"][part] for part in never_trained]
    trainable = published["parameters"] - sum(leaf.size for leaf in jax.tree.leaves(frozen))
    assert trainable == published["trainable_parameters"]


def test_every_published_state_dict_tells_its_model_and_is_written_again(key_list):
    published = json.loads(key_list.read_text())
    state = {name: np.full(shape, i, dtype) for i, (name, shape, dtype) in enumerate(published["state_dict"])}
    state |= {name: state[first] for name, first in published.get("aliases", {}).items()}
    wanted = published_of(key_list.stem)
    if isinstance(wanted, CrossFormer):  # the part of a detector or segmenter, which is no model by itself
        return
    if key_list.stem.endswith("_v1branch"):  # today's names with the constants of 2021, and its rule for groups
        wanted = wanted.clone(backbone=wanted.backbone.clone(grouping=Grouping("stretched")))
    found, table = identify(TensorFile(state, {}, key_list.stem)), told_by(state).table
    assert (found.model, table) == (wanted, table_for(wanted))
    back = family_of(wanted).official.tensors_of(wanted, found.variables)
    assert back.keys() == {name for name in state if not table.drops(name)}
    for name, tensor in back.items():
        assert tensor.dtype == state[name].dtype and np.array_equal(tensor, state[name]), name


def test_residual_attention_networks_have_every_tensor_that_is_used(zoo_list):
    """The published blocks all have the convolution of a shortcut (`conv4`), and use it where shapes change."""
    published = json.loads(zoo_list.read_text())
    networks = {zoo_list.stem: published} if "state_dict" in published else published
    for name, numbers in networks.items():
        model = CLASSES[name]()
        ours = flatten_dict(network_shapes(model, classes=10), sep="/")
        used = sum(leaf.size for place, leaf in ours.items() if place.startswith("params"))
        assert (used, numbers["parameters"] - used) == (numbers["used_parameters"], numbers["unused_conv4_parameters"])
        tensors = {key: shape for key, shape, dtype in numbers.get("state_dict", []) if dtype.startswith("float")}
        placed = {place: tensors[key] for key in tensors if (place := network_place(key, model))}
        if tensors:
            wanted = {place: sorted(leaf.shape) for place, leaf in ours.items()}
            assert {place: sorted(shape) for place, shape in placed.items()} == wanted
