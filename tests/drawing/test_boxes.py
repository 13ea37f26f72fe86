"""Pictures of boxes: where the pixels are, that colours hold, and that odd boxes and texts do no harm."""

import itertools

import numpy as np
import pytest

from vitjax.drawing.boxes import PALETTE, contact_sheet, draw_boxes, label_color, legible_scale, text_color

GREY = 120


def canvas(height=200, width=300):
    """A grey image."""
    return np.full((height, width, 3), GREY, np.uint8)


def boxes(*rows):
    """Boxes xyxy."""
    return np.array(rows, np.float32).reshape(-1, 4)


def touched(picture):
    """The (left, top, right, bottom) of pixels that are no longer grey, the last ones included."""
    rows, columns = np.nonzero((picture != GREY).any(axis=-1))
    return columns.min(), rows.min(), columns.max(), rows.max()


def pixels_of(picture, color):
    """How many pixels have the colour."""
    return int((picture == np.array(color, np.uint8)).all(axis=-1).sum())


def contrast(first, second):
    """The contrast ratio of WCAG 2."""
    values = []
    for color in (first, second):
        channels = np.array(color) / 255
        linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
        values.append(linear @ [0.2126, 0.7152, 0.0722] + 0.05)
    return max(values) / min(values)


def test_a_frame_lies_around_its_box_and_leaves_the_object_as_it_was():
    picture = draw_boxes(canvas(), boxes([50, 60, 150, 120]), [""])
    assert touched(picture) == (47, 57, 152, 122)
    assert (picture[61:119, 51:149] == GREY).all()
    assert (picture[90, 48:50] == label_color("")).all()


def test_a_frame_at_the_edge_of_the_image_is_seen_whole():
    picture = draw_boxes(canvas(), boxes([0, 0, 300, 200]), ["dog"], names=["dog"])
    assert all((picture[row, 150] == PALETTE[0]).all() for row in (0, 199))
    assert all((picture[100, column] == PALETTE[0]).all() for column in (0, 299))


def test_the_image_of_the_caller_stays_as_it_was():
    image = canvas()
    draw_boxes(image, boxes([5, 5, 50, 50]), ["cat"], [0.5])
    assert (image == GREY).all()


@pytest.mark.parametrize("scale", [0.5, 1.0, 2.5, 4.0], ids="scale={}".format)
def test_scale_enlarges_the_picture_and_places_the_boxes_in_it(scale):
    picture = draw_boxes(canvas(64, 80), boxes([20, 24, 60, 44]), [""], scale=scale)
    assert picture.shape == (64 * scale, 80 * scale, 3)
    assert picture.dtype == np.uint8
    # Two pixels of frame and one of seam.
    assert touched(picture) == (20 * scale - 3, 24 * scale - 3, 60 * scale + 2, 44 * scale + 2)


def test_frames_and_tags_on_a_large_image_are_larger():
    small, large = (pixels_of(draw_boxes(canvas(size, size), boxes([size / 4, size / 4, size / 2, size / 2]), ["cat"]),
                              label_color("cat")) for size in (300, 3000))  # fmt: skip
    assert large > 30 * small


@pytest.mark.parametrize("size", [1, 8, 64], ids="{} px".format)
def test_a_tag_that_is_larger_than_the_image_does_no_harm(size):
    picture = draw_boxes(canvas(size, size), boxes([0, 0, size, size]), ["a long label " * 5], [0.99])
    assert picture.shape == (size, size, 3)


@pytest.mark.parametrize(
    "box",
    [[10, 0, 60, 25], [0, 180, 40, 200], [270, 90, 300, 130], [-50, -50, 20, 20]],
    ids=["top", "foot", "side", "corner"],
)
def test_a_tag_at_the_edge_is_moved_into_the_image(box):
    bare = draw_boxes(canvas(), boxes(box), [""])
    tagged = draw_boxes(canvas(), boxes(box), ["elephant"], [0.91])
    assert pixels_of(tagged, label_color("elephant")) > pixels_of(bare, label_color("")) + 300


def test_tags_of_the_same_place_do_not_cover_each_other():
    names = ["one", "two", "six"]
    single = [pixels_of(draw_boxes(canvas(), boxes([100, 80, 180, 140]), [name], [0.9], names=names), PALETTE[index])
              for index, name in enumerate(names)]  # fmt: skip
    picture = draw_boxes(canvas(), boxes(*[[100, 80, 180, 140]] * 3), names, [0.9, 0.8, 0.7], names=names)
    # The frames of the others lie under the best one, and their tags beside its tag.
    assert pixels_of(picture, PALETTE[0]) >= 0.85 * single[0]
    assert all(pixels_of(picture, PALETTE[index]) > 300 for index in (1, 2))


def test_the_best_score_lies_on_top_wherever_it_stands_in_the_list():
    pair, names = boxes([50, 50, 150, 150], [50, 50, 150, 150]), ["cat", "dog"]
    for scores, top in (([0.9, 0.2], 0), ([0.2, 0.9], 1)):
        picture = draw_boxes(canvas(), pair, names, scores, names=names)
        assert (picture[120, 49] == PALETTE[top]).all()


@pytest.mark.parametrize(
    "box", [[400, 10, 500, 50], [-50, 10, 0, 50], [10, 210, 50, 250], [50, 50, 50, 90], [90, 50, 50, 90]],
    ids=["right", "left", "below", "no width", "turned round"],
)  # fmt: skip
def test_a_box_that_does_not_meet_the_image_is_left_out(box):
    assert (draw_boxes(canvas(), boxes(box), ["cat"], [0.9]) == GREY).all()


