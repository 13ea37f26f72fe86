import json
import pickle

import numpy as np
import pytest
from PIL import Image

from vitjax.data.coco_masks import CocoMasks
from vitjax.data.errors import DataError
from vitjax.data.mask_source import MaskSource
from vitjax.data.masks import boxes_of, unpack
from vitjax.data.run_lengths import decode, encode

SIZE = (20, 30)
SQUARE = [[4, 3, 10, 3, 10, 9, 4, 9]]


def mask(left, top, right, bottom):
    pixels = np.zeros(SIZE, bool)
    pixels[top:bottom, left:right] = True
    return pixels


def compressed(pixels):
    return {"size": list(pixels.shape), "counts": encode(pixels).decode()}


def annotation(number, segmentation, box=(4, 3, 6, 6), image=1, **more):
    entry = {"id": number, "image_id": image, "category_id": 1, "bbox": list(box), "iscrowd": 0, "area": 36.0}
    return entry | {"segmentation": segmentation} | more


def opened(root, annotations, split="train"):
    (root / "train").mkdir(exist_ok=True)
    images = [{"id": n, "file_name": f"{n}.png", "height": SIZE[0], "width": SIZE[1]} for n in (1, 2)]
    for each in images:
        Image.new("RGB", SIZE[::-1]).save(root / "train" / each["file_name"])
    document = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "cell"}]}
    (root / "train.json").write_text(json.dumps(document))
    return CocoMasks(str(root), train_split="train").open(split)


def test_polygons_and_run_lengths_are_masks_and_crowds_are_for_scoring_only(tmp_path):
    crowd = {"size": list(SIZE), "counts": [0, 200, 400]}
    rows = [
        annotation(9, compressed(mask(20, 10, 25, 15)), (20, 10, 5, 5), image=2),
        annotation(7, SQUARE),
        annotation(8, crowd, (0, 0, 10, 20), iscrowd=1),
        annotation(5, compressed(mask(1, 1, 4, 8)), (0, 0, 0, 0), area=None),
    ]
    source = pickle.loads(pickle.dumps(opened(tmp_path, rows)))
    assert isinstance(source, MaskSource) and source.has_masks and source.max_objects == 2
    sample = source[0]
    assert sample.boxes.tolist() == [[4, 3, 10, 9], [1, 1, 4, 8]]
    assert np.array_equal(unpack(sample.masks, 2), [mask(4, 3, 10, 9), mask(1, 1, 4, 8)])
    assert np.array_equal(unpack(source[1].masks, 1)[0], mask(20, 10, 25, 15))
    truth = source.mask_truth()["annotations"]
    assert [(row["iscrowd"], row["area"]) for row in truth] == [(0, 36), (1, 36), (0, 21), (0, 36)]
    found = [decode(row["segmentation"]["counts"].encode(), SIZE) for row in truth]
    assert np.array_equal(found, [mask(4, 3, 10, 9), mask(0, 0, 10, 20), mask(1, 1, 4, 8), mask(20, 10, 25, 15)])
    assert "segmentation" not in source.ground_truth()["annotations"][0]
    assert [line.split(": ", 1)[1] for line in source.problems] == [
        "made boxes from segmentation: 1 (first: annotation 5 of image_id 1)",
        "measured boxes whose area is missing or not positive: 1 (first: [1, 1, 3, 7] on 1.png)",
    ]


FAULTY = {
    "have no segmentation": None,
    "have polygons of fewer than three points": [[1, 2, 3, 4]],
    "have run lengths of another size than their image": {"size": [30, 20], "counts": [0, 600]},
    "have run lengths that do not add up to their image": {"size": [20, 30], "counts": [0, 60]},
    "have a mask without a pixel": {"size": [20, 30], "counts": [600]},
    "have a segmentation that makes no sense": "outline",
}


def test_objects_without_a_mask_are_left_out_and_named(tmp_path):
    wrong = [annotation(10 + row, each) for row, each in enumerate(FAULTY.values())]
    source = opened(tmp_path, [*wrong, annotation(1, [*SQUARE, []])])
    lines = [line.split(": ", 1)[1] for line in source.problems]
    for row, fault in enumerate(FAULTY):
        assert f"dropped objects that {fault}: 1 (first: annotation {10 + row} on 1.png)" in lines
    assert "left out polygons of fewer than three points: 1 (first: annotation 1 on 1.png)" in lines
    sample = source[0]
    assert len(sample.labels) == 1 and np.array_equal(boxes_of(unpack(sample.masks, 1)), sample.boxes)
    assert unpack(source[1].masks, 0).shape == (0, *SIZE)


def test_a_split_without_one_mask_cannot_be_trained_on(tmp_path):
    with pytest.raises(DataError, match=r"no object with a mask .* dropped objects that have no segmentation: 1"):
        opened(tmp_path, [annotation(1, [])])
