import contextlib
import io
import json
import pickle

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from vitjax.data.coco import CocoFolder
from vitjax.data.errors import DataError

RUNS = {"size": [30, 40], "counts": [63, *[8, 22] * 9, 8, 859]}  # the pixels of annotation()
CATEGORIES = [{"id": 1, "name": "cell"}, {"id": 4, "name": "clot"}]


def image(number, name=None, width=40, height=30):
    return {"id": number, "file_name": name or f"{number}.png", "width": width, "height": height}


def annotation(number, image_id, bbox=(2, 3, 10, 8), category_id=1, **more):
    return {"id": number, "image_id": image_id, "bbox": list(bbox), "category_id": category_id} | {
        "area": 80.0,
        "iscrowd": 0,
    } | more  # fmt: skip


def save(folder, images, annotations, json_path="annotations/instances_train.json", image_folder="train"):
    """Writes a data set whose images have the size that the json says."""
    (folder / image_folder).mkdir(parents=True, exist_ok=True)
    (folder / json_path).parent.mkdir(parents=True, exist_ok=True)
    for entry in images:
        path = folder / image_folder / entry["file_name"]
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (entry["width"], entry["height"]), (entry["id"], 0, 0)).save(path)
    document = {"images": images, "annotations": annotations, "categories": CATEGORIES}
    (folder / json_path).write_text(json.dumps(document))
    return CocoFolder(str(folder))


def small(folder, **paths):
    boxes = [annotation(5, 2), annotation(6, 1, (0, 0, 5, 5), 4), annotation(7, 2, (1, 1, 30, 20), 4, iscrowd=1)]
    return save(folder, [image(1), image(2)], boxes, **paths)


def test_a_record_is_an_image_with_boxes_and_labels(tmp_path):
    source = small(tmp_path).open("train")
    assert len(source) == 2 and source.max_objects == 1 and source.problems == ()
    assert source.image_ids == (1, 2) and source.name(1) == "2.png"
    assert source.sizes.tolist() == [[30, 40], [30, 40]]
    assert source.classes.names == ("cell", "clot") and source.classes.category_ids == (1, 4)
    sample = pickle.loads(pickle.dumps(source))[1]
    assert sample.image.shape == (30, 40, 3) and sample.image[0, 0].tolist() == [2, 0, 0]
    assert sample.boxes.tolist() == [[2, 3, 12, 11]] and sample.labels.tolist() == [0]


def test_labels_can_be_the_category_ids(tmp_path):
    small(tmp_path)
    source = CocoFolder(str(tmp_path), labels="category_id").open("train")
    assert source.classes.names == ("", "cell", "", "", "clot")
    assert [source[record].labels.tolist() for record in range(2)] == [[4], [1]]
    assert source.ground_truth()["categories"] == CATEGORIES
    assert sorted(row["category_id"] for row in source.ground_truth()["annotations"]) == [1, 4, 4]


def test_pycocotools_gives_a_perfect_score_to_the_ground_truth_itself(tmp_path):
    boxes = [annotation(0, 1, (0, 0, 5, 5)), annotation(0, 2), annotation(3, 2, (20, 9, 12, 12), 4)]
    source = save(tmp_path, [image(1), image(2)], boxes).open("train")
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
    assert "whose id is missing, 0 or taken: 2" in source.problems[0]


@pytest.mark.parametrize(
    ("json_path", "image_folder"),
    [
        ("annotations/instances_val.json", "val"),
        ("annotations/instances_val2017.json", "val2017"),
        ("annotations/val.json", "images/val"),
        ("val.json", "images/val2017"),
        ("val.json", "images"),
        ("val.json", "."),
        ("valid/_annotations.coco.json", "valid"),
        ("annotations/instances_validation.json", "validation"),
        ("val.json", "pictures"),
    ],
)
def test_the_usual_layouts_are_found(tmp_path, json_path, image_folder):
    source = small(tmp_path, json_path=json_path, image_folder=image_folder).open("val")
    assert len(source) == 2 and len(source[0].labels) == 1


