"""Large images in overlapping tiles: what each shows is put together to what the whole shows.

A box is *cut* where it ends at a border of its tile that is none of the image. What is found on the tiles is joined so:

1. A cut box that another tile sees without cutting it there is left out: that tile sees more of the object.
2. Boxes of one class from different tiles are of one object where their IoU is above a half; if one of them is cut,
   the IoU within what both tiles see counts. Of each tile an object has one box at most.
3. Of an object's boxes the best one that is not cut is kept; of cut ones alone, the box around them; with the best
   score.

An object as long as the overlap or shorter lies wholly on some tile, so that its box is the model's own. A label map
has at each pixel the label from the tile in which the pixel is farther from the border.
"""

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from vitjax.data.source import Classes, Sample, SizedSource
from vitjax.errors import FieldError
from vitjax.prediction import Answer, Labelling, MaskRows, Prediction, labelling, names_of

OVERLAP = 0.25
"""Share of its side that a tile has in common with the next, at least, where nobody says another."""

_SAME = 0.5  # IoU
_RIM = 0.02  # of a tile's side: a box that ends so near to the border is cut


class Tile(NamedTuple):
    """A part of an image in its pixels, the last row and column not included."""

    left: int
    top: int
    right: int
    bottom: int


def tile_side(asked: int | str, preprocess: Any) -> int:
    """The side of the tiles in pixels of the image; "own" is the shorter side that the model sees images at.

    Raises:
        FieldError: the model sees images as they are, so that there is no such side.
    """
    side = preprocess.size if asked == "own" else asked
    if side is None:
        raise FieldError("this model sees images as they are, of any size; give the side of the tiles in pixels.")
    return int(side)


def tiles_of(height: int, width: int, *, side: int, overlap: float = OVERLAP) -> list[Tile]:
    """The tiles of an image, row by row: as few as overlap by the share of the side, evenly spread."""
    rows, columns = (_spans(length, side, overlap) for length in (height, width))
    return [Tile(left, top, right, bottom) for top, bottom in rows for left, right in columns]


