"""Thin models of every published family, their tensors as official files hold them, and files of `torch.save`."""

import pickle
import zipfile
from pathlib import Path

import jax
import numpy as np

from vitjax.backbones.crossformer import crossformer_small
from vitjax.backbones.efficientnet_lite import efficientnet_lite0
from vitjax.backbones.resnet import ResNet
from vitjax.classification.classifier import Classifier
from vitjax.classification.postprocess import TopClasses
from vitjax.data.crops import CenterCrop
from vitjax.data.label_names import numbered
from vitjax.data.transforms import Resize
from vitjax.detection.deformable_detr import DeformableDETR
from vitjax.detection.detr import DETR
from vitjax.detection.postprocess import BestClass, TopDetections
from vitjax.families.known import family_of
from vitjax.families.model_file import ModelFile, shapes_of
from vitjax.formats.pth import write_pth
from vitjax.segmentation.detr_masks import MaskDETR

THIN = ResNet(depth=18, width=8, stage_blocks=(1, 1, 1))
SIZES = {"channels": 32, "encoder_layers": 1, "decoder_layers": 2, "feed_forward": 16, "num_queries": 5}
DEFORMABLE = {**SIZES, "num_queries": 7, "backbone": THIN, "num_classes": 4}
MASKS = {**SIZES, "channels": 128, "backbone": ResNet(depth=18, width=8, stage_blocks=(1, 1, 1, 1)), "num_classes": 4}
MODELS = {
    "detr": DETR(THIN, num_classes=91, **SIZES),
    "detr, learned and pre-norm": DETR(THIN, num_classes=3, position="learned", pre_norm=True, **SIZES),
    "detr with masks": MaskDETR(DETR(**MASKS)),
    "deformable": DeformableDETR(**DEFORMABLE, encoder_points=2),
    "deformable, single-scale": DeformableDETR(**DEFORMABLE, levels=1, backbone_levels=1),
    "deformable, refining": DeformableDETR(**DEFORMABLE, refine=True),
    "deformable, two-stage": DeformableDETR(**{**DEFORMABLE, "num_queries": 300}, refine=True, two_stage=True),
    "resnet": Classifier(ResNet(depth=18), num_classes=1000, norm=False),
    "crossformer": Classifier(crossformer_small(), num_classes=1000),
    "efficientnet_lite": Classifier(efficientnet_lite0(head=True), num_classes=1000, norm=False),
}


def file_of(model):
    """A model with weights drawn for it."""
    rng = np.random.default_rng(0)
    variables = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), shapes_of(model))
    detector = not isinstance(model, Classifier)
    ways = (Resize(), BestClass() if isinstance(model, DETR | MaskDETR) else TopDetections()) if detector else None
    resize, postprocess = ways or (CenterCrop(), TopClasses())
    classes = numbered(model.num_classes)
    return ModelFile(model, variables, classes, resize, postprocess)


def tensors_of(file):
    """Its tensors as official files hold them."""
    return family_of(file.model).official.tensors_of(file.model, file.variables)


def saved(path: Path, **content) -> Path:
    """A .pth file of a dictionary; where a value is a dictionary of arrays, these are tensors."""
    pickled, storages = b"\x80\x02}(", []
    for key, value in content.items():
        pickled += pickle.dumps(key, 2)[2:-1]
        if isinstance(value, dict) and any(isinstance(array, np.ndarray) for array in value.values()):
            write_pth(path, value)
            with zipfile.ZipFile(path) as archive:
                body = archive.read("archive/data.pkl")[2:-1]
                data = [archive.read(f"archive/data/{index}") for index in range(len(value))]
            storages = storages or data
            pickled += body
        else:
            pickled += pickle.dumps(value, 2)[2:-1]
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("it/data.pkl", pickled + b"u.")
        for index, data in enumerate(storages):
            archive.writestr(f"it/data/{index}", data)
    return path
