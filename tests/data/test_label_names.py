"""What published labels are called."""

from vitjax.data.label_names import COCO, coco_classes, imagenet, imagenet_classes, in_words, numbered
from vitjax.data.source import Classes
from vitjax.data.tfds_images import COCO_CATEGORY_IDS


def test_coco_has_its_eighty_categories_at_their_ids():
    assert len(COCO) == 91 and [i for i, name in enumerate(COCO.names) if name] == list(COCO_CATEGORY_IDS)
    assert (COCO.names[1], COCO.names[44], COCO.names[90]) == ("person", "bottle", "toothbrush")


def test_imagenet_has_a_thousand_names():
    assert len(imagenet()) == 1000 and all(imagenet().names)
    assert (imagenet().names[0], imagenet().names[999]) == ("tench", "toilet tissue")


def test_labels_are_taken_for_what_so_many_usually_mean():
    assert coco_classes(91) == COCO and imagenet_classes(1000) == imagenet()
    assert imagenet_classes(91) == numbered(91) and set(numbered(91).names) == {""}


def test_imagenets_word_net_ids_are_put_in_words():
    ids = Classes(tuple(f"n{1440764 + i:08d}" for i in range(1000)), tuple(range(1000)))
    assert in_words(ids) == imagenet()
    few = Classes(ids.names[:10], ids.category_ids[:10])
    assert in_words(few) == few
