"""Pictures of boxes, and pages of pictures, legible at any size."""

import colorsys
import functools
import importlib.util
import zlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw, ImageFont

Color = tuple[int, int, int]

# Distinct from each other and from most photographs; neighbours in the list are far apart in hue.
PALETTE: tuple[Color, ...] = (
    (255, 82, 82), (41, 182, 246), (255, 202, 40), (102, 187, 106), (216, 112, 255), (255, 138, 48),
    (38, 214, 190), (255, 105, 180), (166, 212, 48), (110, 132, 255), (196, 146, 96), (0, 150, 136),
)  # fmt: skip
DARK: Color = (17, 17, 17)
LIGHT: Color = (255, 255, 255)
# Looked for in this order when a text has letters that Pillow's own font (ASCII) cannot show.
FONTS = ("DejaVuSans.ttf", "NotoSans-Regular.ttf", "NotoSansCJK-Regular.ttc", "arial.ttf", "Arial Unicode.ttf")
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


class _Mark(NamedTuple):
    """A frame in pixels of the picture, the last ones included, and what is written at it."""

    left: int
    top: int
    right: int
    bottom: int
    text: str = ""
    color: Color = LIGHT

    def grown(self, margin: int, picture: tuple[int, int]) -> "_Mark":
        """The mark with a margin all round, as far as the picture of that (width, height) reaches."""
        left, top = max(self.left - margin, 0), max(self.top - margin, 0)
        right, bottom = min(self.right + margin, picture[0] - 1), min(self.bottom + margin, picture[1] - 1)
        return self._replace(left=left, top=top, right=right, bottom=bottom)

    def overlap(self, other: "_Mark") -> int:
        """The number of pixels that lie in both."""
        width = min(self.right, other.right) - max(self.left, other.left) + 1
        height = min(self.bottom, other.bottom) - max(self.top, other.top) + 1
        return max(width, 0) * max(height, 0)


def draw_boxes(
    image: UInt8[np.ndarray, "height width 3"],
    boxes: Float[np.ndarray, "objects 4"],
    labels: Sequence[str],
    scores: Sequence[float] | Float[np.ndarray, " objects"] | None = None,
    *,
    names: Sequence[str] = (),
    colors: Sequence[Color] | None = None,
    scale: float | int = 1,
    font_size: int | None = None,
) -> UInt8[np.ndarray, "drawn_height drawn_width 3"]:
    """The image, `scale` times as large, with a frame and a tag for every box (xyxy in pixels of the image).

    A label has the same colour in every picture: by its place in `names` where it is there, else by its letters; unless
    each box has one of the `colors`. Tags are of `font_size` pixels, or of a size that suits the picture. Frames
    and tags stay inside the picture, the best score lies on top. Boxes that do not meet the image are left out; where
    there is neither label nor score there is no tag.

    Raises:
        ValueError: the image is not uint8 RGB, the numbers of boxes, labels and scores differ, or a box is NaN or
            infinite.
    """
    _check(image, boxes, labels, scores)
    picture = _resized(Image.fromarray(image), scale)
    ranking = np.zeros(len(boxes)) if scores is None else -np.asarray(scores, dtype=np.float64)
    marks = []
    for index in map(int, np.argsort(ranking, kind="stable")):
        text = " ".join(labels[index].split()) + (f" {scores[index]:.2f}" if scores is not None else "")
        color = label_color(labels[index], names) if colors is None else colors[index]
        mark = _mark(boxes[index] * scale, picture.size, text.strip(), color)
        marks += [] if mark is None else [mark]
    canvas, longest = ImageDraw.Draw(picture), max(picture.size)
    line = max(2, round(0.0035 * longest))
    for mark in reversed(marks):
        _draw_frame(canvas, mark, line)
    size = font_size or max(12, round(0.022 * longest))
    _draw_tags(canvas, [mark for mark in marks if mark.text], line, font_size=size)
    return np.array(picture)


