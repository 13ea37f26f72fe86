"""What a newcomer's folder may have wrong: one clear error that names the file, or a count in the printed summary."""

import json

import pytest

from vitjax.cli import train


def change(folder, mend, split="train"):
    path = folder / "annotations" / f"instances_{split}.json"
    content = json.loads(path.read_text())
    mend(content)
    path.write_text(json.dumps(content))


def attempt(config, folder, tmp_path, capsys):
    code = train([config, "--data.root", str(folder), "--workdir", str(tmp_path / "run"), "--epochs", "0.5"])
    said = capsys.readouterr()
    assert "Traceback" not in said.err
    return code, said.out, said.err


def no_images(content):
    content["images"], content["annotations"] = [], []


def no_annotations(content):
    content["annotations"] = []


def no_categories(content):
    del content["categories"]


def images_twice(content):
    content["images"].append(dict(content["images"][0], file_name="1.png"))


FATAL = {"no images": no_images, "no annotations": no_annotations, "no categories": no_categories}


@pytest.mark.parametrize("mend", FATAL.values(), ids=FATAL.keys())
def test_data_that_cannot_be_trained_on_end_with_the_file_and_the_fix(mend, config, folder, tmp_path, capsys):
    change(folder, mend)
    code, _, error = attempt(config, folder, tmp_path, capsys)
    assert code == 1
    assert error.startswith("error: ") and "instances_train.json" in error


def test_a_missing_root_is_named(config, tmp_path, capsys):
    code, _, error = attempt(config, tmp_path / "nowhere", tmp_path, capsys)
    assert code == 1 and "nowhere" in error


def test_json_that_is_none_is_named(config, folder, tmp_path, capsys):
    (folder / "annotations" / "instances_train.json").write_text("{")
    code, _, error = attempt(config, folder, tmp_path, capsys)
    assert code == 1 and "instances_train.json" in error


def unknown_image(content):
    content["annotations"][0]["image_id"] = 999


def unknown_category(content):
    content["annotations"][0]["category_id"] = 999


def nan_box(content):
    content["annotations"][0]["bbox"][2] = float("nan")


def negative_box(content):
    content["annotations"][0]["bbox"][2] = -5


def wrong_size(content):
    content["images"][0]["width"] += 7


def duplicate_annotation(content):
    content["annotations"][1]["id"] = content["annotations"][0]["id"]


MENDABLE = {
    "annotation of an unknown image": unknown_image,
    "annotation of an unknown category": unknown_category,
    "NaN box": nan_box,
    "negative box": negative_box,
    "wrong image size": wrong_size,
    "duplicate annotation ids": duplicate_annotation,
    "duplicate image ids": images_twice,
}


@pytest.mark.parametrize("mend", MENDABLE.values(), ids=MENDABLE.keys())
def test_what_can_be_skipped_or_mended_is_counted_in_what_is_printed(mend, config, folder, tmp_path, capsys):
    attempt(config, folder, tmp_path / "sound", capsys)
    change(folder, mend)
    code, said, error = attempt(config, folder, tmp_path, capsys)
    assert code == 0 and "1 " in said.split("in all\n")[1] or code == 1 and "instances_train.json" in error


def test_a_missing_image_file_is_named(config, folder, tmp_path, capsys):
    (folder / "train" / "3.png").unlink()
    code, said, error = attempt(config, folder, tmp_path, capsys)
    assert "3.png" in (said if code == 0 else error)
