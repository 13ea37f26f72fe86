import csv
import json

import numpy as np
import pytest
from flax import linen as nn
from inference.test_video import cut_short, write_video
from PIL import Image

from vitjax.classification.postprocess import TopClasses
from vitjax.data.crops import CenterCrop
from vitjax.data.errors import DataError
from vitjax.data.source import Classes
from vitjax.data.transforms import Resize
from vitjax.detection.postprocess import BestClass
from vitjax.inference.inputs import find_inputs, picture_paths
from vitjax.inference.kept import KeptPictures
from vitjax.inference.save import save
from vitjax.inference.task import Asked
from vitjax.inference.video import open_video
from vitjax.prediction import Answer, Prediction, Recognition, names_of
from vitjax.tasks.classification import ImageClassifier
from vitjax.tasks.detection import Detector

CLASSES = Classes(("cat", "dog"), (3, 7))
NO_LABELS = np.zeros(0, np.int32)


class Detecting:
    """Finds on every image a cat in the left half, once more with a lower score, and a dog that is as large as it."""

    classes = CLASSES
    task = Detector(nn.Module(), Resize(), BestClass())

    def __init__(self):
        self.seen = []

    def predict(self, source, *, batch_size, asked=None, workers=0):
        for record in reversed(range(len(source))):
            try:
                height, width = source[record].image.shape[:2]
            except DataError:
                yield Answer(record, NO_LABELS, None)
                continue
            self.seen.append(source.name(record))
            half = [0, 0, width / 2, height]
            boxes = np.array([[0, 0, width, height], half, half], np.float32)
            labels = np.array([1, 0, 0], np.int32)
            found = Prediction(boxes, np.array([0.4, 0.8, 0.9], np.float32), labels, names_of(CLASSES, labels))
            yield Answer(record, NO_LABELS, found)


class Recognizing:
    """Takes everything for a dog, and less so for a cat."""

    classes = CLASSES
    task = ImageClassifier(nn.Module(), CenterCrop(), TopClasses())

    def predict(self, source, *, batch_size, asked=None, workers=0):
        for record in range(len(source)):
            labels = np.array([1, 0])[: asked.top]
            told = Recognition(names_of(CLASSES, labels), np.array([0.75, 0.25])[: asked.top], labels)
            yield Answer(record, NO_LABELS, told)


def save_image(path, height=48, width=64):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((height, width, 3), 120, np.uint8)).save(path)
    return path


