"""Mask AP against pycocotools called as its users call it, and a whole split in one go."""

import contextlib
import io
from dataclasses import replace

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from vitjax.data.digit_masks import DigitMasks
from vitjax.data.errors import DataError
from vitjax.data.mask_source import PanopticMap
from vitjax.data.run_lengths import encode, written
from vitjax.errors import VitjaxError
from vitjax.evaluation import mask_checks
from vitjax.evaluation.coco import METRICS
from vitjax.evaluation.coco_masks import evaluate_masks
from vitjax.evaluation.mask_detection import evaluate
from vitjax.prediction import Answer, Prediction

CATEGORIES = [{"id": 3, "name": "cell"}, {"id": 8, "name": "clot"}]


class Rows(np.ndarray):
    """Masks as a prediction has them."""

    def take(self, rows):
        return self[rows]


def blob(rng, size):
    """An ellipse somewhere on an image."""
    y, x = np.mgrid[: size[0], : size[1]]
    middle, radius = rng.uniform(0, size), rng.uniform(2, 30, 2)
    return ((y - middle[0]) / radius[0]) ** 2 + ((x - middle[1]) / radius[1]) ** 2 < 1


def random_set(seed):
    rng = np.random.default_rng(seed)
    images = [{"id": number, "height": 40, "width": 50} for number in (4, 7, 11)]
    truth, results = [], []
    for image in images:
        for _ in range(6):
            mask = blob(rng, (40, 50))
            if mask.any():
                shape = {"image_id": image["id"], "category_id": int(rng.choice([3, 8]))}
                runs = written(encode(mask), mask.shape)
                box = [0, 0, 1, 1]  # which masks are not scored by
                crowd = int(rng.random() < 0.2)
                truth.append(shape | {"id": len(truth) + 1, "segmentation": runs, "area": int(mask.sum()), "bbox": box,
                                      "iscrowd": crowd})  # fmt: skip
                found = mask & (rng.random(mask.shape) < rng.uniform(0.5, 1)) | (rng.random(mask.shape) < 0.01)
                results.append(
                    shape | {"segmentation": written(encode(found), mask.shape), "score": float(rng.random())}
                )
    polygon = {"id": len(truth) + 1, "image_id": 4, "category_id": 3, "segmentation": [[2, 2, 20, 3, 12, 30]],
               "area": 250.0, "bbox": [2, 2, 18, 28], "iscrowd": 0}  # fmt: skip
    return {"images": images, "annotations": [*truth, polygon], "categories": CATEGORIES}, results


def pycocotools(truth, results):
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = truth
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes([dict(row) for row in results]), "segm")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation.stats


@pytest.mark.parametrize("seed", range(4))
def test_scores_are_those_of_pycocotools(seed):
    truth, results = random_set(seed)
    scores = evaluate_masks(truth, results)
    theirs = pycocotools(truth, results)
    assert np.allclose([np.nan_to_num(scores.summary[name], nan=-1) for name in METRICS], theirs)
    assert 0.05 < scores.summary["AP"] < 0.95


def test_an_empty_mask_finds_nothing_and_a_wrong_one_is_named():
    truth, results = random_set(0)
    empty = results[0] | {"segmentation": {"size": [40, 50], "counts": [2000]}}
    assert evaluate_masks(truth, [empty]).summary["AP"] == 0
    for segmentation, told in (
        (
            {"size": [50, 40], "counts": [2000]},
            "50x40 pixels; .* have run lengths of another size",
        ),
        (None, "have no segmentation"),
        ({"size": [40, 50], "counts": [3]}, "do not add up"),
    ):
        with pytest.raises(VitjaxError, match=f"result at index 1, of image 4.*{told}"):
            evaluate_masks(truth, [empty, empty | {"segmentation": segmentation}])


def unreadable(self, record):
    raise DataError("no PNG")


def test_a_split_is_scored_by_boxes_masks_and_segments(monkeypatch):
    source = DigitMasks(height=48, width=40, min_size=16, max_size=24, val_images=6).open("val")

    def found(record, shift=0):
        truth = source.panoptic(record)
        masks = np.roll(truth.owner == np.arange(len(truth.labels))[:, None, None], shift, axis=-1).view(Rows)
        scores = np.linspace(0.9, 0.5, len(masks), dtype=np.float32)
        names = tuple(source.classes.names[label] for label in truth.labels)
        return Prediction(source[record].boxes, scores, truth.labels, names, masks)

    def panoptic(prediction):
        owner = np.where(prediction.masks.any(0), prediction.masks.argmax(0), -1)
        return PanopticMap(owner, prediction.labels, np.zeros(len(prediction), bool))

    def scored(predictions):
        answers = [Answer(record, source[record].labels, each) for record, each in enumerate(predictions)]
        return evaluate(iter(answers), source, panoptic)

    perfect = scored([found(record) for record in range(6)])
    summary = perfect.scores.summary
    assert summary["AP"] == summary["segm_AP"] == summary["PQ"] == summary["PQ_stuff"] == 1
    assert perfect.scores.by_class[f"segm_AP/{source[0].labels[0]}"] == perfect.scores.by_class["PQ/striped"] == 1
    stuff_first = [replace(each, scores=each.scores[::-1]) for each in map(found, range(6))]
    assert mask_checks.points(scored(stuff_first))["precision"] == 1  # though stuff has no boxes to be found
    assert perfect.results[0]["segmentation"]["size"] == [48, 40] and perfect.results[0]["score"] == 0.9
    titles = [line for line in perfect.scores.table().splitlines() if line.isupper() and len(line) > 4]
    assert [title for title in titles if not title.startswith("AP")] == ["BOXES", "MASKS", "PANOPTIC QUALITY"]
    shifted = scored([found(record, shift=3) for record in range(6)]).scores.summary
    assert shifted["AP"] == 1 and shifted["segm_AP"] < 0.5 and shifted["PQ_things"] < 0.5 < shifted["PQ_stuff"]
    missed = scored([None, *(found(record) for record in range(1, 6))])
    assert missed.unreadable == ("digits/val/0",)
    assert missed.scores.summary["segm_AP"] < 1 and missed.scores.panoptic.all.RQ < 1
    assert missed.scores.panoptic.all.segments == perfect.scores.panoptic.all.segments
    without = evaluate([Answer(0, source[0].labels, found(0))], source)
    assert without.scores.panoptic is None and "PQ" not in without.scores.summary

    one = found(0)
    truth = {"images": [{"id": number} for number in source.image_ids], "categories": CATEGORIES}
    monkeypatch.setattr(type(source), "ground_truth", lambda self: truth)
    monkeypatch.setattr(type(source), "mask_truth", lambda self: truth)
    monkeypatch.setattr(type(source), "panoptic", unreadable)
    with pytest.raises(DataError, match="no PNG"):
        evaluate([Answer(0, np.zeros(0, int), one)], source, panoptic)
    assert evaluate([Answer(0, np.zeros(0, int), None)], source, panoptic).scores.panoptic.all.segments == 0
