"""What a detector finds, on its way to COCO's scores."""

import numpy as np

from vitjax.data.source import Classes
from vitjax.evaluation.detection import evaluate
from vitjax.prediction import Answer, Prediction

CLASSES = Classes(("cat", "dog"), (3, 7))
BOX = [2.0, 3.0, 22.0, 43.0]


class Source:
    """Three images with one dog each, all in one place."""

    classes = CLASSES
    image_ids = (10, 11, 12)
    max_objects = 1
    problems = ()
    sizes = np.full((3, 2), 64)

    def __len__(self):
        return 3

    def __getitem__(self, record):
        raise AssertionError("no image is looked at")

    def name(self, record):
        return f"{record}.png"

    def ground_truth(self):
        box, area = [2.0, 3.0, 20.0, 40.0], 800.0
        return {
            "images": [{"id": key} for key in self.image_ids],
            "categories": [{"id": 3, "name": "cat"}, {"id": 7, "name": "dog"}],
            "annotations": [
                {"id": key, "image_id": key, "category_id": 7, "bbox": box, "area": area, "iscrowd": 0}
                for key in self.image_ids
            ],
        }


def found(record, *labels):
    boxes, scores = np.array([BOX] * len(labels), np.float32), np.full(len(labels), 0.5, np.float32)
    return Answer(record, np.zeros(0, np.int32), Prediction(boxes, scores, np.array(labels), ("",) * len(labels)))


def test_results_have_the_ids_of_the_data_and_labels_that_it_does_not_have_are_left_out():
    evaluation = evaluate([found(2, 1), found(0, 2, 1, 90)], Source())
    assert evaluation.results == [
        {"image_id": image, "category_id": 7, "bbox": [2.0, 3.0, 20.0, 40.0], "score": 0.5} for image in (12, 10)
    ]
    assert evaluation.unreadable == ()


def test_an_image_that_could_not_be_read_is_one_on_which_nothing_is_found():
    whole = evaluate([found(record, 1) for record in range(3)], Source())
    assert whole.scores.summary["AP"] == 1
    broken = Answer(1, np.zeros(0, np.int32), None)
    evaluation = evaluate([found(0, 1), broken, found(2, 1)], Source())
    assert evaluation.unreadable == ("1.png",) and len(evaluation.results) == 2
    np.testing.assert_equal(evaluation.scores.summary, evaluate([found(0, 1), found(2, 1)], Source()).scores.summary)
    assert 0 < evaluation.scores.summary["AP"] < 1
