"""Runs an exported model: `python run.py IMAGE ...` prints what it finds. `vitjax export` puts this file beside it.

Of a model with masks `python run.py --masks FOLDER IMAGE ...` also writes the mask of each detection as a PNG. It needs
jax, flatbuffers, numpy and Pillow, and no vitjax. An IMAGE is a picture or a .npy file of RGB bytes.
"""

import hashlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax import export
from PIL import Image, ImageOps


def load(folder: Path) -> tuple[Callable[..., dict[str, Any]], dict[str, Any]]:
    """The exported function, compiled at its first call, and model.json, which describes it.

    Raises:
        ValueError: model.bin is not as it was written, or is too old for this jax.
    """
    about = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    content = (folder / "model.bin").read_bytes()
    if hashlib.sha256(content).hexdigest() != about["sha256"]:
        raise ValueError(f"{folder / 'model.bin'} is damaged: its checksum is not that of model.json. Copy it again.")
    written = about["versions"]["jax"]
    if _number(jax.__version__) < _number(written):
        print(f"This is jax {jax.__version__}; jax {written} wrote the program, and may be needed.", file=sys.stderr)
    return jax.jit(export.deserialize(bytearray(content)).call), about


def _number(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")[:2]))


def fit(image: np.ndarray, about: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """The image [height width 3] in the frame that the function takes, and its (height, width) there.

    It is resized as in the evaluation of the model; what is then too large for the frame is shrunk.
    """
    frame, rule = (about["height"], about["width"]), about["resize"]
    picture = Image.fromarray(image)
    if "crop_from" in rule:
        short, nearest = min(image.shape[:2]), rule.get("nearest", False)
        half = short // 2 if nearest else 0
        height, width = ((rule["crop_from"] * length + half) // short for length in image.shape[:2])
        resized = np.asarray(picture.resize((width, height), Image.Resampling.BICUBIC))
        rests = (height - frame[0]) / 2, (width - frame[1]) / 2
        top, left = (int(rest) if nearest else round(rest) for rest in rests)
        return resized[top : top + frame[0], left : left + frame[1]], np.array(frame, np.int32)
    height, width = _size(image.shape[0], image.shape[1], rule["shorter"], rule["longest"])
    scale = min(1.0, frame[0] / height, frame[1] / width)
    height, width = (max(1, int(side * scale + 1e-6)) for side in (height, width))
    framed = np.zeros((*frame, 3), np.uint8)
    framed[:height, :width] = np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR))
    return framed, np.array([height, width], np.int32)


def _size(height: int, width: int, shorter: int | None, longest: int | None) -> tuple[int, int]:
    if shorter is None:
        return height, width
    small, large = sorted((height, width))
    if longest is not None and large / small * shorter > longest:
        shorter = max(1, round(longest * small / large))
    longer = int(shorter * large / small)
    return (longer, shorter) if width < height else (shorter, longer)


def read(path: Path) -> np.ndarray:
    """The RGB pixels of a picture, upright, or of an array in a .npy file."""
    if path.suffix == ".npy":
        return np.load(path)
    with Image.open(path) as picture:
        upright = ImageOps.exif_transpose(picture)
        if upright.mode.startswith("I;16"):  # of which the upper eight bits are what was trained on
            upright = Image.fromarray((np.asarray(upright) >> 8).astype(np.uint8))
        return np.asarray(upright.convert("RGB"))


def mask(logits: np.ndarray, frame: tuple[int, int], size: np.ndarray, original: tuple[int, int]) -> np.ndarray:
    """The pixels of the original image that a mask covers, whose logits are of a frame.

    `size` is the (height, width) of the image in the frame.
    """
    rows, columns = (
        int((np.floor(np.arange(count, dtype=np.float32) * np.float32(side / count)) < length).sum())
        for count, side, length in zip(logits.shape, frame, size, strict=True)
    )
    cells = Image.fromarray(np.asarray(logits[:rows, :columns], np.float32))
    there = np.asarray(cells.resize((int(size[1]), int(size[0])), Image.Resampling.BILINEAR)) > 0
    scales = [np.float32(old / new) for old, new in zip(size, original, strict=True)]
    places = (np.floor(np.arange(n, dtype=np.float32) * scale) for n, scale in zip(original, scales, strict=True))
    down, across = (np.minimum(place.astype(int), old - 1) for place, old in zip(places, size, strict=True))
    return there[down][:, across]


def lines(
    image: np.ndarray, function: Callable[..., dict[str, Any]], about: dict[str, Any], masks: Path | None = None
) -> Iterator[str]:
    """What the model says of an image: detections that reach the threshold, or the best classes.

    Masks are written to files whose names begin as the path `masks`, where there is one.
    """
    pixels, size = fit(image, about)
    arguments = [pixels, size, np.array(image.shape[:2], np.int32)][: len(about["inputs"])]
    rows = about["batch"] if isinstance(about["batch"], int) else 1
    answer = jax.device_get(function(*(np.stack([argument] * rows) for argument in arguments)))
    for number, i in enumerate(np.argsort(-answer["scores"][0], kind="stable")):
        score, label = answer["scores"][0, i], answer["labels"][0, i]
        name = about["classes"][label] if label < len(about["classes"]) else ""
        box = " ".join(f"{x:.1f}" for x in answer["boxes"][0, i]) if "boxes" in answer else ""
        if score >= about["threshold"]:
            yield f"{score:.4f} {name or label} {box}".rstrip()
            if masks is not None and "masks" in answer:
                covered = mask(answer["masks"][0, i], (about["height"], about["width"]), size, image.shape[:2])
                Image.fromarray(covered).save(f"{masks}_{number}.png")


def main() -> None:
    """Prints what is found on each image of the command line."""
    function, about = load(Path(__file__).resolve().parent)
    paths, folder = sys.argv[1:], None
    if paths[:1] == ["--masks"] and "masks" in [each["name"] for each in about["outputs"]]:
        folder, paths = Path(*paths[1:2]), paths[2:]
        folder.mkdir(parents=True, exist_ok=True)
    if not paths or not (about["preprocessing"] and about["postprocessing"]):
        raise SystemExit("usage: run.py IMAGE ... (of a model that was exported with pre- and postprocessing)")
    for path in paths:
        beside = None if folder is None else folder / Path(path).stem
        print("\n  ".join([path, *lines(read(Path(path)), function, about, beside)]))


if __name__ == "__main__":
    main()
