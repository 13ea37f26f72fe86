import pickle

import numpy as np
import pytest

from vitjax.data.digit_images import DigitImages
from vitjax.data.digit_scenes import _handwriting
from vitjax.data.errors import DataError


def test_a_record_is_a_grey_digit_and_which_one_it_is():
    source = pickle.loads(pickle.dumps(DigitImages().open("train")))
    assert len(source) == 1437 and source.max_objects == 1 and source.problems == ()
    assert source.classes.names == tuple("0123456789") and source.classes.category_ids == tuple(range(10))
    assert source.image_ids == range(1, 1438) and source.name(3) == "digit_images/train/3"
    sample = source[0]  # the second digit of scikit-learn, since the first is held out
    assert sample.image.shape == (8, 8, 3) and sample.image.dtype == np.uint8
    assert sample.labels.tolist() == [1] and sample.boxes.tolist() == [[0, 0, 8, 8]]
    assert np.all(sample.image == sample.image[:, :, :1])
    assert sample.image[0, :, 0].tolist() == [0, 0, 0, 191, 207, 80, 0, 0]  # ink 12, 13 and 5 of 16


def test_ink_goes_from_black_to_white():
    ink = DigitImages().open("val").ink
    assert ink.min() == 0 and ink.max() == 255 and len(np.unique(ink)) == 17


def test_train_and_val_are_those_of_the_digit_scenes():
    parts = {split: DigitImages().open(split) for split in ("train", "val")}
    assert len(parts["val"]) == 360 and sum(map(len, parts.values())) == 1797
    for split, source in parts.items():
        assert np.array_equal(source.labels, _handwriting(split)[1])
    train, val = ({image.tobytes() for image in source.ink} for source in parts.values())
    assert not train & val


def test_an_unknown_split_and_an_unknown_record_are_refused():
    with pytest.raises(DataError, match="train and val; got 'test'"):
        DigitImages().open("test")
    for record in (360, -1):
        with pytest.raises(IndexError, match=f"digit_images/val has records 0 to 359; got {record}"):
            DigitImages().open("val")[record]
