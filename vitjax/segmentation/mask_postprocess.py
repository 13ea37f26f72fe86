"""How the predictions of a detector with masks become detections, and which of these make a panoptic map."""

import dataclasses
from typing import ClassVar

from vitjax.detection.postprocess import BestClass, TopDetections
from vitjax.errors import FieldError


@dataclasses.dataclass(frozen=True)
class BestMasks(BestClass):
    """One detection per query, of softmax scores."""

    task: ClassVar[str] = "masks"
    panoptic_claim: ClassVar[float] = 0.0  # all pixels of a panoptic map are given away, as published

    panoptic_threshold: float = 0.85
    """Score above which a detection takes part in a panoptic map, at least 0.5."""

    def __post_init__(self) -> None:
        """Raises a FieldError for what is no such score."""
        if not 0.5 <= self.panoptic_threshold <= 1:
            raise FieldError(f"panoptic_threshold is a score from 0.5 to 1; got {self.panoptic_threshold}.")


@dataclasses.dataclass(frozen=True)
class TopMasks(TopDetections):
    """The best pairs of query and class, of sigmoid scores."""

    task: ClassVar[str] = "masks"

    panoptic_threshold: float = 0.3
    """Score above which a detection takes part in a panoptic map; lower than of softmax, as focal loss keeps scores
    low. Of several classes of a query the best one has its pixels."""
    panoptic_claim: float = 0.5
    """Probability in one of the masks, below which a pixel of a panoptic map is nobody's, as in MaskFormer (2021).
    With 0 all pixels are given away, as published for DETR, also those that no mask has."""

    def __post_init__(self) -> None:
        """Raises a FieldError for what is no score, no probability or no IoU."""
        super().__post_init__()
        if not 0 <= self.panoptic_claim < 1:
            raise FieldError(f"panoptic_claim is a probability from 0 to below 1; got {self.panoptic_claim}.")
        if not 0 <= self.panoptic_threshold <= 1:
            raise FieldError(f"panoptic_threshold is a score from 0 to 1; got {self.panoptic_threshold}.")
