"""COCO mask metrics: pycocotools' numbers of masks that come as run lengths."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pycocotools import mask as coco_masks

from vitjax.data.run_lengths import SegmentationFault, area_of, encoded
from vitjax.errors import VitjaxError
from vitjax.evaluation.coco import CocoScores, evaluate_boxes


def evaluate_masks(ground_truth: Mapping[str, Any], results: Sequence[Mapping[str, Any]]) -> CocoScores:
    """COCO scores of COCO-results dicts (image_id, category_id, segmentation, score) on a COCO instances dict.

    As `evaluate_boxes`, with the overlap of masks in place of that of boxes. Segmentations of the truth are polygons or
    run lengths, those of results run lengths; images of the truth have height and width. The area of a result is that
    of its mask, and it may be empty.

    Raises:
        VitjaxError: as `evaluate_boxes`, or a segmentation is none, or not of its image's size.
    """
    sizes = {image.get("id"): (image.get("height"), image.get("width")) for image in ground_truth.get("images") or []}
    truth = list(_with_masks(ground_truth.get("annotations") or [], sizes, "annotation", empty=False))
    found = list(_with_masks(results, sizes, "result", empty=True))
    return evaluate_boxes({**ground_truth, "annotations": truth}, found, masks=True)


def _with_masks(
    records: Sequence[Mapping[str, Any]], sizes: Mapping[Any, tuple[Any, Any]], kind: str, *, empty: bool
) -> Iterator[dict[str, Any]]:
    """The records with their masks as pycocotools takes them, and box and area of these where there is none."""
    for index, record in enumerate(records):
        size = sizes.get(record.get("image_id"), (None, None))
        if None in size:
            segmentation = record.get("segmentation")
            told = segmentation.get("size") if isinstance(segmentation, dict) else None
            size = tuple(told) if isinstance(told, list | tuple) and len(told) == 2 else (1, 1)
        try:
            counts, _ = encoded(record.get("segmentation"), size, empty=empty)
        except SegmentationFault as fault:
            raise VitjaxError(
                f"The {kind} at index {index}, of image {record.get('image_id')!r}, should have a segmentation of "
                f"{size[1]}x{size[0]} pixels; it is one of those that {fault}."
            ) from fault
        runs = {"size": list(size), "counts": counts}
        area = area_of(counts, size) if empty else record.get("area") or area_of(counts, size)
        yield {**record, "segmentation": runs, "area": area, "bbox": coco_masks.toBbox(runs).tolist()}