def test_images_of_another_split_with_the_same_names_are_not_taken(tmp_path):
    small(tmp_path)
    source = save(tmp_path, [image(1), image(2)], [], "annotations/instances_val.json", "val")
    (tmp_path / "val" / "2.png").unlink()
    opened = source.open("val")
    assert opened.folder == tmp_path / "val" and opened.image_ids == (1,)


def test_file_names_may_have_folders(tmp_path):
    source = save(tmp_path, [image(1, "a/b/1.png"), image(2, "a/2.png")], [annotation(1, 1)]).open("train")
    assert len(source) == 2 and source[0].image.shape == (30, 40, 3) and source.problems == ()


def test_missing_folders_are_named(tmp_path):
    (tmp_path / "file").touch()
    for root, words in (
        ("", "no data folder is given"),
        (str(tmp_path / "nowhere"), "nowhere does not exist"),
        (str(tmp_path / "file"), "is a file, not a folder"),
    ):
        with pytest.raises(DataError, match=words) as caught:
            CocoFolder(root).open("train")
        assert "--data.root" in str(caught.value)


def test_a_missing_json_is_named_with_those_that_are_there(tmp_path):
    small(tmp_path)
    with pytest.raises(DataError, match=r"no annotations of the split 'val'.*valid and validation") as caught:
        CocoFolder(str(tmp_path)).open("val")
    assert "The json files in it are annotations/instances_train.json" in str(caught.value)
    assert "annotations/instances_val2017.json" in str(caught.value)


def test_images_that_are_nowhere_are_named(tmp_path):
    source = small(tmp_path)
    for path in (tmp_path / "train").iterdir():
        path.unlink()
    with pytest.raises(DataError, match=r"are not found: looked for 1\.png in .*correct file_name"):
        source.open("train")


def test_missing_and_unreadable_images_are_left_out_with_their_annotations(tmp_path):
    boxes = [annotation(number, number) for number in (1, 2, 3)]
    source = save(tmp_path, [image(1), image(2), image(3)], boxes)
    (tmp_path / "train" / "2.png").unlink()
    (tmp_path / "train" / "3.png").write_text("<html>not found</html>")
    opened = source.open("train")
    assert opened.image_ids == (1,) and len(opened.ground_truth()["annotations"]) == 1
    missing, unreadable, annotations = opened.problems
    assert "instances_train.json: left out images whose file is missing: 1 (first: " in missing and "2.png" in missing
    assert "cannot be read: 1" in unreadable and "3.png is no image: it begins with b'<html>" in unreadable
    assert "annotations of images that were left out: 2" in annotations


def test_without_a_header_check_a_broken_image_is_found_when_it_is_read(tmp_path):
    small(tmp_path)
    (tmp_path / "train" / "1.png").write_bytes(b"")
    (tmp_path / "train" / "2.png").unlink()
    Image.new("RGB", (50, 30)).save(tmp_path / "train" / "2.png")
    source = CocoFolder(str(tmp_path), check_images=False).open("train")
    assert len(source) == 2
    with pytest.raises(DataError, match=r"1\.png is empty"):
        source[0]
    with pytest.raises(DataError, match=r"2\.png is 50x30 .* not 40x30 .* check_images"):
        source[1]


def test_an_image_that_vanishes_or_is_truncated_later_is_named(tmp_path):
    source = small(tmp_path).open("train")
    (tmp_path / "train" / "1.png").unlink()
    path = tmp_path / "train" / "2.png"
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(DataError, match=r"1\.png cannot be read: No such file"):
        source[0]
    with pytest.raises(DataError, match=r"2\.png .*truncated"):
        source[1]


