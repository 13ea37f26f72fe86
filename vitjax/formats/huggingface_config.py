"""What config.json in a Hugging Face folder means here, and the reverse."""

from typing import Any

from vitjax.data.errors import DataError
from vitjax.data.source import Classes
from vitjax.detection.deformable_detr import DeformableDETR
from vitjax.detection.detr import DETR
from vitjax.formats.huggingface_resnet import Settings, require, resnet_of, settings_of
from vitjax.formats.huggingface_tables import Backbone

_ARCHITECTURES = {"detr": "DetrForObjectDetection", "deformable_detr": "DeformableDetrForObjectDetection"}


def model_of(config: Settings) -> DETR | DeformableDETR:
    """The model that config.json describes.

    Raises:
        DataError: it has an option that there is not here.
    """
    kind = config.get("model_type")
    if kind not in _ARCHITECTURES:
        raise DataError(f"config.json has model_type={kind!r}; what can be read is {' and '.join(_ARCHITECTURES)}.")
    require(config, activation_function="relu", num_channels=3)
    for option, default in (("attention_heads", 8), ("ffn_dim", 2048 if kind == "detr" else 1024)):
        encoder, decoder = (config.get(f"{part}_{option}", default) for part in ("encoder", "decoder"))
        if encoder != decoder:
            raise DataError(
                f"config.json has encoder_{option}={encoder} and decoder_{option}={decoder}; here both are the same."
            )
    backbone, maps = resnet_of(config)
    shared: dict[str, Any] = {
        "backbone": backbone,
        "num_classes": len(classes_of(config)),
        "channels": config.get("d_model", 256),
        "heads": config.get("encoder_attention_heads", 8),
        "encoder_layers": config.get("encoder_layers", 6),
        "decoder_layers": config.get("decoder_layers", 6),
        "dropout": float(config.get("dropout", 0.1)),
    }
    return _detr_of(config, shared) if kind == "detr" else _deformable_of(config, shared, maps)


def _detr_of(config: Settings, shared: dict[str, Any]) -> DETR:
    # With it the library normalises between the layers of the decoder, and what they are trained to do is another.
    require(config, auxiliary_loss=False)
    position = config.get("position_embedding_type", "sine")
    if position not in ("sine", "learned"):
        raise DataError(f"config.json has position_embedding_type={position!r}; here there are 'sine' and 'learned'.")
    queries, hidden = config.get("num_queries", 100), config.get("encoder_ffn_dim", 2048)
    return DETR(num_queries=queries, feed_forward=hidden, position=position, **shared)


def _deformable_of(config: Settings, shared: dict[str, Any], maps: int) -> DeformableDETR:
    require(config, position_embedding_type="sine")
    two_stage, levels = bool(config.get("two_stage", False)), config.get("num_feature_levels", 4)
    if maps > levels:
        raise DataError(f"config.json has num_feature_levels={levels}, but a backbone that gives {maps} maps.")
    return DeformableDETR(
        num_queries=config.get("two_stage_num_proposals" if two_stage else "num_queries", 300),
        feed_forward=config.get("encoder_ffn_dim", 1024),
        levels=levels,
        backbone_levels=maps,
        encoder_points=config.get("encoder_n_points", 4),
        decoder_points=config.get("decoder_n_points", 4),
        refine=bool(config.get("with_box_refine", False)),
        two_stage=two_stage,
        **shared,
    )


def config_of(model: DETR | DeformableDETR, classes: Classes) -> tuple[dict[str, Any], Backbone]:
    """What config.json says of a model, and whose ResNet it is: the library's own, or timm's where it is dilated.

    Raises:
        DataError: the library has no such model.
    """
    kind, maps, timm_maps = "detr", 4, 4
    if isinstance(model, DeformableDETR):
        kind, maps, timm_maps = "deformable_detr", model.backbone_levels, 1 if model.levels == 1 else 3
    backbone, whose = settings_of(model.backbone, maps, dilated_maps=timm_maps)
    config = {
        "model_type": kind,
        "architectures": [_ARCHITECTURES[kind]],
        **backbone,
        **_labels(classes),
        "num_queries": model.num_queries,
        "d_model": model.channels,
        "encoder_layers": model.encoder_layers,
        "decoder_layers": model.decoder_layers,
        "encoder_attention_heads": model.heads,
        "decoder_attention_heads": model.heads,
        "encoder_ffn_dim": model.feed_forward,
        "decoder_ffn_dim": model.feed_forward,
        "dropout": model.dropout,
        "activation_function": "relu",
        "auxiliary_loss": False,
        "torch_dtype": "float32",
    }
    return config | (_of_detr(model) if isinstance(model, DETR) else _of_deformable(model)), whose


def _of_detr(model: DETR) -> dict[str, Any]:
    if model.pre_norm:
        raise DataError("transformers has no DETR with pre_norm=True, so it cannot be written for it.")
    return {"position_embedding_type": model.position}


def _of_deformable(model: DeformableDETR) -> dict[str, Any]:
    if model.channels % 32:
        raise DataError(f"transformers has no Deformable DETR with channels={model.channels}, only multiples of 32.")
    return {
        "position_embedding_type": "sine",
        "num_feature_levels": model.levels,
        "encoder_n_points": model.encoder_points,
        "decoder_n_points": model.decoder_points,
        "with_box_refine": model.refine,
        "two_stage": model.two_stage,
        "two_stage_num_proposals": model.num_queries,
        # Heads of their own are not one tensor under several names.
        "tie_word_embeddings": not model.refine,
    }


def classes_of(config: Settings) -> Classes:
    """What the labels of config.json mean; "N/A" and the library's own LABEL_0, LABEL_1 and so on are no names.

    Raises:
        DataError: there are names of labels that the model does not have.
    """
    names = {int(label): str(name) for label, name in (config.get("id2label") or {}).items()}
    count = len(names) or config.get("num_labels", 2)
    if extra := sorted(names.keys() - set(range(count))):
        raise DataError(
            f"config.json has id2label with {count} labels, which are 0 to {count - 1}; got {extra[0]} too."
        )
    known = (names.get(label, "") for label in range(count))
    cleared = tuple("" if name in ("N/A", f"LABEL_{label}") else name for label, name in enumerate(known))
    return Classes(cleared, tuple(config.get("category_ids") or range(count)))


def _labels(classes: Classes) -> dict[str, Any]:
    named = any(classes.names)
    names = [name or ("N/A" if named else f"LABEL_{label}") for label, name in enumerate(classes.names)]
    labels: dict[str, Any] = {"id2label": {str(label): name for label, name in enumerate(names)}}
    labels["label2id"] = {name: label for label, name in enumerate(names)}
    if classes.category_ids != tuple(range(len(names))):
        labels["category_ids"] = list(classes.category_ids)
    return labels
