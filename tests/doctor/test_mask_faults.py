"""Faults of masks that the doctor tells, in both of COCO's forms."""

import json

import numpy as np
import pytest
from PIL import Image

from vitjax.data.panoptic_png import as_colours
from vitjax.data.run_lengths import encode, written
from vitjax.doctor.examination import examine

SIZE = (48, 64)


def square(left, top, side=12):
    mask = np.zeros(SIZE, bool)
    mask[top : top + side, left : left + side] = True
    return mask


def instances(root, *more, split="train"):
    """Two images with two masks each, that touch nobody, and some more annotations."""
    (root / "annotations").mkdir(parents=True, exist_ok=True)
    (root / split).mkdir(exist_ok=True)
    images = [{"id": n, "file_name": f"{n}.png", "height": SIZE[0], "width": SIZE[1]} for n in (1, 2)]
    for each in images:
        Image.new("RGB", SIZE[::-1], (each["id"], 5, 5)).save(root / split / each["file_name"])
    rows = [(n, left, top) for n in (1, 2) for left, top in ((2, 2), (30, 20))]
    boxes = [
        annotation(number, written(encode(square(left, top)), SIZE), [left, top, 12, 12], image)
        for number, (image, left, top) in enumerate(rows, start=1)
    ]
    document = {"images": images, "annotations": [*boxes, *more], "categories": [{"id": 1, "name": "cell"}]}
    (root / f"annotations/instances_{split}.json").write_text(json.dumps(document))
    return root


def annotation(number, segmentation, box=(20, 3, 6, 6), image=1, **more):
    entry = {"id": number, "image_id": image, "category_id": 1, "bbox": list(box), "iscrowd": 0, "area": 36.0}
    return entry | {"segmentation": segmentation} | more


def told(root, split="train"):
    """Severity, text and examples of what is said of masks."""
    return [(each.severity, each.line()) for each in examine(str(root), split=split).findings if each.group == "masks"]


def test_masks_without_fault_are_a_fact_and_boxes_alone_none(tmp_path):
    assert told(instances(tmp_path)) == [("ok", "4 masks for 4 boxes")]
    path = tmp_path / "annotations/instances_train.json"
    document = json.loads(path.read_text())
    document["annotations"] = [row | {"segmentation": []} for row in document["annotations"]]
    path.write_text(json.dumps(document))
    assert told(tmp_path) == []


