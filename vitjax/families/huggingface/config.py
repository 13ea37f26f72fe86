"""What config.json in a Hugging Face folder means here, and the reverse."""

from collections.abc import Collection
from typing import Any

import flax.linen as nn

from vitjax.data.errors import DataError
from vitjax.data.source import Classes
from vitjax.families.family import Family
from vitjax.families.huggingface.form import Backbone, Form, Settings, every_form, require
from vitjax.families.huggingface.resnet import backbone_in, backbone_settings

# Options that all forms share, each with the field of the model that it is, and its default.
_SHARED: dict[str, tuple[str, Any]] = {
    "d_model": ("channels", 256),
    "encoder_layers": ("encoder_layers", 6),
    "decoder_layers": ("decoder_layers", 6),
    "dropout": ("dropout", 0.1),
}


def model_in(config: Settings, *, masks: bool = False) -> tuple[nn.Module, Family, Form]:
    """The model that config.json describes, its family, and the family's form.

    It makes masks where config.json says so, or where it says nothing and there are `masks` among the tensors.

    Raises:
        DataError: it has an option that there is not here.
    """
    kind, forms = config.get("model_type"), every_form()
    known = list(dict.fromkeys(form.model_type for _, form in forms))
    if kind not in known:
        raise DataError(f"config.json has model_type={kind!r}; what can be read is {' and '.join(known)}.")
    mine = {form.purpose: (family, form) for family, form in forms if form.model_type == kind}
    family, form = mine[_purpose(config, mine, masks)]
    require(config, num_channels=3)
    if "activation_function" not in form.fields:
        require(config, activation_function="relu")
    for option, (_, default) in _both(form).items():
        encoder, decoder = (config.get(f"{part}_{option}", default) for part in ("encoder", "decoder"))
        if encoder != decoder:
            raise DataError(
                f"config.json has encoder_{option}={encoder} and decoder_{option}={decoder}; here both are the same."
            )
    backbone, maps = backbone_in(config)
    options = {**_SHARED, **{f"encoder_{option}": field for option, field in _both(form).items()}, **form.fields}
    given = {option: value for option, value in config.items() if value is not None}
    fields = {field: type(default)(given.get(option, default)) for option, (field, default) in options.items()}
    fields |= {"backbone": backbone, "num_classes": len(classes_in(config))}
    return form.model_of(config, fields, maps), family, form


def _purpose(config: Settings, known: Collection[str], masks: bool) -> str:
    """What the model is for, as the name of its class in the library ends."""
    classes = [str(name) for name in config.get("architectures") or ()]
    told = next((purpose for purpose in known if any(name.endswith(purpose) for name in classes)), None)
    guess = "ForSegmentation" if masks and not classes and "ForSegmentation" in known else "ForObjectDetection"
    return told or guess


def _both(form: Form) -> dict[str, tuple[str, int]]:
    """Options that encoder and decoder have each, which here are one field."""
    return {"attention_heads": ("heads", 8), "ffn_dim": ("feed_forward", form.feed_forward)}


def config_of(model: Any, form: Form, classes: Classes) -> tuple[dict[str, Any], Backbone]:
    """What config.json says of a model, and whose ResNet it is: the library's own, or timm's where it is dilated.

    Raises:
        DataError: the library has no such model.
    """
    model = form.inside(model)
    maps, dilated_maps = form.maps(model)
    backbone, whose = backbone_settings(model.backbone, maps, dilated_maps=dilated_maps)
    both = [(f"{part}_{option}", value) for part in ("encoder", "decoder") for option, value in _both(form).items()]
    config = {
        "model_type": form.model_type,
        "architectures": [f"{form.kind}{form.purpose}"],
        **backbone,
        **_labels(classes),
        **{option: getattr(model, field) for option, (field, _) in (*_SHARED.items(), *both, *form.fields.items())},
        "activation_function": "relu",
        "auxiliary_loss": False,
        "torch_dtype": "float32",
    }
    return config | form.settings_of(model), whose


def classes_in(config: Settings) -> Classes:
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
    return Classes(cleared, tuple(config.get("category_ids") or range(count)), tuple(config.get("stuff") or ()))


def _labels(classes: Classes) -> dict[str, Any]:
    named = any(classes.names)
    names = [name or ("N/A" if named else f"LABEL_{label}") for label, name in enumerate(classes.names)]
    labels: dict[str, Any] = {"id2label": {str(label): name for label, name in enumerate(names)}}
    labels["label2id"] = {name: label for label, name in enumerate(names)}
    if classes.category_ids != tuple(range(len(names))):
        labels["category_ids"] = list(classes.category_ids)
    if classes.stuff:
        labels["stuff"] = list(classes.stuff)
    return labels
