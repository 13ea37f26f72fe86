"""Results of a predictor as pictures, files, dictionaries and tables."""

import csv
import dataclasses
import json
import sys
import types

import numpy as np
import pytest
from inference.test_sweep import COLOURS
from inference.test_tiles import Drawn
from PIL import Image
from pycocotools import mask as coco_masks

from vitjax.classification.postprocess import TopClasses
from vitjax.data.crops import CenterCrop
from vitjax.data.errors import DataError
from vitjax.data.memory import Pictures
from vitjax.data.transforms import Resize
from vitjax.detection.postprocess import BestClass
from vitjax.drawing.boxes import draw_boxes
from vitjax.errors import FieldError
from vitjax.inference.view import Results, View
from vitjax.prediction import Prediction, Recognition, labelling, names_of
from vitjax.segmentation.label_map import BestLabel
from vitjax.tasks.classification import ImageClassifier
from vitjax.tasks.detection import Detector
from vitjax.tasks.segmentation import PixelLabeller

PIXELS = np.random.default_rng(0).integers(0, 256, (330, 340, 3), np.uint8)
TASKS = {
    "detector": Detector(None, Resize(), BestClass()),
    "classifier": ImageClassifier(None, CenterCrop(), TopClasses()),
    "segmenter": PixelLabeller(None, Resize(), BestLabel()),
}


def viewed(result, kind, picture=PIXELS):
    return dataclasses.replace(result, view=View(TASKS[kind], COLOURS, Pictures([picture], COLOURS), 0))


def detected(picture=PIXELS, masks=None):
    labels = np.array([1, 0], np.int32)
    boxes = np.array([[10, 20.126, 60, 70], [-3, 0, 340, 330]], np.float32)
    found = Prediction(boxes, np.float32([0.75, 0.5]), labels, names_of(COLOURS, labels), masks)
    return viewed(found, "detector", picture)


def recognized():
    labels = np.array([2, 0])
    return viewed(Recognition(names_of(COLOURS, labels), np.float32([0.75, 0.25]), labels), "classifier")


def labelled():
    label_map = np.zeros(PIXELS.shape[:2], np.uint8)
    label_map[:165] = 2
    return viewed(labelling(label_map, COLOURS), "segmenter")


def test_detections_are_told_with_corners_in_pixels_and_json_holds_them():
    told = json.loads(json.dumps(detected().to_dict()))
    first = {"label": 1, "name": "green", "score": 0.75, "x1": 10.0, "y1": 20.13, "x2": 60.0, "y2": 70.0}
    assert told == {"image": "image 0", "height": 330, "width": 340, "detections": [first, told["detections"][1]]}
    assert told["detections"][1]["x1"] == -3.0


def test_masks_are_told_as_run_lengths_of_their_own_detections():
    masks = np.zeros((2, 330, 340), bool)
    masks[0, 30:40, 20:50], masks[1, 5:9] = True, True
    told = json.loads(json.dumps(detected(masks=Drawn(list(masks))).to_dict()))
    for one, mask in zip(told["detections"], masks, strict=True):
        np.testing.assert_array_equal(coco_masks.decode(one["segmentation"]), mask)


def test_classes_and_shares_are_told():
    assert recognized().to_dict()["classes"][0] == {"rank": 1, "label": 2, "name": "blue", "score": 0.75}
    assert [one["share"] for one in labelled().to_dict()["classes"]] == [0.5, 0.5]


def test_a_drawn_detection_is_what_the_command_draws():
    found = detected()
    wanted = draw_boxes(PIXELS, found.boxes, found.names, found.scores, names=COLOURS.names)
    np.testing.assert_array_equal(np.asarray(found.draw()), wanted)
    assert len(np.unique(np.asarray(found.reaching(0.6).draw()) != wanted)) == 2  # what is taken of it is drawn as well


def test_classes_stand_below_their_image_and_labels_lie_over_theirs():
    assert recognized().draw().height > 330 + 2 * 13 and labelled().draw().height > 330
    assert not np.array_equal(np.asarray(labelled().draw())[:330], PIXELS)


@pytest.mark.parametrize("make", [detected, recognized, labelled])
def test_the_end_of_a_path_says_what_is_written(make, tmp_path):
    found = make()
    assert found.save(tmp_path / "new" / "a.png") == tmp_path / "new" / "a.png"
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "new" / "a.png")), np.asarray(found.draw()))
    assert json.loads(found.save(tmp_path / "a.json").read_text()) == found.to_dict()
    rows = list(csv.DictReader(found.save(str(tmp_path / "a.CSV")).open()))
    wanted = [{"image": "image 0", **row} for row in found.to_dict()[found.holds]]
    assert rows == [{key: str(value) for key, value in row.items()} for row in wanted]
    assert found.save(tmp_path / "folder") == tmp_path / "folder" / "image 0.png"
    assert found.save(tmp_path) == tmp_path / "image 0.png"


def test_pictures_of_a_list_go_into_a_folder_beside_no_other_and_tables_hold_all(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    paths = [tmp_path / "a" / "x.png", tmp_path / "b" / "x.jpg"]
    for path in paths:
        path.parent.mkdir()
        Image.fromarray(PIXELS).save(path)
    found = Results([detected(path) for path in paths])
    assert [path.as_posix() for path in found.save()] == ["predictions/x.png", "predictions/x_2.png"]
    assert [one["image"] for one in found.to_dict()["images"]] == [str(path) for path in paths]
    assert json.loads(found.save("all.json")[0].read_text()) == found.to_dict()
    (table,) = found.save("all.csv")
    assert [row["image"] for row in csv.DictReader(table.open())] == [str(path) for path in paths for _ in range(2)]
    assert [picture.size for picture in found.draw()] == [(340, 330)] * 2
    assert Results([]).save("none.json")[0].read_text() == '{"images": []}' and Results([]).save() == []


def test_a_picture_never_takes_the_place_of_its_image(tmp_path):
    path = tmp_path / "x.png"
    Image.fromarray(PIXELS).save(path)
    before = path.read_bytes()
    for to in (path, tmp_path, tmp_path / "." / "x.png"):
        with pytest.raises(DataError, match="overwrite"):
            detected(path).save(to)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("make", "path"), [(detected, "a.gif"), (detected, "a.mp4"), (lambda: Results([detected(), detected()]), "a.png")]
)
def test_what_is_not_written_is_refused_by_name(make, path, tmp_path):
    with pytest.raises(DataError, match=rf"{path} is neither a folder nor one \.png, "):
        make().save(tmp_path / path)


def test_a_place_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"cannot be written: .* is a file, not a folder\. Give another path"):
        detected().save(tmp_path / "file" / "a.png")


def test_without_pandas_the_wish_is_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(FieldError, match=r"needs pandas.*pip install pandas\. to_dict\(\) does without"):
        detected().to_pandas()


def test_pandas_gets_a_row_for_each_thing_and_the_columns_of_none(monkeypatch):
    frame = types.SimpleNamespace(DataFrame=lambda rows, columns: (rows, columns))
    monkeypatch.setitem(sys.modules, "pandas", frame)
    rows, columns = Results([detected(), detected().reaching(0.6)]).to_pandas()
    assert [row["name"] for row in rows] == ["green", "red", "green"]
    assert all(set(row) == set(columns) for row in rows) and columns[:2] == ["image", "label"]
    assert detected().reaching(1.0).to_pandas() == ([], columns)


def test_a_result_that_came_of_no_predictor_says_so():
    with pytest.raises(DataError, match="this Labelling was made without an image"):
        labelling(np.zeros((2, 2), np.uint8), COLOURS).draw()
