"""Tables of the names that the transformers library gives to the tensors of DETR and Deformable DETR.

Files hold other names than the modules of its newer versions have; both are known, and those of files are written. The
backbone is either the library's own ResNet or timm's.
"""

import re
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from vitjax.formats.tables import (
    CONVOLUTION,
    Rule,
    Table,
    deformable_attention,
    frozen_norm,
    layer,
    norm,
    resnet,
)

Backbone = Literal["transformers", "timm"]

_BODY = "model.backbone.conv_encoder.model."
_ENCODER, _OUR_ENCODER = "model.encoder.layers.{layer}", "encoder/layer_{layer}"
_DECODER, _OUR_DECODER = "model.decoder.layers.{layer}", "decoder/layer_{layer}"

# Names in memory, and those of old versions, as they are in files.
_ALIASES = (
    (r"model\.backbone\.model\.", _BODY),
    (r"(model\.(?:en|de)coder\.layers\.\d+\.(?:self|encoder)_attn)\.o_proj\.", r"\1.out_proj."),
    (r"(model\.(?:en|de)coder\.layers\.\d+)\.mlp\.fc", r"\1.fc"),
    (r"model\.backbone\.position_embedding\.", "model.position_embedding."),
)


def _transformers_resnet() -> tuple[Rule, ...]:
    """The library's own ResNet, which counts stages and convolutions from 0."""
    stem = f"{_BODY}embedder.embedder"
    rules = [
        Rule(f"{stem}.convolution.weight", ("params/backbone/stem_conv/kernel",), CONVOLUTION),
        *frozen_norm(f"{stem}.normalization", "backbone/stem_norm"),
    ]
    for stage in range(4):
        block, ours = f"{_BODY}encoder.stages.{stage}.layers.{{block}}", f"backbone/stage_{stage + 1}/block_{{block}}"
        parts = {f"layer.{n}": (f"conv_{n + 1}", f"norm_{n + 1}") for n in range(3)}
        for theirs, (conv, batch_norm) in {**parts, "shortcut": ("shortcut_conv", "shortcut_norm")}.items():
            kernel = f"params/{ours}/{conv}/kernel"
            rules.append(Rule(f"{block}.{theirs}.convolution.weight", (kernel,), CONVOLUTION))
            rules.extend(frozen_norm(f"{block}.{theirs}.normalization", f"{ours}/{batch_norm}"))
    return tuple(rules)


def _attention(published: str, ours: str) -> tuple[Rule, ...]:
    """Multi-head attention, whose projections are apart."""
    pairs = {"q_proj": "query", "k_proj": "key", "v_proj": "value", "out_proj": "out"}
    return tuple(rule for theirs, name in pairs.items() for rule in layer(f"{published}.{theirs}", f"{ours}/{name}"))


def _feed_forward(published: str, ours: str) -> tuple[Rule, ...]:
    """The two linear layers at the end of a transformer layer, and the norm after them."""
    return (
        *layer(f"{published}.fc1", f"{ours}/feed_forward/expand"),
        *layer(f"{published}.fc2", f"{ours}/feed_forward/contract"),
        *norm(f"{published}.final_layer_norm", f"{ours}/feed_forward_norm"),
    )


_BACKBONES = {"transformers": _transformers_resnet(), "timm": resnet(_BODY, "backbone/")}

_TRANSFORMER = (
    Rule("model.query_position_embeddings.weight", ("params/query_embedding",)),
    *norm(f"{_ENCODER}.self_attn_layer_norm", f"{_OUR_ENCODER}/self_attention_norm"),
    *_feed_forward(_ENCODER, _OUR_ENCODER),
    *_attention(f"{_DECODER}.self_attn", f"{_OUR_DECODER}/self_attention"),
    *norm(f"{_DECODER}.self_attn_layer_norm", f"{_OUR_DECODER}/self_attention_norm"),
    *norm(f"{_DECODER}.encoder_attn_layer_norm", f"{_OUR_DECODER}/cross_attention_norm"),
    *_feed_forward(_DECODER, _OUR_DECODER),
)

