import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import vitjax
from vitjax.data.coco import CocoFolder
from vitjax.data.coco_masks import CocoMasks
from vitjax.data.coco_panoptic import CocoPanoptic
from vitjax.data.digit_masks import DigitMasks
from vitjax.data.errors import DataError
from vitjax.data.label_names import COCO_PANOPTIC
from vitjax.data.mask_source import PanopticSource
from vitjax.data.masks import unpack
from vitjax.data.panoptic_json import panoptic_splits
from vitjax.data.panoptic_png import MOST, as_colours, in_panoptic_form, numbered, read_ids
from vitjax.data.run_lengths import decode

SAMPLE = Path(vitjax.__file__).parents[2] / "shared" / "data" / "coco_panoptic_sample"
SKY, CAT, HERD = 70_000, 5, 300  # ids in the PNG
CATEGORIES = [
    {"id": 1, "name": "cat", "isthing": 1},
    {"id": 2, "name": "cow", "isthing": 1},
    {"id": 9, "name": "sky", "isthing": 0},
]


def ids():
    """Sky above, a cat in it, a herd beneath, and nobody's column at the right."""
    found = np.full((12, 16), SKY, np.int32)
    found[2:5, 3:7] = CAT
    found[8:] = HERD
    found[:, 15] = 0
    return found


def segments():
    return [
        {"id": SKY, "category_id": 9, "iscrowd": 0, "area": 108, "bbox": [0, 0, 15, 8]},
        {"id": CAT, "category_id": 1, "iscrowd": 0, "area": 12, "bbox": [3, 2, 4, 3]},
        {"id": HERD, "category_id": 2, "iscrowd": 1, "area": 60, "bbox": [0, 8, 15, 4]},
    ]


def save(root, told=None, png=None, images=1, categories=CATEGORIES, name="annotations/panoptic_{}2017", split="train"):
    path = root / name.format(split)
    path.mkdir(parents=True, exist_ok=True)
    (root / split).mkdir(exist_ok=True)
    listed, annotations = [], []
    for number in range(1, images + 1):
        Image.new("RGB", (16, 12), (number, 0, 0)).save(root / split / f"{number}.jpg")
        Image.fromarray(as_colours(ids() if png is None else png)).save(path / f"{number}.png")
        listed.append({"id": number, "file_name": f"{number}.jpg", "height": 12, "width": 16})
        own = segments() if told is None else told
        annotations.append({"image_id": number, "file_name": f"{number}.png", "segments_info": own})
    document = {"images": listed, "annotations": annotations, "categories": categories}
    path.with_suffix(".json").write_text(json.dumps(document))
    return document, path


