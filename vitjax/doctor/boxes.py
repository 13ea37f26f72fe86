"""Looks at the boxes of a split, at how many are on an image."""

from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

from vitjax.data.annotations import BOX_WISH, Annotations, as_written, garbled
from vitjax.data.transforms import resized_size
from vitjax.doctor.report import Finding, listed, percent, several

_TINY = 8  # pixels of a side at training size: a quarter of a token of stride 32
_MANY_TINY = 0.1
_COCO_AREAS = (32**2, 96**2)  # pixels: where boxes become medium, and large
_BINS = (0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)


def look_at_format(table: Annotations, sizes: Int[np.ndarray, "records 2"]) -> Iterator[Finding]:
    """Boxes that are no [x, y, width, height] in pixels at all; `table` has them as read, not yet tidied."""
    if strange := garbled(table, sizes):
        yield Finding("boxes", "error", strange.text, (strange.first,), BOX_WISH)


def look_at_dropped(table: Annotations, sizes: Int[np.ndarray, "records 2"], names: Sequence[str]) -> Iterator[Finding]:
    """Boxes that are left out, as read and not yet tidied: without extent, or wholly outside their image."""
    limits = sizes[table.records][:, ::-1]
    finite = np.isfinite(table.boxes).all(1)
    flat = finite & (table.boxes[:, 2:] <= table.boxes[:, :2]).any(1)
    outside = finite & ~flat & ((table.boxes[:, 2:] <= 0) | (table.boxes[:, :2] >= limits)).any(1)
    for rows, fault in ((flat, "of zero or negative width or height"), (outside, "wholly outside their image")):
        if rows.any():
            text = f"dropped boxes {fault}: {rows.sum():,}"
            yield Finding("boxes", "warning", text, _examples(table, rows, names), "Remove or redraw them.")


def look_at_boxes(
    table: Annotations, sizes: Int[np.ndarray, "records 2"], names: Sequence[str], size: tuple[int | None, int | None]
) -> Iterator[Finding]:
    """Crowds, boxes that are there twice, and those that are tiny in images resized to `size`; `table` is tidy."""
    single = ~table.crowds
    yield Finding("boxes", "ok", f"{several(single.sum(), 'box', 'boxes')} to use, {_areas(table.areas[single])}")
    if table.crowds.any():
        text = f"{several(table.crowds.sum(), 'crowd')}, left out of training and ignored in scoring"
        yield Finding("boxes", "note", text, _examples(table, table.crowds, names))
    again = _repeated(table)
    if again.any():
        text = f"{several(again.sum(), 'box', 'boxes')} there twice (same image, class and coordinates)"
        wish = "Remove the copies: each asks for a query of its own."
        yield Finding("boxes", "warning", text, _examples(table, again, names), wish)
    scale = resized_size(sizes, np.full(len(sizes), size[0]), size[1]) / sizes if size[0] else np.ones(sizes.shape)
    extent = (table.boxes[:, 2:] - table.boxes[:, :2]) * scale[table.records][:, ::-1]
    tiny = single & (extent.min(1, initial=np.inf) < _TINY)
    if tiny.any():
        boxes = f"{several(tiny.sum(), 'box', 'boxes')} ({percent(tiny.sum(), single.sum())})"
        seen = f"of {size[0]}/{size[1]} pixels" if size[1] else f"of {size[0]} pixels" if size[0] else "as they are"
        text = f"{boxes} less than {_TINY} pixels wide or high in images {seen}"
        wish = "Such are hardly found: train on larger images or on tiles of them, or remove what is no object."
        severe = tiny.sum() > _MANY_TINY * single.sum()
        yield Finding("boxes", "hint" if severe else "note", text, _examples(table, tiny, names), wish)


def look_at_objects(objects: Int[np.ndarray, " records"], names: Sequence[str], queries: int) -> Iterator[Finding]:
    """How many objects are on an image, and whether a model of so many queries can find them."""
    most = int(objects.max())
    edges = [*(edge for edge in _BINS if edge <= most), most + 1]
    counts = np.histogram(objects, edges)[0].tolist()
    bins = zip(edges[:-1], edges[1:], counts, strict=True)
    histogram = listed((f"{count:,} with {_span(low, high)}" for low, high, count in bins if count), most=len(edges))
    text = f"{objects.mean():.1f} objects per image, {most:,} at most; images: {histogram}"
    yield Finding("objects", "ok", text)
    over = objects > queries
    if over.any():
        lost = several((objects[over] - queries).sum(), "object")
        text = f"{several(over.sum(), 'image')} with more objects than the {queries} queries, {lost} lost"
        examples = tuple(f"{objects[record]} on {names[record]}" for record in np.flatnonzero(over)[:3].tolist())
        wish = f"Give the model more queries: --model.num-queries {-(-most // 50) * 50}."
        yield Finding("objects", "warning", text, examples, wish)


def _areas(areas: Float[np.ndarray, " objects"]) -> str:
    """The shares of COCO's three sizes."""
    kinds = np.searchsorted(_COCO_AREAS, areas, side="right")
    shares = [percent((kinds == kind).sum(), len(kinds)) for kind in range(3)]
    return "{} small, {} medium, {} large as COCO counts them".format(*shares)


def _repeated(table: Annotations) -> Bool[np.ndarray, " objects"]:
    """The rows that another row before them equals, crowds not counted."""
    rows = np.column_stack([table.boxes, table.labels, table.records])
    order = np.lexsort(rows.T)
    order = order[~table.crowds[order]]
    again = np.zeros(len(rows), bool)
    again[order[1:]] = (rows[order[1:]] == rows[order[:-1]]).all(1)
    return again


def _examples(table: Annotations, rows: Bool[np.ndarray, " objects"], names: Sequence[str]) -> tuple[str, ...]:
    return tuple(f"{as_written(table.boxes[row])} on {names[table.records[row]]}" for row in np.flatnonzero(rows)[:3])


def _span(low: int, high: int) -> str:
    return f"{low}" if high <= low + 1 else f"{low}-{high - 1}"
