import numpy as np
import pytest
from PIL import Image

from vitjax.data.errors import DataError
from vitjax.data.label_map_folder import LabelMapFolder
from vitjax.data.loader import batches
from vitjax.data.plan import EvaluationPlan, TrainPlan
from vitjax.data.source import LabelMapSource
from vitjax.data.transforms import Augmentation, Resize

LABELS = np.array([[0, 1, 2], [2, 255, 0]], np.uint8)


def write_image(path, height=2, width=3):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((height, width, 3), 90, np.uint8)).save(path)


def write_map(path, labels=LABELS, palette=False):
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(labels)
    if palette:
        picture.putpalette(np.random.default_rng(0).bytes(768))
    picture.save(path)


@pytest.fixture
def root(tmp_path):
    (tmp_path / "classes.txt").write_text("background\ncat\ndog\n")
    for name in ("a", "b"):
        write_image(tmp_path / "train" / "images" / f"{name}.jpg")
        write_map(tmp_path / "train" / "labels" / f"{name}.png", palette=name == "b")
    return tmp_path


def test_images_come_with_their_label_maps_grey_or_with_a_palette(root):
    source = LabelMapFolder(str(root)).open("train")
    assert isinstance(source, LabelMapSource) and source.classes.names == ("background", "cat", "dog")
    assert source.image_ids == ("a.jpg", "b.jpg") and source.sizes.tolist() == [[2, 3]] * 2 and not source.problems
    for record in range(2):
        assert np.array_equal(source[record].label_map, LABELS) and source[record].image.shape == (2, 3, 3)


def test_images_that_cannot_be_used_are_left_out_and_counted(root):
    images, labels = root / "train" / "images", root / "train" / "labels"
    write_image(images / "c.jpg")
    write_image(images / "d.jpg", height=5)
    write_map(labels / "d.png")
    (images / "e.png").write_text("no image")
    write_map(labels / "e.png")
    source = LabelMapFolder(str(root)).open("train")
    assert source.names == ("a.jpg", "b.jpg")
    wanted = ("without a label map: 1 (first: c.jpg)", "another size: 1 (first: d.jpg)", "cannot be read: 1")
    assert all(any(words in line for line in source.problems) for words in wanted)


def test_a_map_that_cannot_be_read_any_more_is_named(root):
    source = LabelMapFolder(str(root)).open("train")
    (root / "train" / "labels" / "b.png").write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"b\.png cannot be read as a label map"):
        source.label_map(1)


GREY = np.zeros((2, 3), np.uint8)
WRONG = {
    "RGB": (Image.fromarray(np.stack([GREY] * 3, -1)), "8-bit RGB"),
    "RGBA": (Image.fromarray(np.stack([GREY] * 4, -1)), "8-bit RGB and alpha"),
    "LA": (Image.fromarray(np.stack([GREY] * 2, -1)), "8-bit grey and alpha"),
    "16-bit": (Image.fromarray(GREY.astype(np.uint16)), "16-bit grey"),
    "1-bit": (Image.fromarray(GREY > 0), "1-bit grey"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_maps_whose_pixels_are_no_labels_are_refused_when_opened_and_later(root, kind):
    picture, found = WRONG[kind]
    later = LabelMapFolder(str(root)).open("train")
    picture.save(root / "train" / "labels" / "b.png")
    message = rf"b\.png is a PNG with {found} pixels; save label maps as PNG with 8-bit grey or palette pixels"
    with pytest.raises(ValueError, match=message):
        LabelMapFolder(str(root)).open("train")
    with pytest.raises(ValueError, match=message):
        later.label_map(1)


def test_maps_are_looked_at_by_their_headers_alone(root):
    path = root / "train" / "labels" / "a.png"
    path.write_bytes(path.read_bytes()[:45])
    assert len(LabelMapFolder(str(root)).open("train")) == 2


def test_small_palettes_are_labels_and_other_formats_are_no_maps(root):
    path = root / "train" / "labels" / "b.png"
    picture = Image.fromarray(np.minimum(LABELS, 2))
    picture.putpalette(bytes(range(9)))
    picture.save(path, bits=2)
    assert LabelMapFolder(str(root)).open("train").label_map(1).tolist() == [[0, 1, 2], [2, 2, 0]]
    Image.fromarray(LABELS).save(path, format="JPEG")
    with pytest.raises(ValueError, match=r"b\.png is no PNG; save label maps as PNG"):
        LabelMapFolder(str(root)).open("train")


@pytest.mark.parametrize("replaces", [True, False], ids=["training", "evaluation"])
def test_a_label_that_is_no_class_is_an_error_and_not_an_image_to_replace(root, replaces):
    write_map(root / "train" / "labels" / "a.png", np.full((2, 3), 9, np.uint8))
    source = LabelMapFolder(str(root)).open("train")
    as_it_is = EvaluationPlan(source.sizes, 2, Resize(size=None))
    plan = TrainPlan(source.sizes, 2, Augmentation(sizes=(8,), max_side=None, crop=0.0)) if replaces else as_it_is
    with pytest.raises(ValueError, match=r"a\.png has the label 9, but classes\.txt names 3 classes"):
        next(batches(source, plan, max_objects=0))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda root: (root / "classes.txt").unlink(), r"classes\.txt cannot be read.*<split>/images"),
        (lambda root: (root / "classes.txt").write_text("one\n"), "names 1 classes"),
        (lambda root: (root / "train" / "labels").rename(root / "maps"), r"no folder .*labels"),
        (lambda root: [path.unlink() for path in (root / "train" / "labels").iterdir()], "no image with a label map"),
    ],
)
def test_a_folder_that_cannot_be_trained_on_is_told_so(root, spoil, message):
    spoil(root)
    with pytest.raises(DataError, match=message):
        LabelMapFolder(str(root)).open("train")


def test_no_folder_at_all_is_told_so():
    with pytest.raises(DataError, match=r"no data folder is given; name one with --data\.root"):
        LabelMapFolder().open("train")
