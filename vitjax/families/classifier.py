"""Classifiers on any backbone; those on backbones that are published with a head are families of their own."""

from vitjax.classification.classifier import Classifier
from vitjax.classification.loss import CrossEntropy
from vitjax.classification.postprocess import TopClasses
from vitjax.data.crops import CenterCrop
from vitjax.data.label_names import imagenet_classes
from vitjax.families.family import Family

FAMILY = Family(
    model=Classifier, loss=CrossEntropy, postprocess=TopClasses, resize=CenterCrop, classes=imagenet_classes
)
