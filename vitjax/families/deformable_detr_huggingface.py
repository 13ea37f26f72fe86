"""Deformable DETR in the transformers library."""

import functools
import re
from typing import Any

from vitjax.data.errors import DataError
from vitjax.detection.deformable_detr import DeformableDETR
from vitjax.families.deformable_detr import aliases, copies, own_rules
from vitjax.families.family import Tensors
from vitjax.families.huggingface.form import Backbone, Form, Settings, require
from vitjax.families.huggingface.names import backbone_of, decoder, table
from vitjax.families.parts import deformable_attention
from vitjax.formats.tables import CONVOLUTION, Arrays, Table, layer, norm


def names(backbone: Backbone, *, refine: bool) -> Table:
    """The names of its tensors.

    Files with shared heads hold them under the name of every layer or of the first; those with refinement hold the
    heads of the layers as such, as parts of the decoder, or both.
    """
    rules = (
        *layer("model.input_proj.{level}.0", "input_projection_{level}", CONVOLUTION),
        *norm("model.input_proj.{level}.1", "input_norm_{level}"),
        *decoder(deformable_attention, "encoder_attn", "cross_attention"),
        *own_rules("model", refine=refine),
    )
    name = "deformable_detr_refine" if refine else "deformable_detr"
    return table(name, backbone, rules, aliases("model", refine=refine))


def with_heads_of_all_layers(tensors: Tensors, layers: int, table: Table) -> Arrays:
    """The tensors, and the heads of the first layer as those of every other of `layers` that has none.

    That is how the library reads files: a head that is not there is the first layer's.
    """
    filled = {table.primary(name): tensor for name, tensor in tensors.items()}
    for name, tensor in [*filled.items()]:
        if match := re.match(r"(class|bbox)_embed\.0\.", name):
            for other in range(1, layers):
                filled.setdefault(f"{match[1]}_embed.{other}.{name[match.end() :]}", tensor)
    return {**filled, **tensors}


def _filled(model: DeformableDETR, config: Settings, tensors: Arrays) -> Arrays:
    if not model.refine or not config.get("tie_word_embeddings", True):
        return tensors
    layers = model.decoder_layers + model.two_stage
    return with_heads_of_all_layers(tensors, layers, names(backbone_of(tensors), refine=True))


def _model_of(config: Settings, fields: dict[str, Any], maps: int) -> DeformableDETR:
    require(config, position_embedding_type="sine")
    if maps > (levels := fields["levels"]):
        raise DataError(f"config.json has num_feature_levels={levels}, but a backbone that gives {maps} maps.")
    if fields["two_stage"]:
        fields["num_queries"] = config.get("two_stage_num_proposals", 300)
    return DeformableDETR(backbone_levels=maps, **fields)


def _settings_of(model: DeformableDETR) -> dict[str, Any]:
    if model.channels % 32:
        raise DataError(f"transformers has no Deformable DETR with channels={model.channels}, only multiples of 32.")
    # Heads of their own are not one tensor under several names.
    own = {"two_stage_num_proposals": model.num_queries, "tie_word_embeddings": not model.refine}
    return {"position_embedding_type": "sine", **own}


FORM = Form(
    model_type="deformable_detr",
    kind="DeformableDetr",
    feed_forward=1024,
    fields={
        "num_queries": ("num_queries", 300),
        "num_feature_levels": ("levels", 4),
        "encoder_n_points": ("encoder_points", 4),
        "decoder_n_points": ("decoder_points", 4),
        "with_box_refine": ("refine", False),
        "two_stage": ("two_stage", False),
    },
    model_of=_model_of,
    settings_of=_settings_of,
    maps=lambda model: (model.backbone_levels, 1 if model.levels == 1 else 3),
    table_for=lambda model, backbone: names(backbone, refine=model.refine),
    filled=_filled,
    copies=functools.partial(copies, "model"),
)