def test_a_wrong_size_in_the_json_is_corrected_and_boxes_clamped_to_the_file(tmp_path):
    source = save(tmp_path, [image(1)], [annotation(1, 1, (30, 10, 100, 10))])
    document = json.loads((tmp_path / "annotations/instances_train.json").read_text())
    document["images"][0] |= {"width": 400, "height": 300}
    (tmp_path / "annotations/instances_train.json").write_text(json.dumps(document))
    opened = source.open("train")
    assert opened.sizes.tolist() == [[30, 40]] and opened[0].boxes.tolist() == [[30, 10, 40, 20]]
    assert "corrected image sizes" in opened.problems[0] and "1.png is 40x30" in opened.problems[0]
    assert "clamped boxes" in opened.problems[1]


@pytest.mark.parametrize("turned", [True, False], ids=["json upright", "json as stored"])
def test_a_photo_is_turned_only_where_the_json_has_it_upright(tmp_path, turned):
    stored = image(1, "1.jpg")
    source = save(tmp_path, [stored], [annotation(1, 1)])
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 30)).save(tmp_path / "train" / "1.jpg", exif=exif)
    if turned:
        document = {"images": [stored | {"width": 30, "height": 40}], "categories": CATEGORIES}
        document["annotations"] = [annotation(1, 1)]
        (tmp_path / "annotations/instances_train.json").write_text(json.dumps(document))
    opened = source.open("train")
    expected = [40, 30] if turned else [30, 40]
    assert opened.sizes.tolist() == [expected] and list(opened[0].image.shape[:2]) == expected
    assert ("turned images upright by EXIF" in " ".join(opened.problems)) == turned


def test_boxes_that_are_no_boxes_are_dropped_and_counted(tmp_path):
    bad = [(float("nan"), 0, 5, 5), (0, 0, -5, 5), (0, 0, 0, 5), (-50, -50, 10, 10)]
    boxes = [annotation(number, 1, box) for number, box in enumerate(bad, 1)] + [annotation(9, 1)]
    source = save(tmp_path, [image(1)], boxes).open("train")
    assert source[0].boxes.tolist() == [[2, 3, 12, 11]] and len(source.ground_truth()["annotations"]) == 1
    assert "no finite number: 1 (first: [nan, 0, nan, 5] on 1.png)" in source.problems[0]
    assert "cover nothing of their image: 3 (first: [0, 0, -5, 5] on 1.png)" in source.problems[1]


@pytest.mark.parametrize("split", ["train", "val"])
@pytest.mark.parametrize(
    ("written", "words"),
    [
        (
            lambda x, y, w, h: [x / 40, y / 30, w / 40, h / 30],
            "relative to their image: 100% have no coordinate above 1",
        ),
        (lambda x, y, w, h: [x / 40, y / 30, (x + w) / 40, (y + h) / 30], "relative to their image"),
        (lambda x, y, w, h: [x, y, x + w, y + h], r"\[x1, y1, x2, y2\]: read as they should be, 100% reach out"),
        (lambda x, y, w, h: [x + w / 2, y + h / 2, w, h], r"\[centre x, centre y, width, height\]"),
    ],
)
def test_boxes_in_another_format_are_an_error(tmp_path, split, written, words):
    right = [(20 + 2 * n, 17 + n, 11, 8) for n in range(5)]
    assert len(save(tmp_path, [image(1)], [annotation(9, 1, box) for box in right]).open("train")) == 1
    boxes = [annotation(n, 1, written(*box)) for n, box in enumerate(right, 1)]
    source = save(tmp_path, [image(1)], boxes, f"annotations/instances_{split}.json", split)
    with pytest.raises(DataError, match=words + r".*\(first: .* Write bbox as \[x, y, width, height\] in pixels"):
        source.open(split)


def test_single_boxes_that_look_relative_are_counted(tmp_path):
    source = save(tmp_path, [image(1)], [annotation(1, 1), annotation(2, 1, (0.1, 0.2, 0.3, 0.5))]).open("train")
    (said,) = source.problems
    assert "in the first pixel of their image, as shares of it would: 1 (first: [0.1, 0.2, 0.3, 0.5] on 1.png)" in said


