"""Images on a canvas: cropped where they are larger and beside grey where they are smaller, alone or four together."""

from dataclasses import replace

import numpy as np
from jaxtyping import Float, Int

from vitjax.data.geometry import Geometries
from vitjax.data.transforms import Augmentation, between, draw_flips


def on_canvases(
    drawn: Geometries,
    augmentation: Augmentation,
    upright: Int[np.ndarray, "images 2"],
    numbers: Float[np.ndarray, "images 4"],
) -> Geometries:
    """The geometries with large-scale jitter in place of resize and crop, where the random numbers say so."""
    jitter = augmentation.large_scale_jitter
    chosen, larger = numbers[:, 0] < jitter.probability, between(numbers[:, 1], jitter.factors)
    canvas = drawn.output if jitter.size is None else np.full_like(drawn.output, jitter.size)
    resized, crop, place = fit_to_canvas(upright, canvas, larger, numbers[:, 2:])
    new = {"resized": resized, "crop": crop, "output": canvas, "place": place}
    merged = {
        name: np.where(chosen[:, None], value, getattr(drawn, name)).astype(np.int32) for name, value in new.items()
    }
    return replace(drawn, **merged, visible=np.where(chosen, augmentation.least_visible, 0.0))


def draw_tiles(
    augmentation: Augmentation, rng: np.random.Generator, sizes: Int[np.ndarray, "4 2"], canvas: tuple[int, int]
) -> Geometries:
    """Geometries of four images for the quarters of a canvas around a random point: top left, top right, and below."""
    mosaic = augmentation.mosaic
    height, width = canvas
    down, across = (_inside(side, rng.uniform(*mosaic.center)) for side in canvas)
    windows = np.array([(y, x) for y in (down, height - down) for x in (across, width - across)])
    flips, upright = draw_flips(augmentation, rng.random((4, 4)), sizes)
    factors = rng.uniform(*mosaic.factors, 4)
    canvases = np.tile(np.array(canvas), (4, 1))
    resized, crop, place = fit_to_canvas(upright, canvases, factors, rng.random((4, 2)), windows)
    visible = np.full(4, augmentation.least_visible)
    no = np.zeros(4, bool)
    return Geometries(sizes, *flips, resized, crop, windows, place, visible, no)


def fit_to_canvas(
    sizes: Int[np.ndarray, "images 2"],
    canvas: Int[np.ndarray, "images 2"],
    factors: Float[np.ndarray, " images"],
    places: Float[np.ndarray, "images 2"],
    window: Int[np.ndarray, "images 2"] | None = None,
) -> tuple[Int[np.ndarray, "images 2"], Int[np.ndarray, "images 4"], Int[np.ndarray, "images 2"]]:
    """How images are resized, cropped and placed in a window of a canvas, which is all of it if none is given.

    With factor 1 an image just fits into the canvas. `places` are random numbers: where a larger image is cropped, and
    where a smaller one stands.
    """
    window = canvas if window is None else window
    resized = np.maximum(np.rint(sizes * ((canvas / sizes).min(1) * factors)[:, None]), 1).astype(np.int64)
    side = np.minimum(resized, window)
    corner, place = _pick(places, resized - side + 1), _pick(places, window - side + 1)
    return resized, np.concatenate([corner, side], 1), place


def _inside(side: int, share: float) -> int:
    """A place that has a pixel on both of its sides, where there are two."""
    return min(max(round(side * share), 1), max(side - 1, 1))


def _pick(uniform: Float[np.ndarray, "images 2"], choices: Int[np.ndarray, "images 2"]) -> Int[np.ndarray, "images 2"]:
    return (uniform * choices).astype(np.int64)
