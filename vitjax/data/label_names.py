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


_STUFF = (
    "92 banner,93 blanket,95 bridge,100 cardboard,107 counter,109 curtain,112 door-stuff,118 floor-wood,119 flower,"
    "122 fruit,125 gravel,128 house,130 light,133 mirror-stuff,138 net,141 pillow,144 platform,145 playingfield,"
    "147 railroad,148 river,149 road,151 roof,154 sand,155 sea,156 shelf,159 snow,161 stairs,166 tent,168 towel,"
    "171 wall-brick,175 wall-stone,176 wall-tile,177 wall-wood,178 water-other,180 window-blind,181 window-other,"
    "184 tree-merged,185 fence-merged,186 ceiling-merged,187 sky-other-merged,188 cabinet-merged,189 table-merged,"
    "190 floor-other-merged,191 pavement-merged,192 mountain-merged,193 grass-merged,194 dirt-merged,195 paper-merged,"
    "196 food-other-merged,197 building-other-merged,198 rock-merged,199 wall-other-merged,200 rug-merged"
)
_NAMED = dict(enumerate(_COCO)) | {int(id_): name for id_, name in (entry.split(" ") for entry in _STUFF.split(","))}

COCO_PANOPTIC = Classes(
    tuple(_NAMED.get(label, "") for label in range(250)), tuple(range(250)), tuple(range(len(_COCO), 250))
)
"""COCO's 80 categories of things and 53 of stuff by their ids, in a head of 250 labels as published models have it."""


def is_thing(label: int) -> bool:
    """Whether a label of COCO_PANOPTIC is of objects that can be counted; the others are stuff."""
    return label < len(_COCO)


def stuff_of(classes: Classes) -> tuple[int, ...]:
    """The labels of what cannot be counted; COCO's are known also where the classes do not say."""
    return classes.stuff or (COCO_PANOPTIC.stuff if classes == COCO_PANOPTIC else ())


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


def coco_classes(labels: int) -> Classes:
    """What so many labels of a published detector most likely mean: COCO's, or nothing that is known.

    Those with 250 labels are published for panoptic segmentation.
    """
    return next((known for known in (COCO, COCO_PANOPTIC) if len(known) == labels), numbered(labels))


def imagenet_classes(labels: int) -> Classes:
    """What so many labels of a published classifier most likely mean: ImageNet's, or nothing that is known."""
    return imagenet() if labels == 1000 else numbered(labels)