@pytest.fixture
def pictures(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("b.png", "a.jpg", "deep/er/c.png", "x[1].png", "x1.png"):
        save_image(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no image")
    write_video(tmp_path / "deep" / "clip.MP4")
    return tmp_path


def found(*names):
    return [path.as_posix() for path in find_inputs(names)]


def read(out):
    rows = list(csv.DictReader((out / "predictions.csv").open(encoding="utf-8", newline="")))
    return json.loads((out / "predictions.json").read_text(encoding="utf-8")), rows


def test_files_folders_and_patterns_give_each_file_once_in_order(pictures):
    assert found("*.png") == ["b.png", "x1.png", "x[1].png"]
    assert found("**/*.png") == ["b.png", "deep/er/c.png", "x1.png", "x[1].png"]
    assert found("deep") == ["deep/clip.MP4", "deep/er/c.png"]
    assert found("*") == ["a.jpg", "b.png", "x1.png", "x[1].png"]
    assert found("b.png", "deep/../b.png", "*.png", str(pictures / "x1.png")) == ["b.png", "x1.png", "x[1].png"]


def test_a_file_with_brackets_in_its_name_goes_before_the_pattern(pictures):
    assert found("x[1].png") == ["x[1].png"]
    (pictures / "x[1].png").unlink()
    assert found("x[1].png") == ["x1.png"]


@pytest.mark.parametrize("name", ["*.gif", "*.txt", "nowhere.jpg", "hollow"])
def test_what_leads_to_nothing_is_named(pictures, name):
    (pictures / "hollow").mkdir()
    with pytest.raises(DataError) as raised:
        find_inputs([name])
    assert name in str(raised.value)


def test_pictures_of_one_name_are_told_apart_and_overwrite_nothing(tmp_path):
    paths = [tmp_path / name for name in ("a.jpg", "a_2.png", "b/a.png", "c/A.png", "a.mov", "a.mkv")]
    names = [path.name for path in picture_paths(paths, tmp_path / "out")]
    assert names == ["a.png", "a_2.png", "a_3.png", "A_4.png", "a.mp4", "a_2.mp4"]
    with pytest.raises(DataError, match="would overwrite"):
        picture_paths(paths, tmp_path)


def test_images_give_coco_results_in_the_order_of_the_files_and_a_table_of_the_same(pictures):
    (pictures / "text.png").write_text("no image")
    paths = find_inputs(["b.png", "text.png", "a.jpg"])
    saved = save(Detecting(), paths, pictures / "out", asked=Asked(threshold=0.5), csv=True)
    results, rows = read(pictures / "out")
    assert [result["file_name"] for result in results] == ["b.png"] * 3 + ["a.jpg"] * 3
    cat = {"image_id": 1, "category_id": 3, "bbox": [0, 0, 32, 48], "score": 0.9}
    assert results[0] == {**cat, "file_name": "b.png", "category_name": "cat"}
    assert list(rows[0].values()) == ["b.png", "0", "cat", "0.9", "0.0", "0.0", "32.0", "48.0"]
    assert list(rows[0]) == ["file", "label", "name", "score", "x1", "y1", "x2", "y2"]
    assert len(rows) == len(results)
    assert (saved.images, saved.drawn, [*saved.unreadable], saved.counts) == (2, 4, ["text.png"], "2 images")
    assert saved.unreadable["text.png"].startswith("text.png is no image: it begins with b'no image'")
    assert Image.open(pictures / "out" / "a.png").size == (320, 240)


def test_where_no_file_can_be_read_the_cause_is_told_and_earlier_results_stay(pictures):
    (pictures / "text.png").write_text("no image")
    (pictures / "out").mkdir()
    (pictures / "out/predictions.json").write_text("earlier")
    with pytest.raises(DataError, match=r"^the only file cannot be read: text\.png is no image"):
        save(Detecting(), find_inputs(["text.png"]), pictures / "out")
    assert (pictures / "out/predictions.json").read_text() == "earlier"


def test_suppression_holds_for_results_and_pictures(pictures):
    saved = save(Detecting(), find_inputs(["b.png"]), pictures / "out", asked=Asked(threshold=0.5, nms=0.7), csv=True)
    results, rows = read(pictures / "out")
    assert [result["category_id"] for result in results] == [3, 7] and len(rows) == 2
    assert saved.drawn == 1


@pytest.mark.parametrize("every", [1, 4])
def test_a_video_gives_a_video_and_results_with_frame_and_time(pictures, every):
    paths = find_inputs(["deep/clip.MP4", "b.png"])
    detecting, out = Detecting(), pictures / "out"
    saved = save(detecting, paths, out, asked=Asked(threshold=0.5), every=every, csv=True, batch_size=2)
    results, rows = read(out)
    looked = [0, 1, 2, 3, 4, 5][::every]
    assert [result.get("frame") for result in results] == [None] * 3 + [number for number in looked for _ in range(3)]
    assert [result["image_id"] for result in results] == [i + 1 for i in range(1 + len(looked)) for _ in range(3)]
    assert results[-1]["time"] == pytest.approx(looked[-1] / 10)
    assert {row["frame"] for row in rows} == {"", *map(str, looked)}
    assert len(detecting.seen) == 1 + len(looked)
    assert (saved.counts, saved.notes) == ("1 image and 6 frames of 1 video", [])
    size, rate, frames = played(out / "clip.mp4")
    assert size == (240, 320) and rate == 10.0 and len(frames) == 6
    # The cat's frame is drawn on every frame, also on those that were not looked at.
    assert all(np.ptp(frame[200, 120:200].astype(int), axis=0).max() > 80 for frame in frames)


def played(path):
    video = open_video(path)
    return (video.height, video.width), video.rate, [frame.image for frame in video.frames()]


def test_a_video_that_breaks_off_is_written_as_far_as_it_goes(tmp_path):
    path = cut_short(write_video(tmp_path / "a.mkv", codec="MJPG", frames=12), 0.7)
    saved = save(Detecting(), [path], tmp_path / "out", asked=Asked(threshold=0.5))
    assert 0 < saved.frames < 12
    assert saved.notes == [f"{path} breaks off: {saved.frames} of its 12 frames could be read"]
    assert len(played(tmp_path / "out" / "a.mp4")[2]) == saved.frames


def test_a_broken_video_ends_it_before_anything_is_written(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"")
    with pytest.raises(DataError, match=r"a\.mp4 is empty"):
        save(Detecting(), [tmp_path / "a.mp4"], tmp_path / "out", asked=Asked(threshold=0.5))
    assert not (tmp_path / "out").exists()


def test_results_are_whole_also_where_the_work_breaks_down(pictures):
    class Breaking(Detecting):
        def predict(self, source, *, batch_size, asked=None, workers=0):
            if not source.name(0).startswith("image"):
                yield from super().predict(source, batch_size=batch_size)
                return
            raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        save(Breaking(), find_inputs(["b.png", "deep"]), pictures / "out", asked=Asked(threshold=0.5), csv=True)
    results, rows = read(pictures / "out")
    assert len(results) == len(rows) == 6


def test_a_classifier_gives_classes_by_rank_for_images_and_frames(pictures):
    told = []
    paths = find_inputs(["b.png", "deep/clip.MP4"])
    out = pictures / "out"
    options = {"asked": Asked(top=2), "every": 3, "csv": True}
    saved = save(Recognizing(), paths, out, tell=told.append, **options)
    results, rows = read(out)
    best = [{"label": 1, "name": "dog", "score": 0.75}, {"label": 0, "name": "cat", "score": 0.25}]
    assert results[0] == {"file_name": "b.png", "classes": best}
    assert [(result["frame"], result["time"]) for result in results[1:]] == [(0, 0.0), (3, 0.3)]
    assert list(rows[0].values()) == ["b.png", "", "1", "1", "dog", "0.75"]
    assert list(rows[0]) == ["file", "frame", "rank", "label", "name", "score"]
    assert (
        told == ["b.png", "   75.0 %  dog", "   25.0 %  cat"] and saved.frames == 6 and not (out / "clip.mp4").exists()
    )


def test_an_image_is_decoded_once_while_there_is_room(pictures):
    paths = find_inputs(["b.png", "x1.png"])
    source = KeptPictures(paths, CLASSES, room=3 * 48 * 64)
    first, _ = source[0].image, source[1].image
    assert source.take(0) is first
    np.testing.assert_array_equal(source.take(1), first)
    assert source.take(0) is not first
