"""What the labels of published models are called."""

import functools
import re
from importlib import resources

from vitjax.data.source import Classes

_COCO = (
    ",person,bicycle,car,motorcycle,airplane,bus,train,truck,boat,traffic light,fire hydrant,,stop sign,"
    "parking meter,bench,bird,cat,dog,horse,sheep,cow,elephant,bear,zebra,giraffe,,backpack,umbrella,,,handbag,tie,"
    "suitcase,frisbee,skis,snowboard,sports ball,kite,baseball bat,baseball glove,skateboard,surfboard,tennis racket,"
    "bottle,,wine glass,cup,fork,knife,spoon,bowl,banana,apple,sandwich,orange,broccoli,carrot,hot dog,pizza,donut,"
    "cake,chair,couch,potted plant,bed,,dining table,,,toilet,,tv,laptop,mouse,remote,keyboard,cell phone,microwave,"
    "oven,toaster,sink,refrigerator,,book,clock,vase,scissors,teddy bear,hair drier,toothbrush"
).split(",")

COCO = Classes(tuple(_COCO), tuple(range(len(_COCO))))
"""COCO's 80 categories by their ids, 1 to 90; those that COCO does not use have the name ""."""


@functools.cache
def imagenet() -> Classes:
    """The 1,000 classes of ImageNet-1k, in the order that every published model has."""
    names = resources.files("vitjax.data").joinpath("imagenet_names.txt").read_text(encoding="utf-8").splitlines()
    return Classes(tuple(names), tuple(range(len(names))))


def in_words(classes: Classes) -> Classes:
    """The same classes, those of ImageNet by their English names where data call them by their WordNet ids."""
    names = classes.names
    by_id = len(names) == 1000 and all(re.fullmatch(r"n\d{8}", name) for name in names) and list(names) == sorted(names)
    return imagenet() if by_id else classes


def numbered(labels: int) -> Classes:
    """So many labels whose names are not known."""
    return Classes(("",) * labels, tuple(range(labels)))


def classes_of(labels: int, *, detection: bool) -> Classes:
    """What so many labels of a published model most likely mean: COCO's, ImageNet's, or nothing that is known."""
    if detection and labels == len(COCO):
        return COCO
    return imagenet() if labels == 1000 and not detection else numbered(labels)
