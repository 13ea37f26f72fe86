"""Segments in COCO's panoptic form: what is written is read back by our source, and scored by the official rules."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vitjax.data.coco_panoptic import CocoPanoptic
from vitjax.data.errors import DataError
from vitjax.data.label_names import COCO_PANOPTIC, stuff_of
from vitjax.data.mask_source import PanopticMap
from vitjax.data.source import Classes
from vitjax.evaluation.panoptic import panoptic_quality
from vitjax.inference.panoptic_files import PanopticFiles, image_ids

CLASSES = Classes(("cat", "sky", ""), (3, 7, 9), (1,))


def found(seed, segments=3):
    """A map of an image of 12 x 20 pixels with that many segments, of which the second is stuff."""
    owner = np.random.default_rng(seed).integers(-1, max(segments, 1), (12, 20)) if segments else np.full((12, 20), -1)
    owner.ravel()[:segments] = np.arange(segments)
    labels = np.array([0, 1, 0, 2][:segments], np.int32)
    return PanopticMap(owner.astype(np.int32), labels, np.zeros(segments, bool))


def written(out, maps, names=("7.png", "0012.png"), classes=CLASSES):
    paths = []
    (out / "images").mkdir(parents=True)
    for name, one in zip(names, maps, strict=True):
        paths.append(out / "images" / name)
        Image.fromarray(np.zeros((*one.owner.shape, 3), np.uint8)).save(paths[-1])
    files = PanopticFiles(out, paths, classes)
    for record in reversed(range(len(maps))):  # as they come, bucket by bucket
        files.add(record, f"{Path(names[record]).stem}.png", maps[record])
    files.close()
    return json.loads((out / "panoptic_segments.json").read_text())


def test_what_is_written_is_read_back_and_scores_1_against_itself(tmp_path):
    maps = [found(0), found(1, 2)]
    content = written(tmp_path, maps)
    assert [image["id"] for image in content["images"]] == [7, 12]  # as the files are called
    source = CocoPanoptic(str(tmp_path), split="segments", labels="contiguous").open("segments")
    assert source.problems == () and source.classes.stuff == (1,)
    for record, one in enumerate(maps):
        again = source.panoptic(record)
        assert source.image_ids[record] == content["annotations"][record]["image_id"]
        np.testing.assert_array_equal(again.owner, one.owner)
        np.testing.assert_array_equal(again.labels, one.labels)
    scores = panoptic_quality(((source.panoptic(record), maps[record]) for record in (0, 1)), source.classes)
    assert scores.all == (1, 1, 1, 5) and scores.stuff.PQ == scores.things.PQ == 1


def test_the_json_has_what_the_official_scorer_asks_for(tmp_path):
    content = written(tmp_path, [found(0, 4), found(2, 0)])
    assert content["categories"] == [
        {"id": 3, "name": "cat", "isthing": 1},
        {"id": 7, "name": "sky", "isthing": 0},
        {"id": 9, "name": "2", "isthing": 1},  # it has no name, but was found
    ]
    known = {category["id"] for category in content["categories"]}
    for annotation, image in zip(content["annotations"], content["images"], strict=True):
        assert annotation["image_id"] == image["id"] and (image["height"], image["width"]) == (12, 20)
        pixels = np.array(Image.open(tmp_path / "panoptic_segments" / annotation["file_name"]), np.uint32)
        ids, counts = np.unique(pixels @ np.array([1, 256, 256**2], np.uint32), return_counts=True)
        areas = dict(zip(ids.tolist(), counts.tolist(), strict=True))
        areas.pop(0, None)
        assert areas == {segment["id"]: segment["area"] for segment in annotation["segments_info"]}
        for segment in annotation["segments_info"]:
            assert segment["category_id"] in known and segment["iscrowd"] == 0 and len(segment["bbox"]) == 4
    assert content["annotations"][1]["segments_info"] == []


def test_images_are_numbered_where_files_are_not_called_by_different_numbers():
    for names, ids in {
        ("000000142238.jpg", "9.png"): [142238, 9],
        ("07.jpg", "7.png"): [1, 2],
        ("a.jpg", "7.png"): [1, 2],
        ("²", "³"): [1, 2],
        (): [],
    }.items():
        assert image_ids([Path(name) for name in names]) == ids


def test_no_image_is_overwritten_and_of_no_segments_there_are_no_files(tmp_path):
    path = tmp_path / "panoptic_segments" / "a.png"
    files = PanopticFiles(tmp_path, [path], CLASSES)
    files.close()
    assert list(tmp_path.iterdir()) == [] and files.told(0) == []
    with pytest.raises(DataError, match=r"would overwrite .*panoptic_segments/a\.png"):
        files.add(0, "a.png", found(0))


def test_stuff_is_what_the_classes_say_or_what_is_known_of_cocos():
    assert stuff_of(CLASSES) == (1,) and stuff_of(Classes(("cat",), (1,))) == ()
    assert stuff_of(Classes(COCO_PANOPTIC.names, COCO_PANOPTIC.category_ids)) == COCO_PANOPTIC.stuff
