import json

import numpy as np
import pytest
from PIL import Image

from vitjax.commands import doctor
from vitjax.data import Augmentation, ColorJitter
from vitjax.doctor.examination import examine
from vitjax.doctor.sizes import Batches, look_at_padding
from vitjax.errors import FieldError

CATEGORIES = [{"id": 1, "name": "cell"}, {"id": 2, "name": "clot"}]
ROTATED = 0x0112


def image(number, width=64, height=48, **more):
    return {"id": number, "file_name": f"{number}.png", "width": width, "height": height} | more


def box(number, image_id, bbox, category_id=1, **more):
    fields = {"id": number, "image_id": image_id, "bbox": list(bbox), "category_id": category_id}
    return fields | {"area": 100.0, "iscrowd": 0} | more


def clean(first=1):
    """Two images, and ten boxes of each class on each."""
    images = [image(first), image(first + 1, 48, 64)]
    places = [(2 + 3 * n, 4 + 2 * n, 12, 12) for n in range(10)]
    rows = [(each["id"], place, label) for each in images for place in places for label in (1, 2)]
    boxes = [box(number, owner, place, label) for number, (owner, place, label) in enumerate(rows, start=1)]
    return images, boxes


def save(root, images, boxes, split="train", categories=CATEGORIES, files=None):
    """Writes a split; each image has the size that the json says and a colour of its own."""
    (root / "annotations").mkdir(parents=True, exist_ok=True)
    (root / split).mkdir(exist_ok=True)
    for entry in images if files is None else files:
        pixels = Image.new("RGB", (entry["width"], entry["height"]), (entry["id"], 7, 7))
        pixels.save(root / split / entry["file_name"])
    document = {"images": images, "annotations": boxes, "categories": categories}
    (root / f"annotations/instances_{split}.json").write_text(json.dumps(document))
    return root


def found(root, text, split="train", **options):
    """The one finding of a split that has the text in it."""
    findings = [each for each in examine(str(root), split=split, **options).findings if text in each.text]
    assert len(findings) == 1, [each.text for each in examine(str(root), split=split, **options).findings]
    return findings[0]


def test_clean_data_give_nothing_but_facts(tmp_path):
    save(tmp_path, *clean())
    save(tmp_path, *clean(first=5), split="valid")
    examination = examine(str(tmp_path), decode=True, size=(48, 64))
    assert [each for each in examination.findings if each.severity != "ok"] == []
    assert examination.exit_code == 0 and examination.table().endswith("can be trained on without loss.")
    assert examination.table().startswith(f"{tmp_path}: COCO format, 2 splits (train, valid)")
    assert {each.group for each in examination.findings} == {"annotations", "images", "boxes", "objects", "sizes"}
    assert "2 with 20" in found(tmp_path, "objects per image").text
    assert "2 image sizes (width x height)" in found(tmp_path, "image sizes").text


def test_the_table_groups_findings_and_says_what_to_do(tmp_path):
    images, boxes = clean()
    examination = examine(str(save(tmp_path, images, [*boxes, box(41, 1, (2, 4, 12, 12))])), split="train")
    lines = examination.table().splitlines()
    assert max(map(len, lines)) <= 120 and next(line for line in lines if line.isupper()) == "ANNOTATIONS"
    place = next(place for place, line in enumerate(lines) if line.startswith("  warning  train  1 box there twice"))
    assert lines[place].endswith("(first: [2, 4, 12, 12] on 1.png)")
    assert lines[place + 1].strip().startswith("-> Remove the copies")
    assert lines[-1].startswith("1 warning") and "not without loss" in lines[-1] and examination.exit_code == 1


IMAGES, BOXES = clean()


