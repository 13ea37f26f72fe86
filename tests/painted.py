"""Samples of one rectangle in a plain colour, and where such a colour is found in a picture: an oracle for boxes."""

import numpy as np

from vitjax.data.errors import DataError
from vitjax.data.source import Sample

COLORS = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 0, 255]])
_OTHERS = np.array([[0, 0, 0], [124, 116, 104]])  # the ground and what stands beside images


def painted(size, box, label=0, *, mapped=False):
    """A black image with a rectangle of the label's colour, whose box and label it has; with a label map on request."""
    image = np.zeros((*size, 3), np.uint8)
    left, top, right, bottom = box
    image[top:bottom, left:right] = COLORS[label]
    labels = np.full(size, 7, np.uint8)
    labels[top:bottom, left:right] = label
    return Sample(image, np.array([box], np.float32), np.array([label], np.int32), labels if mapped else None)


def pixels_of(image, label):
    """Where the nearest colour is the label's."""
    palette = np.concatenate([COLORS, _OTHERS])
    distance = np.abs(image[..., None, :].astype(int) - palette).sum(-1)
    return distance.argmin(-1) == label


def box_of(seen):
    """The box around what is seen, None of nothing."""
    if not seen.any():
        return None
    rows, columns = np.nonzero(seen)
    return np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1], float)


class Few(list):
    """A source of a few samples, in memory; a record whose sample is None cannot be read."""

    classes, max_objects, problems = None, 1, ()

    @property
    def image_ids(self):
        return range(len(self))

    @property
    def sizes(self):
        return np.array([(60, 60) if sample is None else sample.image.shape[:2] for sample in self], np.int32)

    def __getitem__(self, record):
        sample = super().__getitem__(record)
        if sample is None:
            raise DataError(f"{self.name(record)} is empty")
        return sample

    def name(self, record):
        return f"{record}.jpg"
