"""Classifiers on a ResNet, as torchvision and timm publish them; their files start the backbones of others."""

import dataclasses

from vitjax.classification.classifier import Classifier
from vitjax.families.classifier import FAMILY as CLASSIFIER
from vitjax.families.family import Notes, Official
from vitjax.families.parts import resnet, resnet_in, shape
from vitjax.formats.tables import Table, TensorFile, layer

NAMES = Table("resnet_classifier", (*resnet("", "backbone/"), *layer("fc", "head")))


def _identify(file: TensorFile, _: Table) -> tuple[Classifier, Notes]:
    model = Classifier(resnet_in(file.tensors), num_classes=shape(file.tensors, "fc.weight")[0], norm=False)
    return model, ()


FAMILY = dataclasses.replace(CLASSIFIER, official=Official(tables=(NAMES,), identify=_identify, under=None))
