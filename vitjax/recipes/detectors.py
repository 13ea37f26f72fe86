"""What recipes of several families of detectors share."""

COCO_CATEGORIES = 91
"""Classes of a model whose labels are COCO's category ids, which go up to 90, as in the published weights."""

RESNET_FROZEN = ("^backbone/stem", "^backbone/stage_1/(?!.*attention/)")
"""Patterns of what published recipes keep of a ResNet's ImageNet weights; attention that is put there still learns."""
