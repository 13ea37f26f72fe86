"""Models that are not here are called by their names, with advice, in one line."""

import numpy as np
import pytest
from published import MODELS, file_of, tensors_of

from vitjax.data.errors import DataError
from vitjax.errors import VitjaxError
from vitjax.families.near import near_family
from vitjax.formats.tensor_files import write_tensors
from vitjax.runs.initial import read_weights
from vitjax.runs.read_model import read_model

R50 = {
    "conv1.weight": (64, 3, 7, 7),
    "layer1.0.conv1.weight": (64, 64, 1, 1),
    "layer1.0.conv2.weight": (64, 64, 3, 3),
    "layer1.0.conv3.weight": (256, 64, 1, 1),
    "fc.weight": (10, 2048),
    "fc.bias": (10,),
}
SWIN = {
    "patch_embed.proj.weight": (96, 3, 4, 4),
    "layers.0.blocks.0.norm1.weight": (96,),
    "layers.0.blocks.0.attn.qkv.weight": (288, 96),
    "layers.0.blocks.0.attn.relative_position_bias_table": (169, 3),
    "norm.weight": (768,),
    "head.weight": (1000, 768),
}
DETR = {"transformer.encoder.layers.0.linear1.weight": (16, 8), "class_embed.weight": (92, 8)}
NEAR = {
    "a Swin Transformer": SWIN,
    "a Swin Transformer, in a detector": {f"backbone.0.{name}": shape for name, shape in SWIN.items()} | DETR,
    "a ResNet-D": R50 | {"conv1.0.weight": (32, 3, 3, 3), "conv1.3.weight": (32, 32, 3, 3)},
    "a ResNeXt": R50 | {"layer1.0.conv1.weight": (128, 64, 1, 1), "layer1.0.conv2.weight": (128, 4, 3, 3)},
    "a wide ResNet": R50 | {"layer1.0.conv1.weight": (128, 64, 1, 1), "layer1.0.conv2.weight": (128, 128, 3, 3)},
    "a ResNet with squeeze-and-excitation": R50 | {"layer1.0.se.fc1.weight": (16, 256, 1, 1)},
    "a ResNet of detectron2": {f"res2.{n}.conv1.norm.weight": (64,) for n in range(9)}
    | {"stem.conv1.weight": (64, 3, 7, 7)},
    "a ResNet of the transformers library": {"resnet.embedder.embedder.convolution.weight": (64, 3, 7, 7)},
    "a ViT": {"cls_token": (1, 1, 768), "pos_embed": (1, 197, 768), "blocks.0.attn.qkv.weight": (2304, 768)},
    "a ConvNeXt": {"stages.0.0.dwconv.weight": (96, 1, 7, 7), "stages.0.0.gamma": (96,)},
    "a DAB-Deformable-DETR": DETR
    | {"transformer.level_embed": (4, 8), "refpoint_embed.weight": (300, 4)}
    | {f"transformer.encoder.layers.{n}.self_attn.sampling_offsets.weight": (64, 8) for n in range(6)},
    "a DN-DETR or DINO": DETR | {"label_enc.weight": (92, 8)},
    "a DN-DETR or DINO, with boxes": DETR | {"refpoint_embed.weight": (300, 4), "label_enc.weight": (92, 8)},
    "an RT-DETR": {"decoder.dec_score_head.0.weight": (80, 256)},
    "a Faster or Mask R-CNN": {f"backbone.body.{name}": shape for name, shape in R50.items()}
    | {"rpn.head.conv.0.0.weight": (256, 256, 3, 3)},
    "a YOLO": {"model.0.conv.weight": (16, 3, 3, 3), "model.1.conv.weight": (32, 16, 3, 3)},
    "a model of mmdetection": {"encoder.layers.0.ffns.0.layers.0.0.weight": (8, 8), "bbox_head.fc_cls.weight": (9, 8)},
    "a detector of the transformers library": {
        "model.encoder.layers.0.self_attn.k_proj.weight": (8, 8),
        "class_labels_classifier.weight": (92, 8),
    },
}


@pytest.mark.parametrize("name", NEAR)
@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_near_family_gets_its_name_and_advice(prefix, name, tmp_path):
    path = tmp_path / "model.safetensors"
    write_tensors(path, {f"{prefix}{key}": np.zeros(shape, np.float16) for key, shape in NEAR[name].items()})
    for read in (read_model, read_weights):
        with pytest.raises(VitjaxError) as caught:
            read(path)
        said = str(caught.value)
        assert f"the tensors are of {name.split(',')[0]}" in said and "\n" not in said and said.startswith(path.name)
        assert any(word in said for word in ("give ", "what can be read"))


def test_published_models_are_near_to_nothing_else():
    for model in MODELS.values():
        assert near_family(tensors_of(file_of(model)), ()) is None


def test_a_file_beside_its_settings_is_the_folder(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "yolos"}')
    write_tensors(tmp_path / "model.safetensors", {"a": np.zeros(2)})
    with pytest.raises(DataError, match="model_type='yolos'"):
        read_model(tmp_path / "model.safetensors")
