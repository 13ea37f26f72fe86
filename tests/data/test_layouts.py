import contextlib
import io
import json

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from vitjax.data.coco import CocoFolder
from vitjax.data.errors import DataError
from vitjax.data.layouts import in_its_layout, layout_of, named_as
from vitjax.data.source import Classes, DetectionSource
from vitjax.data.voc import VocFolder
from vitjax.data.yolo import YoloFolder

BOXES = {"a": [("cell", 4, 2, 8, 10), ("clot", 20, 5, 10, 10)], "b": [], "c": [("clot", 0, 0, 40, 20)]}  # xywh, 40 x 20
NAMES = ("cell", "clot")


def coco(root):
    (root / "train").mkdir()
    images = [{"id": n, "file_name": f"{name}.png", "width": 40, "height": 20} for n, name in enumerate(BOXES, 1)]
    rows = [(n, *row) for n, rows in enumerate(BOXES.values(), 1) for row in rows]
    boxes = [
        {"id": n, "image_id": image, "category_id": NAMES.index(name) + 1, "bbox": box, "area": box[2] * box[3]}
        for n, (image, name, *box) in enumerate(rows, 1)
    ]
    categories = [{"id": n, "name": name} for n, name in enumerate(NAMES, 1)]
    document = {"images": images, "annotations": boxes, "categories": categories}
    (root / "train.json").write_text(json.dumps(document))
    return root / "train"


def yolo(root):
    for folder in ("train/images", "train/labels"):
        (root / folder).mkdir(parents=True)
    for name, rows in BOXES.items():
        boxes = [(NAMES.index(kind), (x + w / 2) / 40, (y + h / 2) / 20, w / 40, h / 20) for kind, x, y, w, h in rows]
        lines = [" ".join(map(str, box)) for box in boxes]
        (root / f"train/labels/{name}.txt").write_text("\n".join(lines))
    (root / "data.yaml").write_text("train: ../train/images\nval: ../valid/images\nnames: [cell, clot]\n")
    return root / "train/images"


def voc(root):
    for folder in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (root / folder).mkdir(parents=True)
    for name, rows in BOXES.items():
        things = [
            f"<object><name>{kind}</name><bndbox><xmin>{x + 1}</xmin><ymin>{y + 1}</ymin><xmax>{x + w}</xmax>"
            f"<ymax>{y + h}</ymax></bndbox></object>"
            for kind, x, y, w, h in rows
        ]
        (root / f"Annotations/{name}.xml").write_text(f"<annotation>{''.join(things)}</annotation>")
    (root / "ImageSets/Main/train.txt").write_text("\n".join(BOXES))
    return root / "JPEGImages"


def saved(root, write):
    folder = write(root)
    for count, name in enumerate(BOXES):
        Image.new("RGB", (40, 20), (count, 0, 0)).save(folder / f"{name}.png")
    return CocoFolder(str(root))


@pytest.mark.parametrize(("write", "kind"), [(coco, CocoFolder), (yolo, YoloFolder), (voc, VocFolder)])
def test_a_folder_is_read_in_its_layout_with_the_same_images_and_boxes(tmp_path, write, kind):
    data, notes = in_its_layout(saved(tmp_path, write))
    assert type(data) is kind and bool(notes) == (kind is not CocoFolder)
    source = data.open("train")
    assert isinstance(source, DetectionSource) and source.problems == () and source.classes.names == NAMES
    found = {
        source.name(record).split("/")[-1][0]: (
            source[record].image[0, 0, 0], source[record].labels.tolist(), source[record].boxes.tolist()
        )
        for record in range(len(source))
    }  # fmt: skip
    assert found == {
        name: (
            count,
            [NAMES.index(kind) for kind, *_ in rows],
            [[x, y, x + w, y + h] for _, x, y, w, h in rows],
        )
        for count, (name, rows) in enumerate(BOXES.items())
    }


@pytest.mark.parametrize(("write", "kind"), [(coco, CocoFolder), (yolo, YoloFolder), (voc, VocFolder)])
@pytest.mark.parametrize("other", [CocoFolder, YoloFolder, VocFolder])
def test_a_source_of_any_layout_goes_to_a_folder_of_another(tmp_path, write, kind, other):
    saved(tmp_path, write)
    data, notes = in_its_layout(other(str(tmp_path)))
    assert data == kind(str(tmp_path)) and bool(notes) == (kind is not other)


@pytest.mark.parametrize("write", [yolo, voc])
def test_their_ground_truth_is_scored_by_the_rules_of_coco(tmp_path, write):
    source = in_its_layout(saved(tmp_path, write))[0].open("train")
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = source.ground_truth()
        truth.createIndex()
        results = [row | {"score": 0.9} for row in source.ground_truth()["annotations"]]
        evaluation = COCOeval(truth, truth.loadRes(results), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    assert evaluation.stats[0] == 1.0


@pytest.mark.parametrize(("write", "name"), [(yolo, "YOLO's layout: use vitjax.data.YoloFolder"), (voc, "VocFolder")])
def test_a_coco_folder_says_what_the_folder_is_instead(tmp_path, write, name):
    with pytest.raises(DataError, match=f"is in .*{name}"):
        saved(tmp_path, write).open("train")


def test_what_is_in_coco_format_too_or_in_none_or_is_no_coco_folder_stays(tmp_path):
    both = saved(tmp_path, yolo)
    (tmp_path / "train").rename(tmp_path / "other")
    coco(tmp_path)
    for data in (
        both,
        CocoFolder(str(tmp_path / "other/images")),
        CocoFolder(""),
        CocoFolder("nowhere"),
        YoloFolder("x"),
    ):
        assert in_its_layout(data) == (data, ())
    assert layout_of(tmp_path / "other/images") is None
    assert type(in_its_layout(CocoFolder(str(tmp_path / "data.yaml")))[0]) is YoloFolder


@pytest.mark.parametrize("write", [coco, yolo])
def test_data_in_a_folder_of_the_root_are_named(tmp_path, write):
    (tmp_path / "unzipped").mkdir()
    saved(tmp_path / "unzipped", write)
    with pytest.raises(DataError, match=f"Data lie in a folder of it: try --data.root {tmp_path / 'unzipped'}"):
        CocoFolder(str(tmp_path)).open("train")


def test_splits_and_what_else_both_have_are_kept(tmp_path):
    saved(tmp_path, voc)
    data = CocoFolder(str(tmp_path), train_split="trainval", split="test", labels="category_id", check_images=False)
    expected = VocFolder(str(tmp_path), train_split="trainval", split="test", check_images=False)
    assert in_its_layout(data)[0] == expected


def test_labels_follow_the_names_where_the_layout_numbers_classes_for_itself(tmp_path):
    data = in_its_layout(saved(tmp_path, yolo))[0]
    source, wanted = data.open("train"), Classes(("clot", "", "dust", "cell"), (3, 4, 8, 9))
    named = named_as(source, data, wanted)
    assert named.classes == wanted and np.array_equal(named[0].labels, [3, 0])
    assert [row["category_id"] for row in named.ground_truth()["annotations"]] == [9, 3, 3]
    assert named_as(source, data, Classes(("cell", "dust"), (1, 2))) is source
    assert named_as(source, data, Classes(("cell", "clot", "clot"), (1, 2, 3))) is source
    assert named_as(source, CocoFolder(), wanted) is source
    assert named_as(source, CocoFolder(), wanted, moved=True).classes == wanted