def test_ids_are_colours_and_colours_ids():
    some = np.array([[0, 1, 255, 256], [65_535, 65_536, 70_000, MOST]])
    assert as_colours(some)[1, 2].tolist() == [70_000 % 256, 70_000 // 256 % 256, 1]
    assert (as_colours(some).astype(int) @ [1, 256, 65_536]).tolist() == some.tolist()
    assert numbered(some, np.array([MOST, 1])).tolist() == [[-1, 1, -1, -1], [-1, -1, -1, 0]]
    assert (numbered(some, np.zeros(0, int)) == -1).all()


@pytest.mark.parametrize("labels", ["contiguous", "category_id"])
def test_segments_are_objects_with_masks_and_crowds_stay_in_the_map(tmp_path, labels):
    save(tmp_path)
    source = pickle.loads(pickle.dumps(CocoPanoptic(str(tmp_path), labels=labels).open("train")))
    assert isinstance(source, PanopticSource) and source.problems == () and source.max_objects == 2
    cat, cow, sky = (0, 1, 2) if labels == "contiguous" else (1, 2, 9)
    assert source.classes.stuff == (sky,) and source.classes.names[sky] == "sky"
    sample = source[0]
    assert sample.labels.tolist() == [sky, cat] and sample.boxes.tolist() == [[0, 0, 15, 8], [3, 2, 7, 5]]
    assert np.array_equal(unpack(sample.masks, 2), [ids() == SKY, ids() == CAT]) and not (sample.masks >> 2).any()
    found = source.panoptic(0)
    assert found.labels.tolist() == [sky, cat, cow] and found.crowds.tolist() == [False, False, True]
    assert np.array_equal(found.owner, np.select([ids() == SKY, ids() == CAT, ids() == HERD], [0, 1, 2], -1))
    assert CocoPanoptic(str(tmp_path), masks=False).open("train")[0].masks is None


def test_things_alone_are_scored_as_boxes_and_masks(tmp_path):
    save(tmp_path, images=2)
    source = CocoPanoptic(str(tmp_path)).open("train")
    truth = source.mask_truth()
    rows = [(row["id"], row["image_id"], row["category_id"], row["iscrowd"]) for row in truth["annotations"]]
    assert rows == [(1, 1, 1, 0), (2, 1, 2, 1), (3, 2, 1, 0), (4, 2, 2, 1)]
    for row, id_ in zip(truth["annotations"], (CAT, HERD) * 2, strict=True):
        assert np.array_equal(decode(row["segmentation"]["counts"].encode(), (12, 16)), ids() == id_)
    assert [row["bbox"] for row in source.ground_truth()["annotations"][:2]] == [[3, 2, 4, 3], [0, 8, 15, 4]]


def test_labels_of_coco_are_those_of_published_models(tmp_path):
    named = zip(COCO_PANOPTIC.names, COCO_PANOPTIC.category_ids, strict=True)
    categories = [{"id": id_, "name": name, "isthing": int(id_ < 91)} for name, id_ in named if name]
    save(tmp_path, [dict(segments()[0], category_id=187)], categories=categories)
    assert CocoPanoptic(str(tmp_path), labels="category_id").open("train").classes is COCO_PANOPTIC
    assert len(CocoPanoptic(str(tmp_path)).open("train").classes) == 133


def test_json_and_pngs_may_lie_elsewhere_and_boxes_may_be_missing(tmp_path):
    own = tmp_path / "panoptic"
    own.mkdir()
    told = [{key: value for key, value in each.items() if key not in ("bbox", "area")} for each in segments()]
    save(own, told, name="panoptic_{}", split="val")
    (own / "val").rename(tmp_path / "images")
    assert panoptic_splits(own) == ("val",)
    source = CocoPanoptic(str(tmp_path), panoptic_root=str(own)).open("valid")
    assert source[0].boxes.tolist() == [[0, 0, 15, 8], [3, 2, 7, 5]] and source.annotations.areas.tolist() == [
        108,
        12,
        60,
    ]
    assert [line.split(": ", 1)[1] for line in source.problems] == [
        "made boxes from PNGs: 3 (first: segment 70000 in 1.png)"
    ]


def test_what_cannot_be_used_is_counted(tmp_path):
    told = [*segments(), dict(segments()[0], id=0), dict(segments()[1]), dict(segments()[1], id="5"), 7,
            dict(segments()[1], id=6, bbox=None)]  # fmt: skip
    document, path = save(tmp_path, told, images=4)
    (path / "2.png").unlink()
    Image.new("RGB", (3, 3)).save(path / "3.png")
    document["annotations"] = [
        *document["annotations"][:3],
        document["annotations"][0],
        {"image_id": 4},
        5,
        dict(document["annotations"][0], image_id=77),
    ]
    path.with_suffix(".json").write_text(json.dumps(document))
    source = CocoPanoptic(str(tmp_path)).open("train")
    assert len(source) == 1 and len(source[0].labels) == 2
    counted = dict(line.split(": ", 1)[1].split(" (first")[0].rsplit(": ", 1) for line in source.problems)
    assert counted == {
        "skipped annotations without image_id, file_name or segments_info": "2",
        "skipped annotations of images that have one already": "1",
        "left out images without segments": "1",
        "left out images whose PNG is missing": "1",
        "left out images whose PNG has another size than the json says": "1",
        "skipped annotations of an unknown image": "1",
        "skipped segments whose id is no colour (1 to 16777215)": "3",
        "skipped segments whose id another of the image has": "1",
        "skipped segments without a pixel": "1",
    }


def test_a_png_that_is_no_map_is_told_when_it_is_read(tmp_path):
    _, path = save(tmp_path)
    source = CocoPanoptic(str(tmp_path), check_images=False).open("train")
    for picture, fault in (
        (Image.new("L", (16, 12)), "has L pixels"),
        (Image.new("RGB", (16, 3)), "16x3 pixels, and 1.jpg"),
    ):
        picture.save(path / "1.png")
        with pytest.raises(DataError, match=fault):
            source[0]
    assert source.mask_truth()["annotations"] == [] and len(source.ground_truth()["annotations"]) == 2
    (path / "1.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match="cannot be read as a map"):
        read_ids(path / "1.png")


def test_what_is_missing_is_named(tmp_path):
    _, path = save(tmp_path)
    with pytest.raises(
        DataError, match=r"no panoptic annotations of the split 'val'.*The splits that are there: train"
    ):
        CocoPanoptic(str(tmp_path)).open("val")
    path.rename(tmp_path / "elsewhere")
    with pytest.raises(DataError, match=r"the PNGs of .* are not found"):
        CocoPanoptic(str(tmp_path)).open("train")


def test_a_detection_source_says_whose_form_this_is(tmp_path):
    _, path = save(tmp_path)
    with pytest.raises(
        DataError, match=r"is in COCO's panoptic form: from Python, read it with vitjax\.data\.CocoPanoptic"
    ):
        CocoFolder(str(tmp_path)).open("train")
    (tmp_path / "val.json").write_text("{}")
    with pytest.raises(DataError, match="has no annotations of the split 'train'"):
        CocoFolder(str(tmp_path)).open("train")
    path.with_suffix(".json").rename(tmp_path / "train.json")
    with pytest.raises(DataError, match=r"CocoPanoptic, and call it panoptic_train\.json"):
        CocoFolder(str(tmp_path)).open("train")


@pytest.mark.skipif(not SAMPLE.is_dir(), reason="the two images are not at hand")
def test_both_forms_of_two_images_of_coco_have_the_same_masks(tmp_path):
    (tmp_path / "val").symlink_to(SAMPLE / "input_images")
    (tmp_path / "panoptic_val").symlink_to(SAMPLE / "panoptic_examples")
    (tmp_path / "panoptic_val.json").symlink_to(SAMPLE / "panoptic_examples.json")
    (tmp_path / "val.json").symlink_to(SAMPLE / "panoptic_coco_detection_format.json")
    one, other = (kind(str(tmp_path)).open("val") for kind in (CocoMasks, CocoPanoptic))
    assert one.classes == other.classes and len(one) == len(other) == 2
    for record in range(2):
        mine, theirs = one[record], other[record]
        assert np.array_equal(mine.masks, theirs.masks) and np.array_equal(mine.boxes, theirs.boxes)
        assert np.array_equal(mine.labels, theirs.labels) and len(mine.labels) == (17, 30)[record]


def test_what_is_written_in_this_form_is_read_as_it_was(tmp_path):
    scenes = DigitMasks(height=32, width=40, min_size=12, max_size=20, val_images=4).open("val")
    annotations, images = [], []
    (tmp_path / "panoptic_val").mkdir()
    (tmp_path / "val").mkdir()
    for record in range(4):
        colours, annotation = in_panoptic_form(scenes.panoptic(record), record, f"{record}.png", scenes.classes)
        Image.fromarray(colours).save(tmp_path / "panoptic_val" / f"{record}.png")
        Image.fromarray(scenes[record].image).save(tmp_path / "val" / f"{record}.bmp")
        annotations.append(annotation)
        images.append({"id": record, "file_name": f"{record}.bmp", "height": 32, "width": 40})
    named = zip(scenes.classes.category_ids, scenes.classes.names, strict=True)
    categories = [{"id": id_, "name": name, "isthing": int(len(name) == 1)} for id_, name in named]
    document = {"images": images, "annotations": annotations, "categories": categories}
    (tmp_path / "panoptic_val.json").write_text(json.dumps(document))
    source = CocoPanoptic(str(tmp_path)).open("val")
    assert source.classes == scenes.classes and source.classes.stuff == (10, 11, 12) and source.problems == ()
    for record in range(4):
        mine, theirs = source[record], scenes[record]
        assert all(np.array_equal(getattr(mine, name), getattr(theirs, name)) for name in vars(mine))
        assert np.array_equal(source.panoptic(record).owner, scenes.panoptic(record).owner)
    assert source.ground_truth()["annotations"][0]["bbox"] == scenes.ground_truth()["annotations"][0]["bbox"]
