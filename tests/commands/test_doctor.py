"""A folder judged by a config: its queries, sizes, batches and splits, and the exit code."""

import json

import pytest
from data.test_limits import coco
from doctor.test_mask_faults import instances, panoptic
from PIL import Image

from vitjax.commands.main import main
from vitjax.doctor.report import Examination, Finding


@pytest.fixture
def root(tmp_path):
    """Four images of 640 x 480 with 70 boxes each, 20 pixels wide, in train and in val."""
    categories = [{"id": 1, "name": "cell"}]
    (tmp_path / "annotations").mkdir()
    for first, split in ((1, "train"), (5, "val")):
        (tmp_path / split).mkdir()
        images = [{"id": n, "file_name": f"{n}.png", "width": 640, "height": 480} for n in range(first, first + 4)]
        for image in images:
            Image.new("RGB", (640, 480), (image["id"], 0, 0)).save(tmp_path / split / image["file_name"])
        boxes = [
            {"id": 100 * image["id"] + n, "image_id": image["id"], "category_id": 1, "area": 400, "iscrowd": 0,
             "bbox": [30 * (n % 20), 40 * (n // 20), 20, 20]}
            for image in images for n in range(70)
        ]  # fmt: skip
        document = {"images": images, "annotations": boxes, "categories": categories}
        (tmp_path / f"annotations/instances_{split}.json").write_text(json.dumps(document))
    return tmp_path


def said(capsys, *words):
    code = main(["doctor", *map(str, words)])
    told = capsys.readouterr()
    return code, " ".join(told.out.split()), told.err


def test_a_folder_is_judged_by_the_queries_sizes_and_batches_of_a_config(root, capsys):
    assert said(capsys, root)[0] == 0
    words = ("detr_resnet50_finetune", "--data.root", root, "--model.num-queries", 60, "--batch-size", 4)
    code, table, _ = said(capsys, *words, "--resize.size", 96, "--augmentation.sizes", 96, "--augmentation.crop", 0)
    assert code == 1 and "as detr_resnet50_finetune has it: 60 queries, images of 96/1333 pixels" in table
    assert "more objects than the 60 queries, 40 objects lost" in table
    assert "280 boxes (100.0 %) less than 8 pixels wide or high in images of 96/1333 pixels" in table
    assert "the augmentation of detr_resnet50_finetune in batches of 4; 1 bucket: 128x96" in table


def test_other_splits_of_a_config_are_those_that_are_missed(root, capsys):
    code, table, _ = said(capsys, "detr_resnet50_finetune", "--data.root", root, "--data.split", "holdout")
    assert code == 2 and "there is no split 'holdout'" in table and "--data.split NAME" in table
    code, table, _ = said(capsys, "detr_resnet50_finetune", "--data.root", root, "--split", "val", "--decode")
    assert code == 0 and "1 split (val)" in table


def test_a_config_of_a_classifier_looks_for_folders_of_classes(root, tmp_path, capsys):
    for split, first in (("train", 0), ("val", 20)):
        for name in ("cat", "dog"):
            (tmp_path / f"pets/{split}/{name}").mkdir(parents=True)
            for number in range(first, first + 10):
                Image.new("L", (30 + number, 20), 10 * (name == "dog")).save(
                    tmp_path / f"pets/{split}/{name}/{number}.png"
                )
    code, table, _ = said(capsys, "classifier_finetune", "--data.root", tmp_path / "pets", "--augmentation.size", 32)
    assert code == 0 and "as classifier_finetune has it: squares of 224 pixels" in table
    code, table, _ = said(capsys, "detr_resnet50_finetune", "--data.root", tmp_path / "pets")
    assert code == 2 and "there are no boxes: these are images by class" in table


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["quickstart"], "quickstart has Digits for detection"),
        (["detr_resnet50_finetune"], "names no data folder; give it as --data.root FOLDER"),
        (["detr_resnet50_fintune", "--data.root", "x"], "Did you mean detr_resnet50_finetune?"),
    ],
)
def test_a_config_that_cannot_be_looked_at_is_one_line(words, error, capsys):
    code, _, told = said(capsys, *words)
    assert code == 2 and error in told and len(told.splitlines()) == 1


@pytest.mark.parametrize(("severity", "code"), [("ok", 0), ("note", 0), ("hint", 0), ("warning", 1), ("error", 2)])
def test_only_what_loses_something_is_a_code_other_than_0(severity, code):
    examination = Examination("data", (Finding("sizes", severity, "much padding", (), "Smaller batches."),))
    assert examination.exit_code == code
    assert ("-> Smaller batches." in examination.table()) == (severity not in ("ok", "note"))


def test_the_limits_of_a_config_hold_for_its_data(capsys, tmp_path):
    coco(tmp_path)
    main(["doctor", "detr_resnet50_finetune", "--data.root", str(tmp_path), "--data.limits.pixels", "199"])
    assert "none of 3 images in train/ can be used" in capsys.readouterr().out


def test_a_config_of_masks_is_told_where_there_are_none(root, tmp_path, capsys):
    code, table, _ = said(capsys, "detr_resnet50_instances_coco", "--data.root", root)
    assert code == 2 and table.count("no object has a mask") == 2 and "or take a config without masks" in table
    instances(tmp_path / "masked")
    code, table, _ = said(
        capsys, "detr_resnet50_instances_coco", "--data.root", tmp_path / "masked", "--split", "train"
    )
    assert code == 0 and "4 masks for 4 boxes" in table


def test_a_panoptic_config_looks_where_its_annotations_are(tmp_path, capsys):
    for split in ("train", "val", "spare"):
        panoptic(tmp_path, split=split)
    (tmp_path / "panoptic_spare/1.png").unlink()  # which neither training nor its evaluation opens
    (tmp_path / "segments").mkdir()
    for path in tmp_path.glob("panoptic_*"):
        path.rename(tmp_path / "segments" / path.name)
    words = ("deformable_detr_small_panoptic", "--data.root", tmp_path)
    code, table, _ = said(capsys, *words)
    assert code == 2 and table.count("has no panoptic annotations of the split") == 2 and "no split" not in table
    code, table, _ = said(capsys, *words, "--data.panoptic-root", tmp_path / "segments")
    assert code == 1 and "hint spare left out images whose PNG is missing" in table  # 1: both splits are one image