_DETR = (
    *_TRANSFORMER,
    *layer("model.input_projection", "input_projection", CONVOLUTION),
    Rule("model.position_embedding.row_embeddings.weight", ("params/position/row",)),
    Rule("model.position_embedding.column_embeddings.weight", ("params/position/column",)),
    *_attention(f"{_ENCODER}.self_attn", f"{_OUR_ENCODER}/self_attention"),
    *_attention(f"{_DECODER}.encoder_attn", f"{_OUR_DECODER}/cross_attention"),
    *norm("model.decoder.layernorm", "decoder/norm"),
    *layer("class_labels_classifier", "class_head"),
    *layer("bbox_predictor.layers.{n}", "box_head/layer_{n}"),
)

_DEFORMABLE = (
    *_TRANSFORMER,
    *layer("model.input_proj.{level}.0", "input_projection_{level}", CONVOLUTION),
    *norm("model.input_proj.{level}.1", "input_norm_{level}"),
    Rule("model.level_embed", ("params/level_embedding",)),
    *deformable_attention(f"{_ENCODER}.self_attn", f"{_OUR_ENCODER}/self_attention"),
    *deformable_attention(f"{_DECODER}.encoder_attn", f"{_OUR_DECODER}/cross_attention"),
    *layer("model.reference_points", "reference_points"),
)

_SHARED_HEADS = (*layer("class_embed.0", "class_head"), *layer("bbox_embed.0.layers.{n}", "box_head/layer_{n}"))

_REFINE = (
    *layer("class_embed.{layer}", "class_head_{layer}"),
    *layer("bbox_embed.{layer}.layers.{n}", "box_head_{layer}/layer_{n}"),
    *layer("model.enc_output", "proposals/projection"),
    *norm("model.enc_output_norm", "proposals/norm"),
    *layer("model.pos_trans", "proposals/query_projection"),
    *norm("model.pos_trans_norm", "proposals/query_norm"),
)


def detr(backbone: Backbone) -> Table:
    """The names of DETR."""
    return Table(f"huggingface_detr_{backbone}", (*_BACKBONES[backbone], *_DETR), aliases=_ALIASES)


def deformable_detr(backbone: Backbone, *, refine: bool) -> Table:
    """The names of Deformable DETR: one pair of heads that all layers share, or with `refine` one for every layer.

    Files with shared heads hold them under the name of every layer or of the first; those with refinement hold the
    heads of the layers as such, as parts of the decoder, or both.
    """
    if not refine:
        aliases = (*_ALIASES, (r"(class|bbox)_embed\.\d+\.", r"\1_embed.0."))
        rules = (*_BACKBONES[backbone], *_DEFORMABLE, *_SHARED_HEADS)
        return Table(f"huggingface_deformable_detr_{backbone}", rules, aliases=aliases)
    aliases = (*_ALIASES, (r"model\.decoder\.(class|bbox)_embed\.", r"\1_embed."))
    rules = (*_BACKBONES[backbone], *_DEFORMABLE, *_REFINE)
    return Table(f"huggingface_deformable_detr_refine_{backbone}", rules, aliases=aliases)


def backbone_of(state: Mapping[str, Any]) -> Backbone:
    """Whose ResNet has these names."""
    return "transformers" if any(".embedder.embedder." in name for name in state) else "timm"


def with_heads_of_all_layers(tensors: Mapping[str, np.ndarray], layers: int, table: Table) -> dict[str, np.ndarray]:
    """The tensors, and the heads of the first layer as those of every other of `layers` that has none.

    That is how the library reads files: a head that is not there is the first layer's.
    """
    filled = {table.primary(name): tensor for name, tensor in tensors.items()}
    for name, tensor in [*filled.items()]:
        if match := re.match(r"(class|bbox)_embed\.0\.", name):
            for other in range(1, layers):
                filled.setdefault(f"{match[1]}_embed.{other}.{name[match.end() :]}", tensor)
    return {**filled, **tensors}


def with_copies_in_decoder(tensors: Mapping[str, np.ndarray], *, two_stage: bool) -> dict[str, np.ndarray]:
    """The tensors, and the heads that refine boxes once more as parts of the decoder, as the library has them."""
    heads = ("bbox_embed.", "class_embed.") if two_stage else ("bbox_embed.",)
    return {**tensors, **{f"model.decoder.{name}": x for name, x in tensors.items() if name.startswith(heads)}}
