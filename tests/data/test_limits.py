"""What data may ask of the machine is bounded alike in every layout: pixels, places for objects, where files lie."""

import json
import os

import numpy as np
import pytest
from data.test_voc import scene, thing
from PIL import Image

from vitjax.data.coco import CocoFolder
from vitjax.data.coco_panoptic import CocoPanoptic
from vitjax.data.errors import DataError
from vitjax.data.image_folder import ImageFolder
from vitjax.data.label_map_folder import LabelMapFolder
from vitjax.data.source import Limits
from vitjax.data.voc import VocFolder
from vitjax.data.yolo import YoloFolder
from vitjax.errors import FieldError

NAMES = ("a", "b", "c")
BOX = {"category_id": 1, "bbox": [2, 2, 4, 4], "area": 16, "iscrowd": 0}


def text(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)


def pictures(folder, palette=False):
    """Three images of 200 pixels."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in NAMES:
        Image.new("P" if palette else "RGB", (20, 10), 1 if palette else (1, 0, 0)).save(folder / f"{name}.png")


def listed(annotations):
    images = [{"id": number, "file_name": f"{name}.png"} for number, name in enumerate(NAMES, 1)]
    return json.dumps({"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "x"}]})


def coco(root):
    pictures(root / "train")
    text(root / "train.json", listed([{"id": n, "image_id": n, **BOX} for n in (1, 2, 3)]))
    return CocoFolder, root / "train"


def panoptic(root):
    pictures(root / "train")
    pictures(root / "panoptic_train")
    one = {"segments_info": [{"id": 1, **BOX}]}
    text(
        root / "panoptic_train.json",
        listed([{"image_id": number, "file_name": f"{name}.png", **one} for number, name in enumerate(NAMES, 1)]),
    )
    return CocoPanoptic, root / "panoptic_train"


def yolo(root):
    pictures(root / "images/train")
    for name in NAMES:
        text(root / f"labels/train/{name}.txt", "0 0.5 0.5 0.2 0.2")
    text(root / "data.yaml", "train: images/train\nval: images/train\nnames: [x]\n")
    return YoloFolder, root / "images/train"


def voc(root):
    pictures(root / "JPEGImages")
    for name in NAMES:
        text(root / f"Annotations/{name}.xml", scene(thing(corners=(3, 4, 12, 9)), size=(20, 10)))
    text(root / "ImageSets/Main/train.txt", "\n".join(NAMES))
    return VocFolder, root / "JPEGImages"


def by_class(root):
    for label in ("x", "y"):
        pictures(root / "train" / label)
    return ImageFolder, root / "train/x"


def label_maps(root):
    pictures(root / "train/images")
    pictures(root / "train/labels", palette=True)
    text(root / "classes.txt", "background\nx\n")
    return LabelMapFolder, root / "train/labels"


LAYOUTS = pytest.mark.parametrize("layout", [coco, panoptic, yolo, voc, by_class, label_maps])


@LAYOUTS
def test_an_image_of_too_many_pixels_is_left_out_by_its_header_and_refused_where_it_comes_later(layout, tmp_path):
    kind, folder = layout(tmp_path)
    root = str(tmp_path)
    Image.new("P" if layout is label_maps else "RGB", (25, 10)).save(folder / "b.png")
    if layout is label_maps:  # a map is of the size of its image
        Image.new("RGB", (25, 10)).save(tmp_path / "train/images/b.png")
    limits = Limits(pixels=249)
    source = kind(root, limits=limits).open("train")
    assert len(source) == len(kind(root).open("train")) - 1
    assert any("250 pixels, the limit is 249" in line and "--data.limits.pixels" in line for line in source.problems)
    Image.new("P" if layout is label_maps else "RGB", (25, 10)).save(folder / "a.png")
    with pytest.raises(DataError, match=r"250 pixels, the limit is 249\. Make it smaller, or raise"):
        source[0]


@LAYOUTS
def test_a_link_that_leads_out_is_left_out_unless_that_is_allowed(layout, tmp_path):
    kind, folder = layout(tmp_path / "data")
    (folder / "b.png").rename(tmp_path / "b.png")
    (folder / "b.png").symlink_to(tmp_path / "b.png")
    source = kind(str(tmp_path / "data")).open("train")
    whole = kind(str(tmp_path / "data"), limits=Limits(outside=True)).open("train")
    assert len(source) == len(whole) - 1
    assert any("outside of the data folder" in line and "--data.limits.outside" in line for line in source.problems)
    names, every = ([found.name(record) for record in range(len(found))] for found in (source, whole))
    assert {*names} < {*every}


@LAYOUTS
def test_a_pipe_is_left_out_at_once(layout, tmp_path):
    kind, folder = layout(tmp_path)
    (folder / "b.png").unlink()
    os.mkfifo(folder / "b.png")
    source = kind(str(tmp_path)).open("train")
    assert len(source) == (5 if layout is by_class else 2)


@pytest.mark.parametrize("layout", [coco, yolo, voc, panoptic])
def test_objects_beyond_the_limit_are_crowds_and_take_no_place(layout, tmp_path):
    kind, _ = layout(tmp_path)
    source = kind(str(tmp_path), limits=Limits(objects=1)).open("train")
    assert source.max_objects == 1 and not any("crowds" in line for line in source.problems)
    if layout is not coco:
        return
    many = [{"id": number, "image_id": 1 + number % 2, **BOX} for number in range(1, 8)]
    text(tmp_path / "train.json", listed(many))
    source = kind(str(tmp_path), limits=Limits(objects=2)).open("train")
    assert source.max_objects == 2 and [len(source[record].boxes) for record in range(3)] == [2, 2, 0]
    assert any("beyond the 2 on an image that --data.limits.objects allows: 3" in line for line in source.problems)
    crowds = [entry["iscrowd"] for entry in source.ground_truth()["annotations"]]
    assert crowds == [0, 0, 1, 0, 0, 1, 1]


def test_a_yaml_that_leads_elsewhere_is_followed_only_where_it_is_named_itself(tmp_path):
    yolo(tmp_path / "there")
    text(tmp_path / "here/data.yaml", f"path: {tmp_path}/there\ntrain: images/train\nval: images/train\nnames: [x]\n")
    with pytest.raises(DataError, match=r"outside of .*/here\. Name the yaml itself as --data\.root, or set"):
        YoloFolder(str(tmp_path / "here")).open("train")
    named = YoloFolder(str(tmp_path / "here/data.yaml")).open("train")
    allowed = YoloFolder(str(tmp_path / "here"), limits=Limits(outside=True)).open("train")
    assert len(named) == len(allowed) == 3 and np.array_equal(named[0].boxes, allowed[0].boxes)


def test_a_larger_limit_than_pillows_is_heeded(monkeypatch, tmp_path):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 50)  # which refuses what has more than twice as many
    kind, _ = coco(tmp_path)
    assert len(kind(str(tmp_path), limits=Limits(pixels=200)).open("train")) == 3


@pytest.mark.parametrize("field", ["pixels", "objects"])
def test_limits_that_allow_nothing_are_refused(field):
    with pytest.raises(FieldError, match=f"{field} is at least 1, got 0"):
        Limits(**{field: 0})