def contact_sheet(
    images: Sequence[UInt8[np.ndarray, "_ _ 3"]],
    *,
    columns: int = 4,
    captions: Sequence[str] | None = None,
    tile: int | None = None,
) -> UInt8[np.ndarray, "height width 3"]:
    """A white page of pictures in reading order with a caption under each; a newline in a caption begins a new line.

    Pictures whose longer side is over `tile` pixels are shrunk to it, and all have as much room. Captions that are too
    long lose their middle.

    Raises:
        ValueError: there are no images, or not as many captions as images.
    """
    captions = [""] * len(images) if captions is None else captions
    if not images or len(captions) != len(images) or columns < 1:
        raise ValueError(
            f"A contact sheet needs one image or more, a caption for each or none at all, and one column or more; "
            f"got {len(images)} images, {len(captions)} captions and {columns} columns."
        )
    tiles = [Image.fromarray(image) for image in images]
    tiles = [_resized(image, min(1.0, tile / max(image.size))) if tile else image for image in tiles]
    columns = min(columns, len(tiles))
    cell = max(image.width for image in tiles)
    size = min(max(13, round(0.042 * cell)), 32)
    gap, line = max(8, size // 2), round(1.35 * size)
    rows = [slice(start, start + columns) for start in range(0, len(tiles), columns)]
    lines = [caption.splitlines() for caption in captions]
    heights = [max(image.height for image in tiles[row]) for row in rows]
    heights = [max(heights)] * len(rows) if tile else heights
    below = [max(map(len, lines[row])) * line + (gap // 2 if any(lines[row]) else 0) for row in rows]
    page = Image.new("RGB", (gap + columns * (cell + gap), gap + sum(heights) + sum(below) + gap * len(rows)), LIGHT)
    canvas, top = ImageDraw.Draw(page), gap
    for row, height, text_height in zip(rows, heights, below, strict=True):
        for column, (image, texts) in enumerate(zip(tiles[row], lines[row], strict=True)):
            left = gap + column * (cell + gap)
            page.paste(image, (left + (cell - image.width) // 2, top + (height - image.height)))
            for number, text in enumerate(texts):
                font = _font(size, text)
                place = left + cell / 2, top + height + gap // 2 + number * line
                canvas.text(place, _shortened(text, font, cell), fill=DARK, font=font, anchor="ma")
        top += height + text_height + gap
    return np.array(page)


def legible_scale(height: int, width: int) -> float:
    """How many times an image is to be enlarged before tags on it are legible: 1 where its longer side has 320 px."""
    return float(max(1, -(-320 // max(height, width))))


def enlarged(image: UInt8[np.ndarray, "height width 3"]) -> UInt8[np.ndarray, "drawn_height drawn_width 3"]:
    """The image as large as it must be to be seen: thumbnails of data sets are often of few pixels."""
    return np.array(_resized(Image.fromarray(image), legible_scale(*image.shape[:2])))


def label_color(label: str, names: Sequence[str] = ()) -> Color:
    """The colour of a label: by its place in `names`, else by its letters; the same in every run and picture."""
    index = list(names).index(label) if label in names else zlib.crc32(label.encode())
    return PALETTE[index] if label in names and index < len(PALETTE) else spread_color(index)


def spread_color(index: int) -> Color:
    """A colour for each number, all of them different for some hundred in a row."""
    # The golden ratio spreads any number of hues; vivid, pale and dark tell those apart that come near each other.
    saturation, value = ((0.9, 0.62), (0.85, 1.0), (0.45, 1.0))[index % 3]
    red, green, blue = colorsys.hsv_to_rgb(index * 0.61803398875 % 1.0, saturation, value)
    return round(red * 255), round(green * 255), round(blue * 255)


def text_color(background: Color) -> Color:
    """Dark or light, whichever has more contrast on the background.

    Source: relative luminance and contrast ratio of WCAG 2.
    """
    linear = [c / 255 / 12.92 if c <= 10 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in background]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    # White has luminance 1, DARK 0.0056; where both contrasts are equal, this is an equation.
    return DARK if (luminance + 0.05) ** 2 > (1 + 0.05) * (0.0056 + 0.05) else LIGHT


def _check(
    image: np.ndarray, boxes: np.ndarray, labels: Sequence[str], scores: Sequence[float] | np.ndarray | None
) -> None:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"Boxes are drawn on uint8 [height, width, 3] RGB images; got {image.dtype} {image.shape}.")
    if len(boxes) != len(labels) or (scores is not None and len(scores) != len(boxes)):
        count = "no" if scores is None else len(scores)
        raise ValueError(
            f"Every box needs a label and a score; got {len(boxes)} boxes, {len(labels)} labels, {count} scores."
        )
    bad = ~np.isfinite(boxes).all(axis=-1)
    if bad.any():
        raise ValueError(f"{bad.sum()} of {len(boxes)} boxes are NaN or infinite, the first at index {np.argmax(bad)}.")


def _resized(picture: Image.Image, scale: float | int) -> Image.Image:
    if scale == 1:
        return picture
    size = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
    # Pixels stay visible as such where a small image is blown up.
    return picture.resize(size, Image.Resampling.NEAREST if scale >= 3 else Image.Resampling.BICUBIC)


def _mark(box: np.ndarray, size: tuple[int, int], text: str, color: Color) -> _Mark | None:
    """The mark of a box (xyxy) of a picture of that (width, height), or None where they do not meet."""
    limits = np.array([*size, *size])
    left, top, right, bottom = np.clip(box, 0, limits)
    if right <= left or bottom <= top:
        return None
    left, top = int(min(np.floor(left), size[0] - 1)), int(min(np.floor(top), size[1] - 1))
    return _Mark(left, top, max(left, int(np.ceil(right)) - 1), max(top, int(np.ceil(bottom)) - 1), text, color)


def _draw_frame(canvas: ImageDraw.ImageDraw, mark: _Mark, line: int) -> None:
    """A frame around the box, so that it hides none of the object, with a dark seam that shows it on any background."""
    for margin, thickness, color in ((line + 1, line + 2, DARK), (line, line, mark.color)):
        canvas.rectangle(mark.grown(margin, canvas.im.size)[:4], outline=color, width=thickness)


def _draw_tags(canvas: ImageDraw.ImageDraw, marks: Sequence[_Mark], line: int, font_size: int) -> None:
    """A tag at every frame; the first mark chooses its place first, and its tag is drawn over the others."""
    placed: list[_Mark] = []
    for mark in marks:
        font, padding = _font(font_size, mark.text), max(2, font_size // 4)
        text = _shortened(mark.text, font, canvas.im.size[0] - 2 * padding)
        size = round(font.getlength(text)) + 2 * padding, round(1.2 * font_size) + padding
        placed.append(_tag_place(mark, size, canvas.im.size, line, placed)._replace(text=text, color=mark.color))
    for tag in reversed(placed):
        canvas.rectangle(tag[:4], fill=tag.color)
        middle = (tag.left + tag.right + 1) / 2, (tag.top + tag.bottom + 1) / 2
        canvas.text(middle, tag.text, fill=text_color(tag.color), font=_font(font_size, tag.text), anchor="mm")


def _tag_place(mark: _Mark, size: tuple[int, int], picture: tuple[int, int], line: int, placed: list[_Mark]) -> _Mark:
    """Where a tag of that (width, height) hides least of other tags and of its own object, best above the frame."""
    width, height = size
    frame = mark.grown(line, picture)
    near, far = frame.left, frame.right - width + 1
    above, inside, below, foot = frame.top - height + 1, frame.top, frame.bottom, frame.bottom - height + 1
    corners = [(near, above), (near, inside), (near, below), (far, above), (far, inside), (far, below)]
    corners += [(frame.right, inside), (frame.left - width, inside), (near, foot), (far, foot)]
    places = []
    for left, top in corners:
        left, top = max(0, min(left, picture[0] - width)), max(0, min(top, picture[1] - height))
        places.append(_Mark(left, top, left + width - 1, top + height - 1))

    def cost(rank: int) -> float:
        hidden = sum(places[rank].overlap(tag) for tag in placed) / height**2
        return hidden + 0.3 * places[rank].overlap(mark) / mark.overlap(mark) + 0.03 * rank

    return places[min(range(len(places)), key=cost)]


@functools.lru_cache
def _fonts(size: int) -> tuple[Font, ...]:
    """Pillow's own font, those of FONTS that the system has, and the one that comes with matplotlib."""
    found: list[Font] = [ImageFont.load_default(size)]
    matplotlib = importlib.util.find_spec("matplotlib")
    folders = matplotlib.submodule_search_locations or [] if matplotlib else []
    for name in (*FONTS, *(f"{folder}/mpl-data/fonts/ttf/DejaVuSans.ttf" for folder in folders)):
        try:
            found.append(ImageFont.truetype(name, size))
        except OSError:
            continue
    return tuple(found)


def _font(size: int, text: str) -> Font:
    """The first font that has the most letters of the text."""
    if text.isascii():
        return ImageFont.load_default(size)
    return min(_fonts(size), key=lambda font: sum(_is_missing(font, letter) for letter in set(text)))


def _is_missing(font: Font, letter: str) -> bool:
    return not letter.isspace() and _glyph(font, letter) == _glyph(font, "\uffff")


def _glyph(font: Font, letter: str) -> bytes:
    picture = Image.new("1", (64, 64))
    ImageDraw.Draw(picture).text((0, 0), letter, fill=1, font=font)
    return picture.tobytes()


def _shortened(text: str, font: Font, width: int) -> str:
    """The text with so much of its middle left out that it fits."""
    short, keep = text, len(text)
    while keep > 1 and font.getlength(short) > width:
        keep -= 1
        short = f"{text[: keep - keep // 2]}…{text[len(text) - keep // 2 :]}"
    return short
