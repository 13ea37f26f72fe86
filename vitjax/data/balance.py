"""How often each image comes in an epoch where rare classes are to come more often; decided once, before training."""

from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from vitjax.data.errors import DataError
from vitjax.data.folder import in_threads
from vitjax.data.source import NO_LABEL, Source


def repeat_factors(present: Bool[np.ndarray, "records classes"], threshold: float) -> Float[np.ndarray, " records"]:
    """max(1, sqrt(threshold / share)) of each image, of the rarest class on it; `share` is that of images that have it.

    Source: Gupta, Dollár, Girshick 2019 (LVIS), appendix B.
    """
    share = present.mean(0)
    of_class = np.sqrt(np.maximum(1.0, threshold / np.maximum(share, 1e-12)))
    return np.where(present, of_class, 1.0).max(1, initial=1.0)


def class_shares(labels: Int[np.ndarray, " records"], balance: float) -> Float[np.ndarray, " records"]:
    """What each image weighs where a class of n images comes in proportion to n ** (1 - balance).

    Source: Kang et al. 2020 (Decoupling), equation 1: 1 is their class-balanced, 0.5 their square-root sampling.
    """
    return np.bincount(labels)[labels].astype(np.float64) ** -balance


def present_classes(source: Source) -> Bool[np.ndarray, "records classes"]:
    """Which classes are on each image; on none of those that cannot be read."""
    present = np.zeros((len(source), len(source.classes)), bool)
    for record, labels in enumerate(in_threads(_labels_of(source), range(len(source)))):
        present[record, labels] = True
    return present


def first_labels(source: Source) -> Int[np.ndarray, " records"]:
    """The label of each image of a source of labelled images; 0 of those that cannot be read."""
    found = in_threads(_labels_of(source), range(len(source)))
    return np.array([labels[0] if len(labels) else 0 for labels in found], np.int64)


def _labels_of(source: Any) -> Callable[[int], np.ndarray]:
    """From a record to the labels on it: a source that has `labels_on` tells them without decoding the image."""

    def look(record: int) -> np.ndarray:
        try:
            if hasattr(source, "labels_on"):
                labels = source.labels_on(record)
            elif hasattr(source, "label_map"):
                labels = source.label_map(record)
            else:
                labels = source[record].labels
        except DataError:
            return np.zeros(0, int)
        labels = np.unique(labels)
        return labels if not hasattr(source, "label_map") else labels[labels != NO_LABEL]

    return look
