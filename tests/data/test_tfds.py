import io
import pickle
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from vitjax.data.errors import DataError
from vitjax.data.tfds import TfdsCoco
from vitjax.data.tfds_images import COCO_CATEGORY_IDS

WHOLE = {"area": 300, "bbox": tfds.features.BBox(0.1, 0.5, 0.4, 1.0), "id": 3, "is_crowd": False, "label": 0}
CROWD = {"area": 90, "bbox": tfds.features.BBox(0.0, 0.0, 0.5, 0.5), "id": 4, "is_crowd": True, "label": 79}
FLAT = {"area": 0, "bbox": tfds.features.BBox(0.5, 0.5, 0.5, 0.9), "id": 5, "is_crowd": False, "label": 11}


def entry(number, *objects, data=None):
    buffer = io.BytesIO()
    Image.new("RGB", (40, 30), (number, 0, 0)).save(buffer, "PNG")
    name = f"{number:012}.jpg"
    return {
        "image": io.BytesIO(data or buffer.getvalue()), "image/filename": name, "image/id": number,
        "objects": list(objects),
    }  # fmt: skip


class Coco(tfds.core.GeneratorBasedBuilder):
    """The features of coco/2017, with three images and no download."""

    VERSION = tfds.core.Version("1.1.0")
    BUILDER_CONFIGS = (tfds.core.BuilderConfig(name="2017"), tfds.core.BuilderConfig(name="plain"))
    code_path = None
    pkg_dir_path = Path(__file__).parent

    def _info(self):
        features = {"image": tfds.features.Image(encoding_format="png")}
        if self.builder_config.name == "2017":
            annotation = {
                "area": np.int64, "bbox": tfds.features.BBoxFeature(), "id": np.int64, "is_crowd": np.bool_,
                "label": tfds.features.ClassLabel(num_classes=80),
            }  # fmt: skip
            features |= {"image/filename": tfds.features.Text(), "image/id": np.int64}
            features |= {"objects": tfds.features.Sequence(annotation)}
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        crowded = [entry(7, WHOLE, CROWD, WHOLE | {"label": 11}), entry(9, FLAT, WHOLE), entry(8)]
        return {
            "train": self._generate_examples(crowded),
            "validation": self._generate_examples([entry(5, WHOLE), entry(6, WHOLE, data=b"no image")]),
            "test": self._generate_examples([entry(1)]),
        }

    def _generate_examples(self, entries):
        for number, each in enumerate(entries):
            yield number, each if self.builder_config.name == "2017" else {"image": each["image"]}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tfds")
    for config in ("2017", "plain"):
        Coco(data_dir=folder, config=config, file_format="array_record").download_and_prepare()
    return str(folder)


def by_id(source):
    return {image_id: source[record] for record, image_id in enumerate(source.image_ids)}


def test_the_category_ids_are_those_of_coco():
    assert len(COCO_CATEGORY_IDS) == 80
    assert (COCO_CATEGORY_IDS[0], COCO_CATEGORY_IDS[11], COCO_CATEGORY_IDS[79]) == (1, 13, 90)


def test_boxes_become_pixels_and_crowds_are_left_out(prepared):
    source = TfdsCoco(prepared).open("train")
    assert len(source) == 3 and source.max_objects == 2 and source.sizes.tolist() == [[30, 40]] * 3
    sample = by_id(pickle.loads(pickle.dumps(source)))[7]
    assert sample.image.shape == (30, 40, 3) and sample.image[0, 0, 0] == 7
    assert np.allclose(sample.boxes, [[20, 3, 40, 12]] * 2, atol=1e-4) and sample.labels.tolist() == [0, 11]
    assert by_id(source)[8].boxes.shape == (0, 4)
    assert source.name(list(source.image_ids).index(9)) == "000000000009.jpg"


def test_ground_truth_has_crowds_and_the_ids_of_coco(prepared):
    truth = TfdsCoco(prepared).open("train").ground_truth()
    mine = [row for row in truth["annotations"] if row["image_id"] == 7]
    assert [(row["category_id"], row["iscrowd"]) for row in mine] == [(1, 0), (90, 1), (13, 0)]
    assert sorted(row["id"] for row in truth["annotations"]) == [1, 2, 3, 4]
    assert np.allclose(mine[0]["bbox"], [20, 3, 20, 9], atol=1e-4) and mine[0]["area"] == 300


def test_labels_can_be_the_category_ids_of_coco(prepared):
    source = TfdsCoco(prepared, labels="category_id").open("train")
    assert len(source.classes) == 91 and source.classes.category_ids == tuple(range(91))
    assert source.classes.names[12] == "" and source.classes.names[13] == "11"
    assert by_id(source)[7].labels.tolist() == [1, 13]


def test_what_cannot_be_used_is_left_out_and_counted(prepared):
    train, validation = (TfdsCoco(prepared).open(split) for split in ("train", "validation"))
    assert len(by_id(train)[9].labels) == 1
    assert "cover nothing of their image: 1" in train.problems[0] and "000000000009.jpg" in train.problems[0]
    assert validation.image_ids == (5,) and validation[0].image[0, 0, 0] == 5
    assert "coco/2017:1.1.0 validation: left out images that cannot be read: 1" in validation.problems[0]


def test_a_name_without_a_version_finds_the_highest(prepared):
    assert len(TfdsCoco(prepared, name="coco/2017").open("train")) == 3


def test_data_that_are_not_prepared_get_the_command_that_does_it(tmp_path):
    with pytest.raises(DataError, match=r"no prepared data set.*tfds build coco/2017:1\.1\.0 .*array_record"):
        TfdsCoco(str(tmp_path)).open("train")


def test_a_missing_split_feature_annotation_or_package_is_named(prepared, monkeypatch):
    with pytest.raises(DataError, match=r"has the splits .*train.*; got 'minival'"):
        TfdsCoco(prepared).open("minival")
    with pytest.raises(DataError, match="has image, not image and objects with bbox and label"):
        TfdsCoco(prepared, name="coco/plain:1.1.0").open("train")
    with pytest.raises(DataError, match="nothing to use in its split 'test'"):
        TfdsCoco(prepared, train_split="test").open("test")
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    with pytest.raises(DataError, match="pip install tensorflow-datasets"):
        TfdsCoco(prepared).open("train")


def test_another_file_format_is_refused_with_the_command(prepared, tmp_path):
    path = tmp_path / "coco" / "2017" / "1.1.0"
    path.mkdir(parents=True)
    for source in (Path(prepared) / "coco" / "2017" / "1.1.0").iterdir():
        (path / source.name).write_bytes(source.read_bytes().replace(b"array_record", b"tfrecord"))
    with pytest.raises(DataError, match=r"prepared as tfrecord, not array_record.*tfds build"):
        TfdsCoco(str(tmp_path)).open("train")


def test_a_record_that_cannot_be_read_is_named(prepared):
    class Broken:
        def __getitem__(self, number):
            raise ValueError("checksum mismatch")

    source = replace(TfdsCoco(prepared).open("validation"), records=Broken())
    with pytest.raises(DataError, match=r"000000000005\.jpg cannot be read: checksum mismatch"):
        source[0]
