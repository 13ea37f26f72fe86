import pickle

import pytest
from PIL import Image

from vitjax.data.errors import DataError
from vitjax.data.voc import VocFolder
from vitjax.data.voc_xml import voc_splits


def thing(name="cell", corners=(3, 4, 12, 11), difficult=0, box="bndbox"):
    sides = "".join(
        f"<{side}>{value}</{side}>" for side, value in zip(("xmin", "ymin", "xmax", "ymax"), corners, strict=True)
    )
    parts = "<part><name>head</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax></bndbox></part>"
    return f"<object><name> {name} </name><difficult>{difficult}</difficult>{parts}<{box}>{sides}</{box}></object>"


def scene(*things, size=(40, 30), file_name=""):
    sides = f"<size><width>{size[0]}</width><height>{size[1]}</height></size>" if size else ""
    return f"<annotation><filename>{file_name}</filename>{sides}{''.join(things)}</annotation>"


def save(root, scenes, split="train", images="JPEGImages", xml="Annotations"):
    for folder in (images, xml, "ImageSets/Main"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for count, (stem, text) in enumerate(scenes.items()):
        Image.new("RGB", (40, 30), (count, 0, 0)).save(root / images / f"{stem}.png")
        (root / xml / f"{stem}.xml").write_text(text)
    (root / f"ImageSets/Main/{split}.txt").write_text("".join(f"{stem}\n" for stem in scenes))
    return VocFolder(str(root))


def test_corners_count_pixels_from_one_and_are_part_of_the_box(tmp_path):
    source = save(tmp_path, {"b": scene(thing("clot"), thing("cell", (1, 1, 40, 30))), "a": scene()}).open("train")
    assert source.problems == () and source.names == ("b.png", "a.png") and source.folder == tmp_path / "JPEGImages"
    assert source.classes.names == ("cell", "clot") and source.classes.category_ids == (0, 1)
    sample = pickle.loads(pickle.dumps(source))[0]
    assert sample.boxes.tolist() == [[2, 3, 12, 11], [0, 0, 40, 30]] and sample.labels.tolist() == [1, 0]


def test_difficult_objects_are_crowds(tmp_path):
    source = save(tmp_path, {"a": scene(thing(), thing(difficult=1))}).open("train")
    assert len(source[0].boxes) == 1 and [row["iscrowd"] for row in source.ground_truth()["annotations"]] == [0, 1]


def test_classes_are_those_of_all_splits_or_those_that_are_named(tmp_path):
    save(tmp_path, {"b": scene(thing("clot"))}, "val")
    source = save(tmp_path, {"a": scene(thing("cell"), thing("dust"))})
    assert source.open("train").classes == source.open("val").classes
    assert source.open("val").classes.names == ("cell", "clot", "dust")
    named = VocFolder(str(tmp_path), classes=("clot", "cell")).open("train")
    assert named.classes.names == ("clot", "cell") and named[0].labels.tolist() == [1]
    assert "unknown category: 1 (first: annotation 2 of category_id dust)" in named.problems[0]


def test_an_object_of_a_polygon_gets_its_box(tmp_path):
    polygon = "<polygon><x1>3</x1><y1>4</y1><x2>12</x2><y2>4</y2><x3>12</x3><y3>11</y3></polygon>"
    source = save(tmp_path, {"a": scene(f"<object><name>cell</name>{polygon}</object>")}).open("train")
    assert source[0].boxes.tolist() == [[2, 3, 12, 11]]


@pytest.mark.parametrize("inner", ["", "VOC2012", "VOCdevkit/VOC2007"])
def test_the_data_set_may_lie_deeper(tmp_path, inner):
    save(tmp_path / inner, {"a": scene(thing())})
    (tmp_path / inner / "ImageSets/Main/cell_train.txt").write_text("a -1\n")
    (tmp_path / inner / "ImageSets/Main/val.txt").write_text("a  1\n\n")
    assert voc_splits(tmp_path) == ("train", "val")
    assert len(VocFolder(str(tmp_path)).open("train")) == len(VocFolder(str(tmp_path)).open("val")) == 1


def test_of_several_years_one_is_to_be_named(tmp_path):
    for year in ("VOC2007", "VOC2012"):
        save(tmp_path / year, {"a": scene(thing())})
    assert voc_splits(tmp_path) == ("train",)
    with pytest.raises(DataError, match=r"several data sets in VOC's layout; name one: .*VOC2007, .*VOC2012"):
        VocFolder(str(tmp_path)).open("train")


def test_xml_files_beside_the_images_of_a_split_are_found(tmp_path):
    for split in ("train", "valid"):
        save(tmp_path, {"a": scene(thing(split))}, images=split, xml=split)
    for path in (tmp_path / "ImageSets/Main").iterdir():
        path.unlink()
    assert voc_splits(tmp_path) == ("train", "valid")
    source = VocFolder(str(tmp_path)).open("val")
    assert source.folder == tmp_path / "valid" and source.classes.names == ("train", "valid")


def test_an_image_is_that_of_the_same_stem_or_of_the_file_name(tmp_path):
    source = save(tmp_path, {"a": scene(thing(), file_name="wrong.jpg"), "b": scene(thing(), file_name="C:\\x\\c.PNG")})
    (tmp_path / "JPEGImages/b.png").rename(tmp_path / "JPEGImages/c.png")
    opened = source.open("train")
    assert opened.names == ("a.png", "c.png") and "by the end of their file_name: 1" in opened.problems[0]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("<annotation><object>", "is not valid XML"),
        ('<!DOCTYPE a [<!ENTITY b "c">]><annotation/>', "declares entities"),
        ('<?xml version="1.0" encoding="nonsense"?><annotation/>', "not valid XML"),
        ("<annotation>\0</annotation>", "UTF-16"),
    ],
)
def test_a_file_that_is_no_plain_xml_is_left_out_and_named(tmp_path, text, words):
    source = save(tmp_path, {"a": scene(thing()), "b": text}).open("train")
    (said,) = source.problems
    assert len(source) == 1 and "annotations cannot be read: 1" in said and words in said and "b.xml" in said