@pytest.mark.parametrize(
    ("extra", "severity", "text", "example"),
    [
        (box(40, 1, (1, 1, 9, 9)), "hint", "1 annotation with an id that another has", "annotation 40"),
        (box(0, 1, (1, 1, 9, 9)), "note", "1 annotation without an id or with id 0", ""),
        (box(41, 9, (1, 1, 9, 9)), "warning", "annotations of an unknown image: 1", "annotation 41 of image_id 9"),
        (box(41, 1, (1, 1, 9, 9), 7), "warning", "of an unknown category: 1", "annotation 41 of category_id 7"),
        ({"id": 41, "image_id": 1}, "warning", "without image_id, category_id or four numbers", "'id': 41"),
        (box(41, 2, (5, 5, 0, 9)), "warning", "dropped boxes of zero or negative", "[5, 5, 0, 9] on 2.png"),
        (box(41, 2, (70, 5, 4, 9)), "warning", "wholly outside", "[70, 5, 4, 9] on 2.png"),
        (box(41, 2, (40, 5, 14, 9)), "warning", "clamped boxes", "[40, 5, 14, 9] on 2.png"),
        (box(41, 2, (5, float("nan"), 4, 9)), "warning", "no finite number", "on 2.png"),
        (box(41, 1, (2, 4, 12, 12)), "warning", "there twice", "[2, 4, 12, 12] on 1.png"),
        (box(41, 1, (2, 4, 12, 12), iscrowd=1), "note", "1 crowd", "[2, 4, 12, 12] on 1.png"),
        (box(41, 1, (1, 1, 9, 9), area=0), "note", "area is missing", "[1, 1, 9, 9] on 1.png"),
        (box(41, 1, (1, 1, 9, 2)), "note", "1 box (2.4 %) less than 8 pixels", "[1, 1, 9, 2] on 1.png"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_one_wrong_box_is_named(tmp_path, extra, severity, text, example):
    finding = found(save(tmp_path, IMAGES, [*BOXES, extra]), text, size=(96, 128))
    assert finding.severity == severity and example in " ".join(finding.examples)
    assert bool(finding.wish) or severity == "note"


def test_corners_in_place_of_width_and_height_are_an_error(tmp_path):
    boxes = [each | {"bbox": [x + 20, y + 15, x + 20 + w, y + 15 + h]}
             for each in BOXES for x, y, w, h in [each["bbox"]] if x < 14]  # fmt: skip
    examination = examine(str(save(tmp_path, IMAGES, boxes)), split="train")
    assert [each.text[:32] for each in examination.findings if each.group == "boxes" and each.severity != "ok"] == [
        "boxes seem to be [x1, y1, x2, y2"
    ]
    assert examination.exit_code == 2


def test_relative_boxes_are_an_error(tmp_path):
    boxes = [each | {"bbox": (np.array(each["bbox"]) / 64).tolist()} for each in BOXES]
    finding = found(save(tmp_path, IMAGES, boxes), "relative")
    assert finding.severity == "error" and finding.examples == ("[0.03125, 0.0625, 0.1875, 0.1875]",)


def test_more_objects_than_queries_are_counted(tmp_path):
    finding = found(save(tmp_path, IMAGES, BOXES[:-1]), "than the 15 queries", queries=15)
    assert finding.severity == "warning" and "2 images" in finding.text and "9 objects lost" in finding.text
    assert finding.examples == ("20 on 1.png", "19 on 2.png") and "--model.num-queries 50" in finding.wish


def test_images_without_boxes_are_a_note_and_a_split_without_any_an_error(tmp_path):
    finding = found(save(tmp_path, IMAGES, BOXES[:20]), "without boxes")
    assert finding.severity == "note" and "1 image" in finding.text and finding.examples == ("2.png",)
    assert found(save(tmp_path, IMAGES, []), "no box that can be trained on").severity == "error"
    save(tmp_path, IMAGES, [], split="val")
    save(tmp_path, IMAGES, BOXES)
    assert [each.split for each in examine(str(tmp_path)).findings if "no box" in each.text] == ["val"]
    assert found(tmp_path, "no box, so scores will be NaN", split="val").severity == "warning"


@pytest.mark.parametrize(
    ("categories", "severity", "text", "example"),
    [
        ([*CATEGORIES, {"id": 9, "name": "rest"}], "note", "leaves 7 of 10 slots", ""),
        ([*CATEGORIES, {"id": 9, "name": "rest"}], "warning", "1 class without a box", "rest"),
        ([*CATEGORIES, {"id": 2, "name": "rest"}], "warning", "categories whose id is taken", "rest"),
        ([*CATEGORIES, {"id": 3, "name": "cell"}], "warning", "that several categories have", "cell"),
        ([*CATEGORIES, {"id": 0, "name": "__background__"}], "note", "'__background__' has no boxes", ""),
        ([{"id": 1, "name": "none"}, CATEGORIES[1]], "warning", "has 20 boxes, which the model learns", ""),
        ([{"id": 0, "name": "all"}, *(each | {"supercategory": "all"} for each in CATEGORIES)], "note", "Roboflow", ""),
        ([*CATEGORIES, {"id": 99_999, "name": "rest"}], "note", 'only possible with labels="contiguous"', ""),
        ([], "error", "lists no categories", ""),
    ],
    ids=["gap", "unused", "same id", "same name", "background", "background in use", "root", "far", "none"],
)  # fmt: skip
def test_one_wrong_category_is_named(tmp_path, categories, severity, text, example):
    finding = found(save(tmp_path, IMAGES, BOXES, categories=categories), text)
    assert finding.severity == severity and example in " ".join(finding.examples)


def test_a_root_of_categories_is_no_class_that_is_missing(tmp_path):
    roots = [{"id": 0, "name": "all", "supercategory": "none"}]
    children = [each | {"supercategory": "all"} for each in CATEGORIES]
    assert examine(str(save(tmp_path, IMAGES, BOXES, categories=roots + children)), split="train").exit_code == 0


def test_rare_and_uneven_classes_are_named(tmp_path):
    finding = found(save(tmp_path, IMAGES, [*BOXES[::2], BOXES[1]]), "fewer than 10 boxes")
    assert finding.severity == "hint" and finding.examples == ("clot (1)",)
    many = [*(each for _ in range(5) for each in BOXES[::2]), BOXES[1]]
    assert found(save(tmp_path, IMAGES, many), "100 to 1 between").severity == "note"


def test_splits_of_other_classes_are_an_error_where_training_evaluates(tmp_path):
    save(tmp_path, IMAGES, BOXES)
    for split in ("val", "test"):
        save(tmp_path, IMAGES, BOXES, split, [CATEGORIES[0], {"id": 2, "name": "clump"}])
    findings = [each for each in examine(str(tmp_path)).findings if "other categories" in each.text]
    assert [(each.split, each.severity) for each in findings] == [("val", "error"), ("test", "warning")]
    assert "only in train: 2 clot; only in val: 2 clump" in findings[0].text


def spoil_missing(folder):
    (folder / "2.png").unlink()


def spoil_text(folder):
    (folder / "2.png").write_text("<html>")


def spoil_end(folder):
    Image.effect_noise((48, 64), 90).save(folder / "2.png", "JPEG")
    (folder / "2.png").write_bytes((folder / "2.png").read_bytes()[:-300])


def spoil_middle(folder):
    Image.effect_noise((48, 64), 90).save(folder / "2.png")
    data = (folder / "2.png").read_bytes()
    (folder / "2.png").write_bytes(data[:400] + bytes(len(data) - 500) + data[-100:])


def spoil_size(folder):
    Image.new("RGB", (20, 30)).save(folder / "2.png")


def spoil_depth(folder):
    Image.fromarray(np.zeros((64, 48), np.uint16)).save(folder / "2.png")


def spoil_inks(folder):
    Image.new("CMYK", (48, 64)).save(folder / "2.png", "JPEG")


def spoil_frames(folder):
    frames = [Image.new("L", (48, 64), shade) for shade in (1, 2)]
    frames[0].save(folder / "2.png", "GIF", save_all=True, append_images=frames[1:])


def spoil_turn(folder, orientation=6, size=(48, 64)):
    exif = Image.Exif()
    exif[ROTATED] = orientation
    Image.new("RGB", size).save(folder / "2.png", "JPEG", exif=exif)


def spoil_turn_upright(folder):
    spoil_turn(folder, size=(64, 48))


def spoil_turn_over(folder):
    spoil_turn(folder, orientation=3)


@pytest.mark.parametrize(
    ("spoil", "severity", "text", "example"),
    [
        (spoil_missing, "warning", "whose file is missing: 1", "2.png"),
        (spoil_text, "warning", "that cannot be read: 1", "begins with b'<html>'"),
        (spoil_end, "warning", "1 image broken or truncated", "2.png"),
        (spoil_size, "warning", "corrected image sizes", "2.png is 20x30"),
        (spoil_depth, "note", "1 image 16-bit", "2.png"),
        (spoil_inks, "note", "1 image CMYK", "2.png"),
        (spoil_frames, "note", "1 image animated", "2.png"),
        (spoil_turn, "note", "1 image that EXIF turns, used as stored", "2.png"),
        (spoil_turn_upright, "note", "turned images upright by EXIF", "2.png"),
        (spoil_turn_over, "warning", "without a change of size", "2.png"),
    ],
)
def test_one_wrong_file_is_named(tmp_path, spoil, severity, text, example):
    spoil(save(tmp_path, IMAGES, BOXES) / "train")
    finding = found(tmp_path, text)
    assert finding.severity == severity and example in finding.examples[0]


def test_what_only_the_pixels_show_is_found_by_decoding(tmp_path):
    spoil_middle(save(tmp_path, IMAGES, BOXES) / "train")
    assert not [each for each in examine(str(tmp_path), split="train").findings if "broken" in each.text]
    assert "2.png" in found(tmp_path, "1 image broken", decode=True).examples[0]


def test_boxes_are_looked_at_where_images_are_nowhere(tmp_path):
    save(tmp_path, IMAGES, [*BOXES, box(41, 2, (70, 5, 4, 9))], files=[])
    assert found(tmp_path, "are not found").severity == "error"
    assert found(tmp_path, "wholly outside").severity == "warning"
    for each in IMAGES:
        (tmp_path / "train" / each["file_name"]).touch()
    assert found(tmp_path, "none of 2 images in train/ can be used").severity == "error"


def test_images_of_two_splits_are_compared_by_path_and_by_bytes(tmp_path):
    save(tmp_path, IMAGES, BOXES)
    save(tmp_path, *clean(first=5), split="val")
    (tmp_path / "val" / "6.png").write_bytes((tmp_path / "train" / "2.png").read_bytes())
    leaks = [each for each in examine(str(tmp_path)).findings if "also in train" in each.text]
    assert [(each.severity, each.split, each.examples) for each in leaks] == [("warning", "val", ("6.png is 2.png",))]
    document = json.loads((tmp_path / "annotations/instances_train.json").read_text())
    (tmp_path / "annotations/instances_val.json").write_text(json.dumps(document))
    (tmp_path / "val").rename(tmp_path / "elsewhere")
    (tmp_path / "train").rename(tmp_path / "images")
    leak = next(each for each in examine(str(tmp_path)).findings if "also in train" in each.text)
    assert "2 images" in leak.text and leak.examples == ("1.png", "2.png")


def test_a_broken_json_does_not_keep_other_splits_from_being_looked_at(tmp_path):
    save(tmp_path, IMAGES, BOXES)
    (tmp_path / "annotations/instances_val.json").write_text('{"images": []}')
    examination = examine(str(tmp_path))
    errors = [each for each in examination.findings if each.severity == "error"]
    assert [each.split for each in errors] == ["val"] and "has no list 'annotations'" in errors[0].text
    assert [each for each in examination.findings if each.split == "train" and each.group == "boxes"]
    assert found(tmp_path, "no annotations of the split 'test'", split="test").severity == "error"


def test_splits_are_found_beside_other_json_files(tmp_path):
    save(tmp_path, IMAGES, BOXES, "train2017")
    for name in ("captions_train2017", "panoptic_val2017", "val"):
        (tmp_path / f"annotations/{name}.json").write_text("{}")
    (tmp_path / "results.json").write_text("[]")
    assert "2 splits (train, val)" in examine(str(tmp_path)).title


def test_a_missing_validation_split_is_told(tmp_path):
    examination = examine(str(save(tmp_path, IMAGES, BOXES)))
    assert [(each.split, each.severity) for each in examination.findings if "is no split" in each.text] == [
        ("val", "warning")
    ]


def test_a_folder_of_classes_is_looked_at_as_such(tmp_path):
    for number in range(12):
        for name in ("cat", "dog"):
            path = tmp_path / f"train/{name}/{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("L", (30 + number, 20), 100 + number).save(path)
    for name, number in (("cat", 3), ("dog", 50)):
        (tmp_path / f"val/{name}").mkdir(parents=True)
        Image.new("L", (30 + number, 20), 100 + number).save(tmp_path / f"val/{name}/x.png")
    (tmp_path / "train/dog/0.png").write_text("")
    examination = examine(str(tmp_path))
    assert "images by class, 2 splits (train, val)" in examination.title and examination.exit_code == 1
    warnings = [(each.split, each.text) for each in examination.findings if each.severity == "warning"]
    assert len(warnings) == 2 and "cannot be read: 1" in warnings[0][1]
    assert warnings[1] == ("val", "1 image also in train, so scores are better than they should be")


def test_images_without_anything_else_are_no_data(tmp_path):
    save(tmp_path, IMAGES, [])
    (tmp_path / "annotations/instances_train.json").unlink()
    (tmp_path / "annotations").rmdir()
    examination = examine(str(tmp_path))
    assert "no data; there are no COCO annotations" in examination.title and examination.exit_code == 2
    assert [each.split for each in examination.findings] == ["train"]


def test_folders_that_are_no_data_are_errors(tmp_path):
    assert examine(str(tmp_path / "nowhere")).exit_code == 2
    assert "does not exist" in examine(str(tmp_path / "nowhere")).table()
    assert examine(str(tmp_path)).exit_code == 2 and "no data" in examine(str(tmp_path)).table()


@pytest.mark.parametrize("measure", [{"queries": 0}, {"size": (0, 10)}, {"size": (None, 0)}], ids=str)
def test_measures_are_positive(tmp_path, measure):
    with pytest.raises(ValueError, match=f"{next(iter(measure))} is at least 1, got"):
        examine(str(tmp_path), **measure)


def test_a_folder_in_yolos_layout_is_looked_at_as_one_in_coco_format(tmp_path):
    for split in ("train", "val"):
        (tmp_path / f"images/{split}").mkdir(parents=True)
        (tmp_path / f"labels/{split}").mkdir(parents=True)
        for number in range(2):
            pixels = Image.new("RGB", (64, 48), (number, len(split), 7))
            exif = Image.Exif()
            exif[ROTATED] = 6
            pixels.save(tmp_path / f"images/{split}/{number}.jpg", exif=exif)
            lines = [f"{n % 2} {0.2 + n / 50} 0.5 0.2 0.2" for n in range(20)]
            (tmp_path / f"labels/{split}/{number}.txt").write_text("\n".join([*lines, lines[0]]))
    (tmp_path / "data.yaml").write_text("train: images/train\nval: images/val\nnames: [cell, clot]\n")
    examination = examine(str(tmp_path), size=(48, 64))
    assert examination.title == f"{tmp_path}: YOLO's layout, 2 splits (train, val)"
    assert found(tmp_path, "boxes there twice").severity == "warning"
    assert found(tmp_path, "all images are 48x64").severity == "ok"
    assert not [each for each in examination.findings if "EXIF" in each.text]
    (tmp_path / "labels/train/0.txt").write_text("0 10 10 20 20\n" * 50)
    assert found(tmp_path, "labels seem to be in pixels").severity == "error"


def test_a_folder_in_vocs_layout_is_looked_at_as_one_in_coco_format(tmp_path):
    for folder in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (tmp_path / folder).mkdir(parents=True)
    corners = "<xmin>5</xmin><ymin>5</ymin><xmax>30</xmax><ymax>30</ymax>"
    thing = f"<object><name>cell</name><bndbox>{corners}</bndbox></object>"
    Image.new("RGB", (64, 48)).save(tmp_path / "JPEGImages/a.jpg")
    (tmp_path / "Annotations/a.xml").write_text(f"<annotation>{thing * 12}</annotation>")
    (tmp_path / "ImageSets/Main/train.txt").write_text("a\n")
    examination = examine(str(tmp_path))
    assert examination.title == f"{tmp_path}: Pascal VOC's layout, 1 split (train)"
    assert found(tmp_path, "11 boxes there twice").severity == "warning"
    assert [each.split for each in examination.findings if "there is no split 'val'" in each.text] == ["val"]


def test_what_reading_mends_is_told(tmp_path):
    images, boxes = clean()
    again = [image(7, file_name="2.png", width=48, height=64)]
    bare = {key: value for key, value in box(40, 7, ()).items() if key != "bbox"}
    outlined = bare | {"segmentation": [[1, 1, 20, 1, 20, 30]]}
    moved = [images[0] | {"file_name": "C:\\set\\1.PNG"}, *images[1:], *again]
    save(tmp_path, moved, [*boxes, outlined], files=images)
    assert found(tmp_path, "joined images that are listed under several ids: 1").severity == "hint"
    assert found(tmp_path, "made boxes from segmentation: 1").severity == "note"
    assert found(tmp_path, "found images by the end of their file_name: 1").severity == "note"


def test_nothing_but_crowds_has_its_cause(tmp_path):
    images, boxes = clean()
    save(tmp_path, images, [each | {"iscrowd": 1} for each in boxes])
    finding = found(tmp_path, "there is no box that can be trained on")
    assert finding.severity == "error" and finding.wish.startswith("All 40 annotations have iscrowd 1")


def test_data_one_folder_deeper_are_named(tmp_path):
    save(tmp_path / "inner", *clean())
    findings = examine(str(tmp_path)).findings
    assert findings[0].severity == "error" and f"try --data.root {tmp_path / 'inner'}" in findings[0].text


def test_the_padding_is_that_of_images_whose_colours_change_too():
    sizes, padding = np.array([[32, 32], [64, 64], [32, 64]] * 20), []
    for augmentation in (Augmentation(), Augmentation(color_jitter=ColorJitter(1.0))):
        finding, *_ = look_at_padding(sizes, Batches(augmentation=augmentation))
        padding.append(finding.text)
    assert padding[0] == padding[1] and "nan" not in padding[0]


def test_batches_are_of_at_least_one_image():
    with pytest.raises(FieldError, match="batch_size is at least 1, got 0"):
        Batches(batch_size=0)


def test_what_a_constant_answer_scores_is_told_of_every_split_but_the_one_it_is_made_from(tmp_path, capsys):
    images, boxes = clean()
    save(tmp_path, images, [each | {"bbox": [2, 4, 30, 30]} for each in boxes[:1] + boxes[-1:]])
    later, _ = clean(first=5)
    save(tmp_path, later, [box(1, 5, (2, 4, 30, 30)), box(2, 6, (2, 4, 30, 30), 2)], "val")
    assert doctor.run([str(tmp_path)]) <= 1
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "on every image" in line]
    assert line.split()[:2] == ["note", "val"] and "boxes on every image would score AP" in line
    doctor.run([str(tmp_path), "--split", "val"])
    assert "on every image" not in capsys.readouterr().out


def test_of_images_by_class_the_class_that_training_has_most_is_scored_on_the_other_splits(tmp_path):
    for split, counts in (("train", (3, 2)), ("val", (1, 3))):
        for name, count in zip(("cat", "dog"), counts, strict=True):
            (tmp_path / split / name).mkdir(parents=True)
            for number in range(count):
                colour = (len(split) * 20 + number, count, len(name))
                Image.new("RGB", (32, 32), colour).save(tmp_path / split / name / f"{number}.png")
    told = [(each.split, each.text) for each in examine(str(tmp_path)).findings if each.group == "objects"]
    assert told == [("val", "'cat' for every image would score top-1 0.250: a model has to be above that")]