@pytest.mark.parametrize(
    ("segmentation", "severity", "text"),
    [
        ([], "note", "dropped objects that have no segmentation: 1"),
        ([[]], "warning", "that have polygons of fewer than three points: 1"),
        ({"size": [64, 48], "counts": [0, 64 * 48]}, "warning", "have run lengths of another size than their image: 1"),
        ({"size": [48, 64], "counts": [0, 64]}, "warning", "have run lengths that do not add up to their image: 1"),
        ({"size": [48, 64], "counts": [48 * 64]}, "warning", "that have a mask without a pixel: 1"),
        ({"size": [48, 64]}, "warning", "that have a segmentation that makes no sense: 1"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_a_segmentation_without_a_mask_is_named(tmp_path, segmentation, severity, text):
    findings = told(instances(tmp_path, annotation(7, segmentation)))
    assert findings[0] == ("ok", "4 masks for 5 boxes") and len(findings) == 2
    assert findings[1][0] == severity and text in findings[1][1] and "annotation 7 on 1.png" in findings[1][1]


def test_masks_outside_their_box_and_on_each_other_are_counted(tmp_path):
    away = annotation(7, written(encode(square(44, 2)), SIZE), [44, 2, 6, 12], image=2)
    over = annotation(8, written(encode(square(8, 2)), SIZE), [8, 2, 12, 12], image=2)
    crowd = annotation(9, {"size": list(SIZE), "counts": [0, 48 * 64]}, iscrowd=1)
    findings = told(instances(tmp_path, away, over, crowd))
    boxes = "mask [44, 2, 12, 12], box [44, 2, 6, 12] on 2.png"
    part = f"{100 * 72 / (6 * 144):.1f} %"
    assert findings[1:] == [
        ("warning", f"1 mask more than 2 pixels outside their box (first: {boxes})"),
        ("note", f"1 image with masks that overlap, {part} of all pixels of masks (first: 2.png)"),
    ]


def panoptic(root, change=None, png=None, split="train"):
    """An image with a cat on the sky, in the panoptic form; `change` is done to the segments."""
    ids = np.where(square(10, 10), 7, 300)
    ids[:, -1] = 0
    segments = [
        {"id": 300, "category_id": 2, "iscrowd": 0, "area": 48 * 63 - 144, "bbox": [0, 0, 63, 48]},
        {"id": 7, "category_id": 1, "iscrowd": 0, "area": 144, "bbox": [10, 10, 12, 12]},
    ]
    if change:
        change(segments)
    (root / f"panoptic_{split}").mkdir(parents=True, exist_ok=True)
    (root / split).mkdir(exist_ok=True)
    Image.new("RGB", SIZE[::-1]).save(root / split / "1.jpg")
    (png or Image.fromarray(as_colours(ids))).save(root / f"panoptic_{split}" / "1.png")
    document = {
        "images": [{"id": 1, "file_name": "1.jpg"}],
        "annotations": [{"image_id": 1, "file_name": "1.png", "segments_info": segments}],
        "categories": [{"id": 1, "name": "cat", "isthing": 1}, {"id": 2, "name": "sky", "isthing": 0}],
    }
    (root / f"panoptic_{split}.json").write_text(json.dumps(document))
    return root


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda told: None, ""),
        (lambda told: told.pop(),
         "ids in PNGs that the json does not have, whose pixels are nobody's: 1 (first: id 7 in 1.png)"),
        (lambda told: told.append(dict(told[1], id=8)),
         "segments of the json that their PNG does not have, whose masks are empty: 1 (first: segment 8 in 1.png)"),
        (lambda told: told[1].update(area=100),
         "segments whose area is not that of their pixels: 1 (first: segment 7 in 1.png: 100, not 144)"),
        (lambda told: told[1].update(bbox=[9, 14, 12, 12]), "segments whose box is not that of their pixels: 1 "
         "(first: segment 7 in 1.png: [9, 14, 12, 12], not [10, 10, 12, 12])"),
        (lambda told: told.append(told[1]),
         "skipped segments whose id another of the image has: 1 (first: segment 7 in 1.png)"),
    ],
    ids=["nothing", "json lacks", "PNG lacks", "area", "box", "twice"],
)  # fmt: skip
def test_json_and_png_that_disagree_are_told(tmp_path, change, line):
    findings = told(panoptic(tmp_path, change))
    assert {severity for severity, _ in findings} == ({"ok", "warning"} if line else {"ok"})
    assert line in [text for _, text in findings] or not line
    assert next(text for severity, text in findings if severity == "ok").split(",")[0][-8:] == "in 1 PNG"


def test_a_png_of_another_size_or_kind_is_told(tmp_path):
    small = Image.new("RGB", (4, 4))
    findings = [each.line() for each in examine(str(panoptic(tmp_path, png=small))).findings]
    assert any("PNGs that cannot be used" in line and "1.png is 4x4" in line
               for line in findings)  # fmt: skip
    findings = [each.line() for each in examine(str(panoptic(tmp_path, png=Image.new("L", SIZE[::-1])))).findings]
    assert any("1.png has L pixels" in line for line in findings)


def test_both_forms_in_one_folder_are_looked_at_apart(tmp_path):
    instances(panoptic(tmp_path))
    instances(tmp_path, split="val")
    examination = examine(str(tmp_path))
    assert examination.title.endswith("COCO format, 2 splits (train, val); COCO's panoptic form, 1 split (train)")
    masks = [(each.split, each.text) for each in examination.findings if each.group == "masks"]
    assert masks[:2] == [("train", "4 masks for 4 boxes"), ("val", "4 masks for 4 boxes")]
    assert masks[2][0] == "panoptic train" and not any("other categories" in each.text for each in examination.findings)
    assert {each.split for each in examine(str(tmp_path), split="val").findings} == {"val"}
    assert "MASKS" in examination.table()
