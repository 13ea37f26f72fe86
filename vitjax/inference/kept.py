"""Images that are decoded once, for the model and for the picture that is drawn of them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import UInt8

from vitjax.data.memory import Pictures
from vitjax.data.source import Classes, Sample


class KeptPictures(Pictures):
    """Pictures that keep what they have decoded until it is taken, while that is `room` bytes or less."""

    def __init__(self, pictures: Sequence[Any], classes: Classes, *, room: int) -> None:
        """Keeps nothing yet. Give no room where other processes decode: what they keep is nobody's."""
        super().__init__(pictures, classes)
        self._room = room
        self._kept: dict[int, np.ndarray] = {}

    def __getitem__(self, record: int) -> Sample:
        """The decoded image, without objects."""
        sample = super().__getitem__(record)
        if sum(image.nbytes for image in list(self._kept.values())) + sample.image.nbytes <= self._room:
            self._kept[record] = sample.image
        return sample

    def take(self, record: int) -> UInt8[np.ndarray, "height width 3"]:
        """The image, which is not kept any longer."""
        kept = self._kept.pop(record, None)
        return super().__getitem__(record).image if kept is None else kept
