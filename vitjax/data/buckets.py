"""The ladder: the few (height, width) that batches are padded to, chosen so that little of a batch is padding."""

import numpy as np
from jaxtyping import Int

from vitjax.data.transforms import Augmentation, draw, resized_size
from vitjax.errors import FieldError

# The ladder only has to fit the distribution of sizes; this many draws tell it well enough, and take 10 ms.
_DRAWS = 16384
# More candidate sides than this make no better ladder, only a slower search.
_CANDIDATE_SIDES = 40
# A rung that saves less than this fraction of all pixels is not worth the compilation of a step.
_LEAST_GAIN = 0.004

# After so many rounds hardly a rung moves any more.
_ROUNDS_OF_MOVES = 2


def training_ladder(
    sizes: Int[np.ndarray, "records 2"], augmentation: Augmentation, *, multiple: int, max_buckets: int
) -> Int[np.ndarray, "buckets 2"]:
    """The ladder for images of these (height, width) under the augmentation; it holds everything that can be drawn."""
    chosen = np.linspace(0, len(sizes) - 1, _DRAWS).astype(np.int64)
    drawn = draw(augmentation, np.random.default_rng(0), sizes[chosen]).output
    return fit_ladder(drawn, _ceiling(sizes, augmentation), multiple=multiple, max_buckets=max_buckets)


def fit_ladder(
    outputs: Int[np.ndarray, "images 2"], ceiling: Int[np.ndarray, "2"], *, multiple: int, max_buckets: int
) -> Int[np.ndarray, "buckets 2"]:
    """At most `max_buckets` (height, width), small to large, that pad these sizes least; the last holds `ceiling`.

    Sides are multiples of `multiple`. Rungs are added one at a time, each where it saves most pixels, and then
    moved one at a time while that saves more: quick, and the same on every machine.
    """
    top = _round_up(np.maximum(ceiling, outputs.max(0)), multiple)
    heights, widths = (_candidate_sides(_round_up(outputs[:, axis], multiple)) for axis in (0, 1))
    cells = np.stack([np.searchsorted(heights, outputs[:, 0]), np.searchsorted(widths, outputs[:, 1])], 1)
    cells, counts = np.unique(cells, axis=0, return_counts=True)
    needed = np.stack([heights[cells[:, 0]], widths[cells[:, 1]]], 1)
    candidates = np.stack(np.meshgrid(heights, widths, indexing="ij"), -1).reshape(-1, 2)
    cost = _area_if_held(needed, candidates)

    def saved(rungs: list[int]) -> np.ndarray:
        now = np.minimum(cost[:, rungs].min(1, initial=np.inf), float(top.prod()))
        return counts @ np.maximum(now[:, None] - cost, 0.0)

    rungs: list[int] = []
    while len(rungs) < max_buckets - 1:
        gain = saved(rungs)
        if gain.max() < _LEAST_GAIN * (counts @ needed.prod(1)):
            break
        rungs.append(int(gain.argmax()))
    for place in list(range(len(rungs))) * _ROUNDS_OF_MOVES:
        rungs[place] = int(saved(rungs[:place] + rungs[place + 1 :]).argmax())
    ladder = np.unique(np.concatenate([candidates[rungs], top[None]]), axis=0)
    return ladder[np.argsort(ladder.prod(1), kind="stable")].astype(np.int32)


def smallest_holding(
    outputs: Int[np.ndarray, "images 2"], ladder: Int[np.ndarray, "buckets 2"]
) -> Int[np.ndarray, " images"]:
    """For each image size the bucket of least area that it fits into.

    Raises:
        FieldError: a size does not fit into any bucket.
    """
    area = _area_if_held(outputs, ladder)
    if len(area) and not np.isfinite(area.min(1)).all():
        height, width = outputs[area.min(1).argmax()]
        raise FieldError(f"an image of {width}x{height} pixels fits into no bucket of {ladder.tolist()}")
    return area.argmin(1)


def _area_if_held(outputs: Int[np.ndarray, "images 2"], ladder: Int[np.ndarray, "buckets 2"]) -> np.ndarray:
    """Pixels of each bucket for each image, infinite where the image does not fit."""
    fits = (outputs[:, None, 0] <= ladder[None, :, 0]) & (outputs[:, None, 1] <= ladder[None, :, 1])
    return np.where(fits, ladder.astype(np.float64).prod(1), np.inf)


def _ceiling(sizes: Int[np.ndarray, "records 2"], augmentation: Augmentation) -> Int[np.ndarray, "2"]:
    """A (height, width) that nothing drawn for these images exceeds; exact where nothing is cropped."""
    scale, mosaic = augmentation.scale_jitter, augmentation.mosaic
    alone = mosaic.probability >= 1 and mosaic.size is not None
    parts = (mosaic,) if alone else (mosaic, augmentation.large_scale_jitter)
    canvases = [part.size for part in parts if part.size is not None and part.probability > 0]
    ceiling = np.full(2, max(canvases, default=0), np.int64)
    if not any(part.size is not None and part.probability >= 1 for part in parts):
        factor = max(float(scale.probability < 1), scale.factors[1] if scale.probability > 0 else 0)
        ordinary = _ordinary_ceiling(sizes, augmentation)
        ceiling = np.maximum(ceiling, np.maximum(np.ceil(ordinary * factor), 1).astype(np.int64))
    return ceiling


def _ordinary_ceiling(sizes: Int[np.ndarray, "records 2"], augmentation: Augmentation) -> Int[np.ndarray, "2"]:
    """The same of the resize and crop."""
    if augmentation.turn > 0:
        sizes = np.concatenate([sizes, sizes[:, ::-1]])
    sizes = np.unique(sizes, axis=0)
    ceiling = np.zeros(2, np.int64)
    if augmentation.crop < 1.0:
        plain = [resized_size(sizes, np.full(len(sizes), short), augmentation.max_side) for short in augmentation.sizes]
        ceiling = np.concatenate(plain or [sizes]).max(0)
    if augmentation.crop > 0.0:
        ceiling = np.maximum(ceiling, _cropped_ceiling(sizes, augmentation))
    return ceiling


def _cropped_ceiling(sizes: Int[np.ndarray, "records 2"], augmentation: Augmentation) -> Int[np.ndarray, "2"]:
    first = [resized_size(sizes, np.full(len(sizes), short), None) for short in augmentation.crop_sizes]
    least, most = (np.minimum(np.concatenate(first or [sizes]), side) for side in augmentation.crop_range)
    if not augmentation.sizes:
        return most.max(0)
    # A side is longest for the longest shape: the shorter side's size times the aspect, or max_side plus what the
    # rounding of the shorter side (by at most a half) makes of that aspect.
    aspect = np.maximum((most / least[:, ::-1]).max(0), 1.0)
    longest = max(augmentation.sizes) * aspect
    if augmentation.max_side is not None:
        longest = np.minimum(longest, augmentation.max_side + aspect / 2)
    return np.ceil(longest).astype(np.int64)


def _candidate_sides(sides: Int[np.ndarray, " images"]) -> Int[np.ndarray, " candidates"]:
    unique = np.unique(sides)
    if len(unique) <= _CANDIDATE_SIDES:
        return unique
    return np.unique(np.quantile(sides, np.linspace(0, 1, _CANDIDATE_SIDES), method="higher"))


def _round_up(sides: np.ndarray, multiple: int) -> np.ndarray:
    return -(-sides // multiple) * multiple
