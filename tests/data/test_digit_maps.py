import pickle

import numpy as np
import pytest

from vitjax.data.digit_maps import DigitMaps
from vitjax.data.digits import Digits
from vitjax.data.errors import DataError
from vitjax.data.source import LabelMapSource

CROWDED = {"height": 48, "width": 80, "min_digits": 2, "max_digits": 6, "max_overlap": 0.3}


def test_scenes_are_those_of_digits_with_a_class_for_every_pixel():
    maps, boxes = DigitMaps(**CROWDED).open("train"), Digits(**CROWDED).open("train")
    assert isinstance(maps, LabelMapSource) and maps.classes.names == ("background", *"0123456789")
    for record in range(20):
        sample, detection = maps[record], boxes[record]
        assert np.array_equal(sample.image, detection.image) and not len(sample.boxes)
        assert sample.label_map.dtype == np.uint8 and np.array_equal(sample.label_map, maps.label_map(record))
        assert set(np.unique(sample.label_map)) == {0, *(detection.labels + 1)}
        for (left, top, right, bottom), label in zip(detection.boxes.astype(int), detection.labels, strict=True):
            inside = sample.label_map[top:bottom, left:right] == label + 1
            assert inside.any(0)[[0, -1]].all() and inside.any(1)[[0, -1]].all()


def test_scenes_can_be_sent_to_workers_and_know_their_splits():
    scenes = pickle.loads(pickle.dumps(DigitMaps(val_images=3).open("val")))
    assert len(scenes) == 3 and scenes.sizes.tolist() == [[64, 64]] * 3
    with pytest.raises(DataError, match="train and val; got 'test'"):
        DigitMaps().open("test")