def test_no_boxes_give_the_image():
    assert (draw_boxes(canvas(), boxes(), []) == GREY).all()
    assert (draw_boxes(canvas(), boxes(), [], np.zeros(0, np.float32)) == GREY).all()


@pytest.mark.parametrize("value", [np.nan, np.inf], ids=str)
def test_a_box_that_is_not_finite_is_refused(value):
    with pytest.raises(ValueError, match=r"1 of 2 boxes are NaN or infinite, the first at index 1"):
        draw_boxes(canvas(), boxes([1, 1, 9, 9], [1, 1, value, 9]), ["a", "b"])


def test_counts_that_differ_are_refused():
    with pytest.raises(ValueError, match=r"1 boxes, 2 labels, no scores"):
        draw_boxes(canvas(), boxes([1, 1, 9, 9]), ["a", "b"])
    with pytest.raises(ValueError, match=r"1 boxes, 1 labels, 2 scores"):
        draw_boxes(canvas(), boxes([1, 1, 9, 9]), ["a"], [0.1, 0.2])


def test_colours_of_eighty_classes_are_all_different_and_far_apart_for_the_first_twelve():
    names = [f"class {index}" for index in range(80)]
    colors = [label_color(name, names) for name in names]
    assert len(set(colors)) == 80
    distances = [np.linalg.norm(np.subtract(a, b)) for a, b in itertools.combinations(colors[:12], 2)]
    assert min(distances) > 60


def test_a_label_has_the_same_colour_in_every_picture():
    # Written down, so that a change of the rule is seen: pictures of different runs are laid side by side.
    assert label_color("person") == (140, 252, 255)
    assert label_color("person", ["cat", "person"]) == label_color("dog", ["cat", "dog"]) == PALETTE[1]


@pytest.mark.parametrize("label", ["person", "cat", "été", "犬", "traffic light", *"0123456789"])
def test_text_can_be_read_on_the_colour_of_its_label(label):
    color = label_color(label)
    assert contrast(color, text_color(color)) > 4.3
    assert all(contrast(color, text_color(color)) > 4.3 for color in PALETTE)


@pytest.mark.parametrize("label", ["été", "Жук", "犬", "two\nlines", "\t", "\U0001f600"], ids=ascii)
def test_labels_may_have_any_letters(label):
    drawn = draw_boxes(canvas(), boxes([100, 80, 180, 140]), [label], [0.5])
    assert pixels_of(drawn, label_color(label)) > 500


def test_accented_letters_are_not_drawn_as_boxes():
    strips = [
        draw_boxes(canvas(), boxes([100, 80, 180, 140]), [label], names=["é", "ж"])[60:80] for label in ("é", "ж")
    ]
    dark = [(strip == 17).all(axis=-1) for strip in strips]
    assert (dark[0] != dark[1]).any()


def test_a_small_image_is_to_be_enlarged_and_a_large_one_is_not():
    assert [legible_scale(*size) for size in ((64, 64), (100, 50), (320, 200), (480, 640))] == [5.0, 4.0, 1.0, 1.0]


def test_a_contact_sheet_has_its_pictures_in_reading_order():
    tiles = [np.full((40, 60, 3), value, np.uint8) for value in (10, 20, 30, 40, 50)]
    page = contact_sheet(tiles, columns=3)
    assert page.shape == (8 + 2 * 48, 8 + 3 * 68, 3)
    middles = [page[8 + row * 48 + 20, 8 + column * 68 + 30, 0] for row in range(2) for column in range(3)]
    assert middles == [10, 20, 30, 40, 50, 255]


def test_captions_make_room_for_their_lines_and_are_written_there():
    tiles = [canvas(50, 100)] * 2
    bare = contact_sheet(tiles, columns=1)
    page = contact_sheet(tiles, columns=1, captions=["one", "two\nlines"])
    assert page.shape[1] == bare.shape[1]
    assert page.shape[0] == bare.shape[0] + 3 * 18 + 2 * 4
    below = page[58 : 58 + 4 + 18]
    assert (below < 100).any()
    assert (page[:, :8] == 255).all()
    assert (page[:, -8:] == 255).all()


def test_a_caption_that_is_too_long_stays_under_its_picture():
    page = contact_sheet([canvas(50, 100)], captions=["a very long file name " * 9])
    assert (page[:, :8] == 255).all()
    assert (page[:, -8:] == 255).all()
    assert (page[60:] < 100).any()


def test_pictures_of_different_sizes_share_a_page_and_large_ones_are_shrunk():
    page = contact_sheet([canvas(400, 800), canvas(50, 20)], columns=5, tile=200)
    assert page.shape == (8 + 100 + 8, 8 + 2 * 208, 3)
    assert (page[8:108, 8:208] == GREY).all()
    assert (page[58:108, 306:326] == GREY).all()


@pytest.mark.parametrize(
    ("images", "more"),
    [([], {}), ([1], {"captions": ["a", "b"]}), ([1], {"columns": 0})],
    ids=["none", "captions", "columns"],
)
def test_a_page_of_nothing_or_with_captions_left_over_is_refused(images, more):
    with pytest.raises(ValueError, match=f"got {len(images)} images"):
        contact_sheet([canvas() for _ in images], **more)
