"""Settings of published models, read and written."""

import json

import pytest

from vitjax.backbones.resnet import ResNet
from vitjax.data.errors import DataError
from vitjax.data.source import Classes
from vitjax.detection.deformable_detr import DeformableDETR
from vitjax.detection.detr import DETR
from vitjax.families.huggingface import config as settings
from vitjax.families.huggingface.config import classes_in
from vitjax.families.huggingface.form import form_of
from vitjax.families.known import family_of

CLASSES = Classes(("", "cat", "dog"), (0, 1, 2))
SIZES = {"num_classes": 3, "num_queries": 5, "channels": 32, "heads": 2, "feed_forward": 8}
SIZES |= {"encoder_layers": 1, "decoder_layers": 2, "backbone": ResNet(width=4, stage_blocks=(1, 1))}
LEVELS = {"levels": 3, "backbone_levels": 2}

# As facebook/detr-resnet-50 and SenseTime/deformable-detr have it, without what only training needs.
FACEBOOK = {"model_type": "detr", "backbone": "resnet50", "dilation": False, "activation_function": "relu"}
FACEBOOK |= {"d_model": 256, "decoder_attention_heads": 8, "decoder_ffn_dim": 2048, "decoder_layers": 6, "dropout": 0.1}
FACEBOOK |= {"encoder_attention_heads": 8, "encoder_ffn_dim": 2048, "encoder_layers": 6, "num_queries": 100}
FACEBOOK |= {"auxiliary_loss": False, "position_embedding_type": "sine", "classifier_dropout": 0.0}
FACEBOOK |= {"id2label": {str(n): "N/A" if n == 0 else f"thing {n}" for n in range(91)}}
RESNET = {
    "model_type": "resnet",
    "embedding_size": 64,
    "hidden_sizes": [256, 512, 1024, 2048],
    "layer_type": "bottleneck",
}
RESNET |= {"depths": [3, 4, 6, 3], "hidden_act": "relu", "downsample_in_first_stage": False}
RESNET |= {"out_features": ["stage1", "stage2", "stage3", "stage4"]}
NO_TIMM = {**FACEBOOK, "use_timm_backbone": False, "backbone": None, "dilation": None, "backbone_config": RESNET}
SENSETIME = {**FACEBOOK, "model_type": "deformable_detr", "num_queries": 300, "use_timm_backbone": True}
SENSETIME |= {"encoder_ffn_dim": 1024, "decoder_ffn_dim": 1024, "num_feature_levels": 4, "encoder_n_points": 4}
SENSETIME |= {"decoder_n_points": 4, "with_box_refine": False, "two_stage": False, "two_stage_num_proposals": 300}


def model_of(config):
    """The model that settings describe."""
    return settings.model_in(config)[0]


def config_of(model, classes):
    """The settings of a model, and whose ResNet it is."""
    return settings.config_of(model, form_of(family_of(model)), classes)


def test_a_dilated_model_takes_the_names_of_timm_and_those_that_cannot_are_refused():
    model = DETR(num_classes=3, backbone=ResNet(dilation=True))
    config, backbone = config_of(model, CLASSES)
    assert backbone == "timm" and (config["use_timm_backbone"], config["dilation"]) == (True, True)
    assert model_of(config) == model
    single = DeformableDETR(num_classes=3, backbone=ResNet(dilation=True), levels=1, backbone_levels=1)
    assert model_of(config_of(single, CLASSES)[0]) == single
    with pytest.raises(DataError, match="dilation=True only of the published"):
        config_of(single.clone(levels=3, backbone_levels=2), CLASSES)


