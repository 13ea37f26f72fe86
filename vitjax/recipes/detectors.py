"""What recipes of several families of detectors share."""

# Labels are COCO's category ids, which go up to 90, as in the published weights.
COCO_CATEGORIES = 91

# What published recipes keep of a ResNet's ImageNet weights; attention that is put into the first stage still learns.
RESNET_FROZEN = ("^backbone/stem", "^backbone/stage_1/(?!.*attention/)")
