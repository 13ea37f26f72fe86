"""The names that the transformers library gives to the tensors that its detectors have in common.

Files hold other names than the modules of its newer versions have; both are known, and those of files are written. The
backbone is either the library's own ResNet or timm's.
"""

import functools
from collections.abc import Iterable, Mapping
from typing import Any

from vitjax.families import parts
from vitjax.families.huggingface.form import Backbone
from vitjax.formats.tables import CONVOLUTION, Rule, Table, frozen_norm, layer, norm

_BODY = "model.backbone.conv_encoder.model."
encoder, decoder = (functools.partial(part, top="model") for part in (parts.encoder, parts.decoder))

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


def attention(published: str, ours: str) -> tuple[Rule, ...]:
    """Multi-head attention, whose projections are apart."""
    pairs = {"q_proj": "query", "k_proj": "key", "v_proj": "value", "out_proj": "out"}
    return tuple(rule for theirs, name in pairs.items() for rule in layer(f"{published}.{theirs}", f"{ours}/{name}"))


_BACKBONES = {"transformers": _transformers_resnet(), "timm": parts.resnet(_BODY, "backbone/")}

_TRANSFORMER = (
    Rule("model.query_position_embeddings.weight", ("params/query_embedding",)),
    *decoder(attention, "self_attn", "self_attention"),
    *decoder(norm, "encoder_attn_layer_norm", "cross_attention_norm"),
    *(rule for part in (encoder, decoder) for rule in part(norm, "self_attn_layer_norm", "self_attention_norm")),
    *(rule for part in (encoder, decoder) for rule in part(layer, "fc1", "feed_forward/expand")),
    *(rule for part in (encoder, decoder) for rule in part(layer, "fc2", "feed_forward/contract")),
    *(rule for part in (encoder, decoder) for rule in part(norm, "final_layer_norm", "feed_forward_norm")),
)


def table(name: str, backbone: Backbone, rules: Iterable[Rule], aliases: tuple[tuple[str, str], ...] = ()) -> Table:
    """The names of a detector that has one of the two backbones: its own, then what all have in common."""
    every = (*rules, *_BACKBONES[backbone], *_TRANSFORMER)
    return Table(f"huggingface_{name}_{backbone}", every, aliases=(*_ALIASES, *aliases))


def backbone_of(tensors: Mapping[str, Any]) -> Backbone:
    """Whose ResNet has these names."""
    return "transformers" if any(".embedder.embedder." in name for name in tensors) else "timm"
