"""Photographs that are none, for programs that read files; nothing of a framework is imported here."""

from pathlib import Path

import numpy as np
from PIL import Image


def write_pictures(folder: str | Path, count: int, height: int = 480, width: int = 640) -> list[str]:
    """The names of so many JPEGs of soft shapes with edges and grain, in a folder; the same every time."""
    rng, names = np.random.default_rng(0), []
    for number in range(count):
        coarse = Image.fromarray(rng.integers(256, size=(height // 40, width // 40, 3), dtype=np.uint8))
        pixels = np.array(coarse.resize((width, height), Image.Resampling.BICUBIC), np.int16)
        for top, left in rng.integers((height // 2, width // 2), size=(6, 2)):
            pixels[top : top + height // 4, left : left + width // 4] += rng.integers(-60, 60, 3, dtype=np.int16)
        pixels += rng.integers(-8, 9, size=pixels.shape, dtype=np.int16)
        names.append(str(Path(folder) / f"{number:03}.jpg"))
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(names[-1], quality=90)
    return names
