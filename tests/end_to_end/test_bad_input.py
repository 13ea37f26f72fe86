"""What a newcomer's folder may have wrong: one clear error that names the file, or a count in the printed summary."""

import json

import pytest

from vitjax.commands.main import train


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


def unknown_image(content, place):
    content["annotations"][place]["image_id"] = 999


def unknown_category(content, place):
    content["annotations"][place]["category_id"] = 999


def nan_box(content, place):
    content["annotations"][place]["bbox"][2] = float("nan")


def negative_box(content, place):
    content["annotations"][place]["bbox"][2] = -5


def wrong_size(content, place):
    content["images"][place]["width"] += 7


def duplicate_annotation(content, place):
    content["annotations"][place]["id"] = content["annotations"][place + 1]["id"]


MENDABLE = (unknown_image, unknown_category, nan_box, negative_box, wrong_size, duplicate_annotation)


def test_what_can_be_skipped_or_mended_is_counted_in_what_is_printed(config, folder, tmp_path, capsys):
    for place, mend in enumerate(MENDABLE):
        change(folder, lambda content, mend=mend, place=place: mend(content, place))
    (folder / "train" / "7.png").unlink()
    code, said, _ = attempt(config, folder, tmp_path, capsys)
    assert code == 0
    wanted = (
        "unknown image",
        "unknown category",
        "no finite number",
        "cover nothing",
        "image sizes",
        "whose id is",
        "7.png",
    )
    assert [words for words in wanted if words not in said] == []
