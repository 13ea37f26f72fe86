import pickle

import numpy as np
import pytest
from PIL import Image

from vitjax.data.crops import CenterCrop, RandomCrop
from vitjax.data.digit_canvas import DigitCanvas
from vitjax.data.digit_scenes import handwritten
from vitjax.data.errors import DataError
from vitjax.data.rand_augment import RandAugment

CANVAS = DigitCanvas(size=48, digit=16, clutter=3, fragment=6, train_images=40, val_images=10)


def test_a_record_is_a_function_of_seed_split_and_number_alone():
    source = CANVAS.open("train")
    again = pickle.loads(pickle.dumps(CANVAS.open("train")))
    assert len(source) == 40 and len(CANVAS.open("val")) == 10 and source.max_objects == 1
    assert source.name(3) == "digit_canvas/train/3" and source.image_ids == range(1, 41)
    for record in (7, 3):
        assert np.array_equal(source[record].image, again[record].image)
    others = [source[8], CANVAS.open("val")[7], DigitCanvas(**{**vars(CANVAS), "seed": 1}).open("train")[7]]
    assert not any(np.array_equal(source[7].image, other.image) for other in others)


def test_a_record_is_one_grey_digit_on_black_and_which_it_is():
    source = CANVAS.open("train")
    sample = source[0]
    assert sample.image.shape == (48, 48, 3) and sample.image.dtype == np.uint8
    assert sample.boxes.tolist() == [[0, 0, 48, 48]] and source.classes.names[sample.labels[0]] in "0123456789"
    assert np.all(sample.image == sample.image[:, :, :1]) and np.mean(sample.image == 0) > 0.7


def test_without_clutter_the_digit_of_the_label_is_in_its_box_and_nothing_outside():
    source = DigitCanvas(size=32, digit=8, clutter=0, fragment=8, train_images=20).open("train")
    ink, digits = handwritten("train")
    places = set()
    for record in range(20):
        (left, top, right, bottom), image = source.box(record), source[record].image[:, :, 0]
        inside = image[top:bottom, left:right]
        found = np.abs(ink - inside / 255 * 16).max((1, 2)) < 0.1
        assert source[record].labels[0] in digits[found]
        assert image.sum() == inside.sum()
        places.add((left, top))
    assert len(places) > 15


def test_digits_of_val_are_not_among_those_of_train():
    train, val = ({one.tobytes() for one in CANVAS.open(split).ink} for split in ("train", "val"))
    assert len(val) == 360 and not train & val


def test_a_turned_digit_fits_into_its_box_and_keeps_its_ink():
    turned = DigitCanvas(size=40, digit=20, clutter=0, rotation=90.0, train_images=8)
    for record in range(8):
        source = turned.open("train")
        (left, top, right, bottom), image = source.box(record), source[record].image[:, :, 0] / 255
        assert right - left == turned.patch == 29 and bottom <= 40
        assert image[top:bottom, left:right].sum() == pytest.approx(image.sum())
    ink = [DigitCanvas(size=40, digit=20, clutter=0, rotation=r).open("train")[0].image.sum() for r in (0.0, 90.0)]
    assert ink[0] == pytest.approx(ink[1], rel=0.02)


def test_a_digit_turned_back_by_its_angle_is_upright():
    turned, upright = (
        DigitCanvas(size=40, digit=20, clutter=0, rotation=rotation, train_images=8).open("train")
        for rotation in (90.0, 0.0)
    )
    for record in range(8):
        (left, top, _, _), (x, y, _, _) = turned.box(record), upright.box(record)
        patch = Image.fromarray(turned[record].image[top : top + 29, left : left + 29, 0])
        back = np.asarray(patch.rotate(-turned.degrees(record), Image.Resampling.BICUBIC))[
            4:24, 4:24
        ]  # half a pixel off
        wanted = upright[record].image[y : y + 20, x : x + 20, 0]
        assert np.corrcoef(back.ravel(), wanted.ravel())[0, 1] > 0.9
        assert upright.degrees(record) == 0 and abs(turned.degrees(record)) <= 90
    assert max(abs(turned.degrees(record)) for record in range(8)) > 45


def test_the_crops_of_the_config_leave_a_canvas_as_it_is():
    image = CANVAS.open("train")[5].image
    none = RandomCrop(size=48, area=(1.0, 1.0), aspect=(1.0, 1.0), flip=0.0, rand_augment=RandAugment(operations=0))
    assert np.array_equal(none(image, np.random.default_rng(0)), image)
    assert np.array_equal(CenterCrop(size=48, resize=48)(image), image)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        (
            {"size": 20, "digit": 18, "rotation": 10.0},
            "room for the digit, 26 pixels however it is turned; got size=20",
        ),
        ({"digit": 4}, "digit >= 8; got 4"),
        ({"fragment": 30}, "1 <= fragment <= digit; got 30"),
        ({"clutter": -1}, "clutter >= 0; got -1"),
        ({"rotation": 200.0}, "0 <= rotation <= 180"),
        ({"train_images": 0}, "train_images and val_images >= 1"),
        ({"seed": -1}, "seed >= 0"),
    ],
)
def test_fields_that_contradict_each_other_are_refused(fields, words):
    with pytest.raises(DataError, match=words):
        DigitCanvas(**fields).open("train")


def test_an_unknown_split_and_an_unknown_record_are_refused():
    with pytest.raises(DataError, match="train and val; got 'test'"):
        CANVAS.open("test")
    for record in (10, -1):
        with pytest.raises(IndexError, match=f"digit_canvas/val has records 0 to 9; got {record}"):
            CANVAS.open("val")[record]