@pytest.mark.parametrize(
    "spoiled", [thing(""), thing(corners=("", 1, 2, 3)), thing(corners=("nan", 1, 2, 3)), thing(box="x")]
)
def test_an_object_that_makes_no_sense_is_skipped_and_counted(tmp_path, spoiled):
    source = save(tmp_path, {"a": scene(thing(), spoiled)}).open("train")
    assert len(source[0].boxes) == 1 and "without a name or four numbers as bndbox: 1" in source.problems[0]


def test_sizes_are_those_of_the_files(tmp_path):
    source = save(tmp_path, {"a": scene(thing(), size=None), "b": scene(thing(), size=(0, 0))}).open("train")
    assert source.sizes.tolist() == [[30, 40]] * 2 and source.problems == ()


def test_what_cannot_be_trained_on_is_an_error_with_its_cause(tmp_path):
    with pytest.raises(DataError, match="Name a folder with Annotations"):
        VocFolder("").open("train")
    source = save(tmp_path, {"a": scene(thing(corners=(0.1, 0.2, 0.5, 1)))})
    with pytest.raises(DataError, match=r"relative to their image: 100% have .* \(first: \[0\.1, 0\.2"):
        source.open("train")
    with pytest.raises(DataError, match=r"no list ImageSets/Main/val\.txt; there are: train\. Name one that is there"):
        source.open("val")
    save(tmp_path, {"a": scene(thing(difficult=1))})
    with pytest.raises(DataError, match="All 1 annotations have iscrowd 1"):
        source.open("train")
    save(tmp_path, {"a": scene()})
    with pytest.raises(DataError, match="lists no categories"):
        source.open("train")