@pytest.mark.parametrize(
    ("config", "model"),
    [
        pytest.param(FACEBOOK, DETR(num_classes=91), id="detr"),
        pytest.param(NO_TIMM, DETR(num_classes=91), id="no_timm"),
        pytest.param(FACEBOOK | {"backbone": "resnet101"}, DETR(num_classes=91, backbone=ResNet(101)), id="resnet101"),
        pytest.param(
            FACEBOOK | {"backbone": "resnet50.a1_in1k", "dilation": True},
            DETR(num_classes=91, backbone=ResNet(dilation=True)),
            id="dc5",
        ),
        pytest.param(
            FACEBOOK | {"backbone_kwargs": {"output_stride": 16, "out_indices": [1, 2, 3, 4], "in_chans": 3}},
            DETR(num_classes=91, backbone=ResNet(dilation=True)),
            id="dc5_by_the_options_of_timm",
        ),
        pytest.param(
            FACEBOOK | {"dilation": True, "backbone_kwargs": {"output_stride": 32}},
            DETR(num_classes=91),
            id="options_of_timm_count_more",
        ),
        pytest.param(
            SENSETIME | {"backbone_kwargs": {"output_stride": 16, "out_indices": [3, 4]}},
            DeformableDETR(num_classes=91, backbone=ResNet(dilation=True), backbone_levels=2),
            id="maps_by_the_options_of_timm",
        ),
        pytest.param({"model_type": "detr", "id2label": FACEBOOK["id2label"]}, DETR(num_classes=91), id="defaults"),
        pytest.param(SENSETIME, DeformableDETR(num_classes=91), id="deformable"),
        pytest.param(
            SENSETIME | {"num_feature_levels": 1},
            DeformableDETR(num_classes=91, levels=1, backbone_levels=1),
            id="single_scale",
        ),
        pytest.param(
            SENSETIME | {"with_box_refine": True, "two_stage": True, "two_stage_num_proposals": 77},
            DeformableDETR(num_classes=91, refine=True, two_stage=True, num_queries=77),
            id="two_stage",
        ),
        pytest.param(
            SENSETIME | {"backbone_config": {"model_type": "timm_backbone", "out_indices": [-2, -1]}},
            DeformableDETR(num_classes=91, backbone_levels=2),
            id="counted_from_the_end",
        ),
    ],
)
def test_published_settings_are_the_published_models(config, model):
    assert model_of(config) == model


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (FACEBOOK | {"model_type": "yolos"}, "model_type='yolos'"),
        (FACEBOOK | {"activation_function": "gelu"}, "activation_function='gelu'; here there is only 'relu'"),
        (FACEBOOK | {"auxiliary_loss": True}, "auxiliary_loss=True"),
        (FACEBOOK | {"position_embedding_type": "fourier"}, "position_embedding_type='fourier'"),
        (SENSETIME | {"position_embedding_type": "learned"}, "position_embedding_type='learned'; .* only 'sine'"),
        (FACEBOOK | {"decoder_ffn_dim": 1024}, "encoder_ffn_dim=2048 and decoder_ffn_dim=1024"),
        (FACEBOOK | {"encoder_attention_heads": 4}, "encoder_attention_heads=4 and decoder_attention_heads=8"),
        (FACEBOOK | {"backbone": "resnet50d"}, "backbone='resnet50d'"),
        (FACEBOOK | {"backbone_kwargs": {"output_stride": 8}}, "output_stride=8; here it is 32, or 16"),
        (FACEBOOK | {"backbone_kwargs": {"in_chans": 1}}, "backbone_kwargs has in_chans=1; here there is only 3"),
        (FACEBOOK | {"backbone_config": {"model_type": "swin"}}, "model_type='swin'; here there are ResNets only"),
        (NO_TIMM | {"backbone_config": RESNET | {"downsample_in_bottleneck": True}}, "downsample_in_bottleneck=True"),
        (NO_TIMM | {"backbone_config": RESNET | {"hidden_sizes": [9]}}, r"hidden_sizes=\[9\]"),
        (NO_TIMM | {"backbone_config": RESNET | {"out_features": ["stage3"]}}, r"out_indices=\[3\]"),
        (FACEBOOK | {"id2label": {"0": "cat", "5": "dog"}}, "2 labels, which are 0 to 1; got 5 too"),
        (SENSETIME | {"num_feature_levels": 2}, "num_feature_levels=2, but a backbone that gives 3 maps"),
    ],
)
def test_an_option_that_is_not_there_is_named(config, message):
    with pytest.raises(DataError, match=message):
        model_of(config)


def test_names_of_labels_that_are_none_are_gaps():
    assert classes_in(FACEBOOK).names[:2] == ("", "thing 1") and len(classes_in(FACEBOOK)) == 91
    assert classes_in({"num_labels": 3}) == Classes(("", "", ""), (0, 1, 2))
    assert classes_in({"id2label": {"0": "LABEL_0", "1": "cat"}}).names == ("", "cat")


@pytest.mark.parametrize("classes", [Classes(("", "", ""), (0, 1, 2)), Classes(("a", "", "b"), (3, 7, 9))])
def test_labels_without_a_name_and_ids_of_categories_come_back(classes):
    config, _ = config_of(DETR(**SIZES), classes)
    assert classes_in(json.loads(json.dumps(config))) == classes