@pytest.mark.parametrize("bbox", ["missing", None, [], [0, 0, 0, 0], [1, 2, "x"], [float("nan"), 1, 2, 3]], ids=str)
@pytest.mark.parametrize("segmentation", [[[2, 3, 12, 3, 12, 11]], RUNS], ids=["polygon", "RLE"])
def test_an_object_without_a_box_gets_that_of_its_segmentation(tmp_path, bbox, segmentation):
    bare = annotation(1, 1, segmentation=segmentation) | {"bbox": bbox}
    boxes = [{key: value for key, value in bare.items() if value != "missing"}, annotation(2, 1, (1, 1, 5, 5))]
    source = save(tmp_path, [image(1)], boxes).open("train")
    assert source[0].boxes.tolist() == [[2, 3, 12, 11], [1, 1, 6, 6]]
    assert source.problems == (
        "instances_train.json: made boxes from segmentation: 1 (first: annotation 1 of image_id 1)",
    )


def test_image_entries_of_one_file_are_joined_and_their_copies_left_out(tmp_path):
    entries = [image(1), image(2, "1.png"), image(3, "./1.png"), image(4)]
    boxes = [annotation(1, 1), annotation(2, 2, (5, 5, 9, 9)), annotation(3, 2), annotation(4, 3), annotation(5, 4)]
    source = save(tmp_path, entries, boxes).open("train")
    assert source.image_ids == (1, 4) and source[0].boxes.tolist() == [[2, 3, 12, 11], [5, 5, 14, 14]]
    assert len(source.ground_truth()["annotations"]) == 3
    joined, again = source.problems
    assert "joined images that are listed under several ids: 2 (first: 1.png)" in joined
    assert "skipped annotations that joined images have twice: 2 (first: annotation 3 of image_id 2)" in again


def test_nothing_but_crowds_is_said(tmp_path):
    boxes = [annotation(number, 1, iscrowd=1) for number in (1, 2)]
    with pytest.raises(DataError, match="All 2 annotations have iscrowd 1, which training leaves out: write iscrowd 0"):
        save(tmp_path, [image(1)], boxes).open("train")
    source = save(tmp_path, [image(1)], boxes, "annotations/instances_val.json", "val").open("val")
    assert "images with nothing but crowds on them, scores will be NaN: 1" in source.problems[0]


def test_nothing_to_train_on_is_an_error_and_nothing_to_score_is_said(tmp_path):
    source = save(tmp_path, [image(1)], [annotation(1, 1, category_id=99), annotation(2, 1, iscrowd=1)])
    with pytest.raises(DataError, match=r"no annotation that can be trained on.*unknown category: 1"):
        source.open("train")
    opened = save(tmp_path, [image(1)], [], "annotations/instances_val.json", "val").open("val")
    assert opened.max_objects == 0 and opened[0].boxes.shape == (0, 4)
    assert "without one annotation among them, scores will be NaN" in opened.problems[0]
    assert opened.ground_truth()["annotations"] == []


def test_no_image_at_all_is_an_error(tmp_path):
    source = save(tmp_path, [], [])
    with pytest.raises(DataError, match=r"instances_train\.json lists no image that can be used"):
        source.open("train")


def test_no_usable_image_is_an_error_with_the_reasons(tmp_path):
    source = save(tmp_path, [image(1)], [annotation(1, 1)])
    (tmp_path / "train" / "1.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"none of the 1 images .*1\.png is empty"):
        source.open("train")


def test_an_image_without_annotations_stays(tmp_path):
    source = save(tmp_path, [image(1), image(2)], [annotation(1, 2)]).open("train")
    assert len(source) == 2 and source[0].boxes.shape == (0, 4) and np.array_equal(source[0].labels, [])
