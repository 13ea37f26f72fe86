import csv
import json

import numpy as np
import pytest
from flax import linen as nn
from PIL import Image

from vitjax.data.errors import DataError
from vitjax.data.source import Classes
from vitjax.data.transforms import Resize
from vitjax.inference.save import save
from vitjax.prediction import Answer, labelling
from vitjax.segmentation.label_map import BestLabel
from vitjax.tasks.segmentation import PixelLabeller


class Labelling:
    """Finds a cat in the left quarter of every image, the last image first."""

    classes = Classes(("background", "cat"), (0, 1))
    task = PixelLabeller(nn.Module(), Resize(), BestLabel())

    def predict(self, source, *, batch_size, asked=None, workers=0):
        for record in reversed(range(len(source))):
            try:
                labels = np.zeros(source[record].image.shape[:2], np.uint8)
            except DataError:
                yield Answer(record, np.zeros(0, np.int32), None)
                continue
            labels[:, : labels.shape[1] // 4] = 1
            yield Answer(record, np.zeros(0, np.int32), labelling(labels, self.classes))


@pytest.fixture
def images(tmp_path):
    paths = [tmp_path / name for name in ("a.png", "b.png", "cut.png", "text.png")]
    for path in paths[:3]:
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (48, 64, 3)).astype(np.uint8)).save(path)
    paths[2].write_bytes(paths[2].read_bytes()[:2000])
    paths[3].write_text("no image")
    return paths


def test_where_all_images_break_off_it_is_an_error_with_the_first_cause(images, tmp_path):
    with pytest.raises(DataError, match=r"none of the 2 files can be read: .*text\.png is no image"):
        save(Labelling(), images[2:], tmp_path / "out")


def test_images_get_a_picture_a_label_map_and_the_shares_of_classes(images, tmp_path):
    out = tmp_path / "out"
    saved = save(Labelling(), images, out, csv=True)
    assert saved.images == 2 and sorted(saved.unreadable) == [str(path) for path in images[2:]]
    assert "cut.png" in saved.unreadable[str(images[2])]
    assert {path.name for path in out.iterdir()} == {"a.png", "b.png", "labels", "predictions.json", "predictions.csv"}
    labels = Image.open(out / "labels" / "b.png")
    assert labels.size == (64, 48) and np.asarray(labels).mean() == 0.25
    entries = json.loads((out / "predictions.json").read_text())
    assert [entry["file_name"] for entry in entries] == [str(path) for path in images[:2]]
    assert entries[1]["label_map"] == "labels/b.png"
    assert entries[1]["classes"] == [
        {"label": 0, "name": "background", "share": 0.75},
        {"label": 1, "name": "cat", "share": 0.25},
    ]
    with (out / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == ["background", "cat"] * 2 and rows[0]["file"] == str(images[0])


def test_videos_and_pictures_that_would_be_overwritten_are_refused(images, tmp_path):
    with pytest.raises(DataError, match=r"film\.mp4 is a video"):
        save(Labelling(), [tmp_path / "film.mp4"], tmp_path / "out")
    with pytest.raises(DataError, match="would overwrite"):
        save(Labelling(), images[:1], tmp_path)
