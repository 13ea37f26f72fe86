import io
import pickle
from dataclasses import replace
from pathlib import Path

import pytest
import tensorflow_datasets as tfds
from PIL import Image

from vitjax.data.errors import DataError
from vitjax.data.tfds_labels import TfdsLabels
from vitjax.data.tfds_prepared import find_split

NAMES = ["n01440764", "n01443537", "n01484850"]


def entry(number, label):
    buffer = io.BytesIO()
    Image.new("RGB", (40, 30), (number, 0, 0)).save(buffer, "PNG")
    return {"image": io.BytesIO(buffer.getvalue()), "label": label, "file_name": f"{number}.JPEG"}


class Flowers(tfds.core.GeneratorBasedBuilder):
    """The features of imagenet2012, with four images and no download."""

    VERSION = tfds.core.Version("2.0.0")
    BUILDER_CONFIGS = tuple(tfds.core.BuilderConfig(name=name) for name in ("whole", "plain", "many"))
    code_path = None
    pkg_dir_path = Path(__file__).parent

    def _info(self):
        features = {"image": tfds.features.Image(encoding_format="png"), "file_name": tfds.features.Text()}
        label = tfds.features.ClassLabel(names=NAMES)
        features |= {"whole": {"label": label}, "many": {"label": tfds.features.Sequence(label)}}.get(
            self.builder_config.name, {}
        )
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        broken = entry(4, 1) | {"image": io.BytesIO(b"no image")}
        return {
            "train": self._generate_examples([entry(1, 2), entry(2, 0), entry(3, -1)]),
            "validation": self._generate_examples([broken]),
            "test": self._generate_examples([entry(5, -1), entry(6, -1)]),
        }

    def _generate_examples(self, entries):
        for number, each in enumerate(entries):
            label = {"whole": {"label": each["label"]}, "many": {"label": []}}.get(self.builder_config.name, {})
            yield number, {"image": each["image"], "file_name": each["file_name"]} | label


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tfds")
    for config in ("whole", "plain", "many"):
        Flowers(data_dir=folder, config=config, file_format="array_record").download_and_prepare()
    return TfdsLabels(str(folder), name="flowers/whole:2.0.0")


def test_a_record_is_an_image_and_its_label(prepared):
    source = pickle.loads(pickle.dumps(prepared.open("train")))
    assert len(source) == 3 and source.max_objects == 1 and source.problems == ()
    assert source.classes.names == tuple(NAMES) and source.classes.category_ids == (0, 1, 2)
    assert source.image_ids == range(1, 4) and source.name(1) == "flowers/whole:2.0.0 train record 1"
    label_of = {"1": 2, "2": 0}
    samples = [source[record] for record in range(3) if int(source.records[record]["label"]) >= 0]
    assert {str(sample.image[0, 0, 0]): sample.labels.item() for sample in samples} == label_of
    assert all(sample.image.shape == (30, 40, 3) for sample in samples)
    assert all(sample.boxes.tolist() == [[0, 0, 40, 30]] for sample in samples)


def test_opening_reads_one_record(prepared, monkeypatch):
    read = []
    source = type(prepared.open("train").records)
    whole = source.__getitem__
    monkeypatch.setattr(source, "__getitem__", lambda records, number: read.append(number) or whole(records, number))
    monkeypatch.setattr(source, "__getitems__", lambda records, numbers: read.extend(numbers))
    prepared.open("train")
    assert read == [0]


def test_a_name_without_a_version_finds_the_highest(prepared, tmp_path):
    old, new = (tmp_path / "flowers" / "whole" / version for version in ("9.0.0", "10.0.0"))
    stored = Path(prepared.data_dir) / "flowers" / "whole" / "2.0.0"
    for path in (old, new):
        path.mkdir(parents=True)
        for file in stored.iterdir():
            (path / file.name).write_bytes(file.read_bytes().replace(b"2.0.0", path.name.encode()))
    assert find_split(str(tmp_path), "flowers/whole", "train").folder == new
    assert len(TfdsLabels(str(tmp_path), name="flowers/whole").open("train")) == 3


def test_a_split_without_labels_is_refused_on_opening(prepared):
    words = r"no labels in its split 'test': the first is -1\. .*the others are train, validation"
    with pytest.raises(DataError, match=words):
        prepared.open("test")


def test_a_record_without_a_label_or_an_image_is_named(prepared):
    source = prepared.open("train")
    record = next(record for record in range(3) if int(source.records[record]["label"]) < 0)
    with pytest.raises(DataError, match=rf"train record {record} has the label -1, not one of 0 to 2"):
        source[record]
    with pytest.raises(DataError, match=r"flowers/whole:2\.0\.0 validation record 0 is no image"):
        prepared.open("validation")[0]

    class Broken:
        def __getitem__(self, number):
            raise ValueError("checksum mismatch")

    with pytest.raises(DataError, match=r"train record 0 cannot be read: checksum mismatch"):
        replace(source, records=Broken())[0]


def test_what_is_missing_is_named(prepared, tmp_path):
    with pytest.raises(DataError, match=r"no prepared data set.*tfds build imagenet2012:5\.1\.0 .*array_record"):
        TfdsLabels(str(tmp_path)).open("train")
    with pytest.raises(DataError, match=r"has the splits .*train.*; got 'minival'"):
        prepared.open("minival")
    for config in ("plain", "many"):
        with pytest.raises(DataError, match=r"has .*image.*, not an image and one class label, called image and label"):
            replace(prepared, name=f"flowers/{config}:2.0.0").open("train")


def test_the_same_data_unpacked_are_read_with_one_flag(tmp_path):
    for split, name in (("train", NAMES[1]), ("train", NAMES[0]), ("val", NAMES[1])):
        folder = tmp_path / split / name
        folder.mkdir(parents=True)
        Image.new("RGB", (40, 30)).save(folder / "1.JPEG")
    data = TfdsLabels(root=str(tmp_path))
    train, val = data.open(data.train_split), data.open(data.split)
    assert (len(train), len(val), train.classes) == (2, 1, val.classes)
    assert train.classes.names == (NAMES[0], NAMES[1])  # in the order in which TFDS has them


def test_what_is_neither_prepared_nor_unpacked_is_told_both_ways(tmp_path):
    with pytest.raises(DataError, match=r"tfds build .*\. Or name the folder .*: --data\.root FOLDER\."):
        TfdsLabels(str(tmp_path)).open("train")
    with pytest.raises(DataError, match="does not exist"):
        TfdsLabels(root=str(tmp_path / "nowhere")).open("train")