def _spans(length: int, side: int, overlap: float) -> list[tuple[int, int]]:
    if length <= side:
        return [(0, length)]
    shared = round(overlap * side)
    count = -(-(length - shared) // (side - shared))
    return [(start, start + side) for start in np.linspace(0, length - side, count).round().astype(int).tolist()]


class Tiles:
    """The tiles of all images of a source, image by image; a SizedSource. The last image is kept while it is cut."""

    problems: tuple[str, ...] = ()
    max_objects = 0

    def __init__(self, source: SizedSource, *, side: int, overlap: float) -> None:
        """Reads no image."""
        self._source = source
        self.classes: Classes = source.classes
        sizes = np.asarray(source.sizes).reshape(-1, 2).tolist()
        self.of = [tiles_of(*size, side=side, overlap=overlap) for size in sizes]
        self.places = [(record, tile) for record, tiles in enumerate(self.of) for tile in tiles]
        self.sizes = np.array([(t.bottom - t.top, t.right - t.left) for _, t in self.places], np.int32).reshape(-1, 2)
        self.image_ids = range(1, len(self.places) + 1)
        self._kept: tuple[int, Sample] | None = None

    def __len__(self) -> int:
        """The number of tiles."""
        return len(self.places)

    def __getitem__(self, place: int) -> Sample:
        """A tile, without objects."""
        record, tile = self.places[place]
        kept = self._kept
        if kept is None or kept[0] != record:
            kept = self._kept = record, self._source[record]
        image = kept[1].image[tile.top : tile.bottom, tile.left : tile.right]
        return Sample(np.ascontiguousarray(image), np.zeros((0, 4), np.float32), np.zeros(0, np.int32))

    def name(self, place: int) -> str:
        """The image, and where the tile lies in it."""
        record, tile = self.places[place]
        return f"{self._source.name(record)} from {tile.left}, {tile.top} to {tile.right}, {tile.bottom}"


def in_tiles(
    look: Callable[[SizedSource], Iterable[Answer]], source: Any, *, side: int, overlap: float | None = None
) -> Iterator[Answer]:
    """What is predicted for every record of a source, of images larger than a tile from what is predicted on tiles.

    `look` predicts on a source, in any order. An image of which a tile cannot be read has no prediction.
    """
    tiles = Tiles(source, side=side, overlap=OVERLAP if overlap is None else overlap)
    come: dict[int, dict[Tile, Any]] = {}
    for answer in look(tiles):
        record, tile = tiles.places[answer.record]
        parts = come.setdefault(record, {})
        parts[tile] = answer.prediction
        if len(parts) < len(tiles.of[record]):
            continue
        found = [come[record][tile] for tile in tiles.of[record]]
        del come[record]
        whole = None if any(one is None for one in found) else joined(found, tiles.of[record], source.classes)
        yield Answer(record, answer.truth, whole)


def joined(found: Sequence[Any], tiles: Sequence[Tile], classes: Classes) -> Any:
    """What a whole image shows, from what its tiles show; that of a single tile as it is."""
    if len(tiles) == 1:
        return found[0]
    return (_joined_maps if isinstance(found[0], Labelling) else _joined_boxes)(found, tiles, classes)


def _joined_maps(found: Sequence[Labelling], tiles: Sequence[Tile], classes: Classes) -> Labelling:
    whole = np.empty((max(tile.bottom for tile in tiles), max(tile.right for tile in tiles)), np.uint8)
    rows = _shares([(tile.top, tile.bottom) for tile in tiles])
    columns = _shares([(tile.left, tile.right) for tile in tiles])
    for one, tile in zip(found, tiles, strict=True):
        (top, bottom), (left, right) = rows[tile.top], columns[tile.left]
        part = one.label_map[top - tile.top : bottom - tile.top, left - tile.left : right - tile.left]
        whole[top:bottom, left:right] = part
    return labelling(whole, classes)


def _shares(spans: Iterable[tuple[int, int]]) -> dict[int, tuple[int, int]]:
    """By its start, the part of each span that is its own, up to the middle of what it shares with the next."""
    ordered = sorted(set(spans))
    middles = [(end + start) // 2 for (_, end), (start, _) in itertools.pairwise(ordered)]
    ends = zip([0, *middles], [*middles, ordered[-1][1]], strict=True)
    return {start: share for (start, _), share in zip(ordered, ends, strict=True)}


def _joined_boxes(found: Sequence[Prediction], tiles: Sequence[Tile], classes: Classes) -> Prediction:
    tile_of = np.repeat(np.arange(len(tiles)), [len(one) for one in found])
    corners, shifts = np.array(tiles, np.float64), np.array([tile[:2] * 2 for tile in tiles], np.float64)
    boxes = np.concatenate([np.asarray(one.boxes, np.float64).reshape(-1, 4) for one in found]) + shifts[tile_of]
    scores, labels = (
        np.concatenate([np.asarray(getattr(one, name)) for one in found]) for name in ("scores", "labels")
    )
    cut = _ends_at(boxes, corners[tile_of], corners)
    order = np.argsort(-scores, kind="stable")
    order = order[~_seen_better(boxes, tile_of, cut, corners)[order]]
    objects = _objects(order, boxes, labels, tile_of, cut, corners)
    members = [[one for one in each if not cut[one]][:1] or each for each in objects]  # the best first
    around = [np.concatenate([boxes[each, :2].min(0), boxes[each, 2:].max(0)]) for each in members]
    first = np.array([each[0] for each in objects], int)
    masks: MaskRows | None = None
    if all(one.masks is not None for one in found):
        masks = _masks_of(found, tiles, tile_of, members)
    shape = np.array(around, np.float32).reshape(-1, 4)
    return Prediction(shape, scores[first], labels[first], names_of(classes, labels[first]), masks)


def _ends_at(
    boxes: Float[np.ndarray, "boxes 4"], tiles: Float[np.ndarray, "#boxes 4"], all_tiles: Float[np.ndarray, "tiles 4"]
) -> Bool[np.ndarray, " boxes"]:
    """Which boxes end at a border of their tiles, or beyond it, that is no border of the image."""
    rim = _RIM * np.maximum(tiles[:, 2:] - tiles[:, :2], 1).max(1, keepdims=True)
    first, last = all_tiles[:, :2].min(0), all_tiles[:, 2:].max(0)
    before = (boxes[:, :2] <= tiles[:, :2] + rim) & (tiles[:, :2] > first)
    after = (boxes[:, 2:] >= tiles[:, 2:] - rim) & (tiles[:, 2:] < last)
    return (before | after).any(1)


def _seen_better(
    boxes: Float[np.ndarray, "boxes 4"],
    tile_of: Int[np.ndarray, " boxes"],
    cut: Bool[np.ndarray, " boxes"],
    tiles: Float[np.ndarray, "tiles 4"],
) -> Bool[np.ndarray, " boxes"]:
    """Which boxes are cut, and lie in another tile that would not have cut them.

    A box beside a tile ends at its border, or beyond.
    """
    better = np.zeros(len(boxes), bool)
    for number, tile in enumerate(tiles):
        better |= cut & (tile_of != number) & ~_ends_at(boxes, tile[None], tiles)
    return better


def _objects(
    order: Int[np.ndarray, " kept"],
    boxes: Float[np.ndarray, "boxes 4"],
    labels: Int[np.ndarray, " boxes"],
    tile_of: Int[np.ndarray, " boxes"],
    cut: Bool[np.ndarray, " boxes"],
    tiles: Float[np.ndarray, "tiles 4"],
) -> list[list[int]]:
    """The boxes of each object, the best first; `order` is that of the scores."""
    objects: dict[int, list[int]] = {}
    object_of = np.full(len(boxes), -1)
    seen: dict[int, list[int]] = {}
    for one in order.tolist():
        before = np.array(seen.setdefault(int(labels[one]), []), int)
        before = before[tile_of[before] != tile_of[one]]
        same = before[_same(one, before, boxes, tile_of, cut, tiles)]
        mine = [one]
        for other in dict.fromkeys(object_of[same].tolist()):
            if not set(tile_of[objects[other]].tolist()) & set(tile_of[mine].tolist()):
                mine = [*objects.pop(other), *mine]
        objects[mine[0]] = mine
        object_of[mine] = mine[0]
        seen[int(labels[one])].append(one)
    place = {one: rank for rank, one in enumerate(order.tolist())}
    ranked = [sorted(each, key=place.__getitem__) for each in objects.values()]
    return sorted(ranked, key=lambda each: place[each[0]])


def _same(
    one: int,
    others: Int[np.ndarray, " others"],
    boxes: Float[np.ndarray, "boxes 4"],
    tile_of: Int[np.ndarray, " boxes"],
    cut: Bool[np.ndarray, " boxes"],
    tiles: Float[np.ndarray, "tiles 4"],
) -> Bool[np.ndarray, " others"]:
    """Which others are of the same object: by IoU, where one of both is cut within what both tiles see."""
    mine, theirs = tiles[tile_of[one]], tiles[tile_of[others]]
    shared = np.concatenate([np.maximum(mine[:2], theirs[:, :2]), np.minimum(mine[2:], theirs[:, 2:])], 1)
    window = np.where((cut[one] | cut[others])[:, None], shared, [-np.inf, -np.inf, np.inf, np.inf])
    a, b = (
        np.clip(each, window[:, [0, 1, 0, 1]], window[:, [2, 3, 2, 3]]) for each in (boxes[one][None], boxes[others])
    )
    low, high = np.maximum(a[:, :2], b[:, :2]), np.minimum(a[:, 2:], b[:, 2:])
    common = np.clip(high - low, 0, None).prod(1)
    areas = [np.clip(each[:, 2:] - each[:, :2], 0, None).prod(1) for each in (a, b)]
    meet = (shared[:, :2] < shared[:, 2:]).all(1)
    return meet & (common > _SAME * (areas[0] + areas[1] - common))


@dataclasses.dataclass(frozen=True)
class PlacedMasks:
    """Masks of an image from those of its tiles: each is all of its pieces, (masks, row, tile), made on demand."""

    pieces: tuple[tuple[tuple[MaskRows, int, Tile], ...], ...]
    size: tuple[int, int]

    def __len__(self) -> int:
        """The number of masks."""
        return len(self.pieces)

    def __getitem__(self, detection: int) -> Bool[np.ndarray, "height width"]:
        """The pixels of the image that belong to a detection."""
        whole = np.zeros(self.size, bool)
        for masks, row, tile in self.pieces[detection]:
            whole[tile.top : tile.bottom, tile.left : tile.right] |= masks[row]
        return whole

    def take(self, rows: Int[np.ndarray, " taken"] | Sequence[int]) -> "PlacedMasks":
        """The masks of these numbers."""
        return dataclasses.replace(self, pieces=tuple(self.pieces[int(row)] for row in rows))


def _masks_of(
    found: Sequence[Any], tiles: Sequence[Tile], tile_of: Int[np.ndarray, " boxes"], members: Sequence[Sequence[int]]
) -> PlacedMasks:
    starts = np.cumsum([0, *(len(one) for one in found)])

    def piece(box: int) -> tuple[MaskRows, int, Tile]:
        tile = int(tile_of[box])
        return found[tile].masks, int(box - starts[tile]), tiles[tile]

    size = max(tile.bottom for tile in tiles), max(tile.right for tile in tiles)
    return PlacedMasks(tuple(tuple(piece(box) for box in each) for each in members), size)
