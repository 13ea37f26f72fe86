"""Image files to RGB pixels: OpenCV reads (faster than Pillow, and scales 16 bits), Pillow checks and explains."""

import contextlib
import io

import cv2
import numpy as np
from jaxtyping import UInt8
from PIL import Image, UnidentifiedImageError

from vitjax.data.errors import DataError

# What OpenCV would print about a broken file is in the DataError.
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)

_RAW_RGB = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
_BITS = 258  # the TIFF tag of the bits of each channel
_ORIENTATION = 0x0112  # the EXIF tag
_FIX = "Replace the file, or remove it from the data"


def decode(
    data: bytes, name: str, *, orient: bool = False, limit: int | None = None
) -> UInt8[np.ndarray, "height width 3"]:
    """The pixels of an image file; grey, palette, CMYK, 16-bit and float images become 8-bit RGB as `as_rgb` says,
    transparency is left out.

    COCO-style annotations count pixels as they are stored, so the EXIF orientation is ignored; with `orient` it is
    applied, as photo viewers do. (TIFF is always turned, by every reader.) Of an animation this is the first frame.

    Raises:
        DataError: the file is empty, truncated, no image, or has more pixels than `limit`, without one Pillow's
            (`Image.MAX_IMAGE_PIXELS`), or its numbers are no pixels.
    """
    header = opened(io.BytesIO(data), name, limit)
    pixels = None
    if not _is_deep(header):
        with contextlib.suppress(cv2.error):
            pixels = cv2.imdecode(np.frombuffer(data, np.uint8), _RAW_RGB)
    if pixels is None:
        pixels = _with_pillow(header, name)
    return _upright(pixels, _orientation(header)) if orient else pixels


def decoded(picture: Image.Image) -> UInt8[np.ndarray, "height width 3"]:
    """The pixels of an image that Pillow has opened, as `decode` gives those of its file with `orient`."""
    return _upright(_pixels(picture, "the image"), _orientation(picture))


def read_size(file: io.BytesIO | io.BufferedReader, name: str, limit: int | None = None) -> tuple[int, int]:
    """Height and width of an image as `decode` will give it, from the header alone.

    Raises:
        DataError: as `decode`, as far as the header shows it.
    """
    width, height = opened(file, name, limit).size
    return height, width


def read_upright_size(file: io.BytesIO | io.BufferedReader, name: str, limit: int | None = None) -> tuple[int, int]:
    """Height and width of an image as `decode` will give it with `orient`, from the header alone.

    Raises:
        DataError: as `decode`, as far as the header shows it.
    """
    header = opened(file, name, limit)
    width, height = header.size
    return (width, height) if _orientation(header) >= 5 else (height, width)


def is_turned(file: io.BytesIO | io.BufferedReader, name: str, limit: int | None = None) -> bool:
    """Whether EXIF says that viewers should show the image turned by a quarter."""
    return _orientation(opened(file, name, limit)) >= 5


def opened(file: io.BytesIO | io.BufferedReader, name: str, limit: int | None = None) -> Image.Image:
    """Pillow's image of a file, of which only the header is read.

    Raises:
        DataError: as `decode`, as far as the header shows it.
    """
    known, wish = Image.MAX_IMAGE_PIXELS, "Make it smaller"
    if limit is not None:
        wish += ", or raise --data.limits.pixels"
        if known is not None and limit > known:
            Image.MAX_IMAGE_PIXELS = limit  # Pillow has one for all, and would refuse what is allowed here
    start = file.read(16)
    file.seek(0)
    if not start:
        raise DataError(f"{name} is empty. {_FIX}.")
    try:
        header = Image.open(file)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DataError(f"{name} is too large: {error} {wish}.") from error
    except UnidentifiedImageError as error:
        raise DataError(f"{name} is no image: it begins with {start!r}. {_FIX}.") from error
    except Exception as error:  # the readers of broken headers raise anything, from SyntaxError to struct.error
        raise DataError(f"{name} has a broken header ({error}). {_FIX}.") from error
    if header.format == "EPS":
        raise DataError(f"{name} is PostScript, a program that draws an image. {_FIX}.")
    limit, pixels = limit or known, header.width * header.height
    if limit is not None and pixels > limit:
        raise DataError(f"{name} is too large: {pixels:,} pixels, the limit is {limit:,}. {wish}.")
    return header


def _with_pillow(header: Image.Image, name: str) -> UInt8[np.ndarray, "height width 3"]:
    """The pixels of what OpenCV does not read (TGA, ICO, a PNG without its last bytes), or the reason why not."""
    try:
        header.load()
    except Exception as error:  # as above
        raise DataError(f"{name} is broken or truncated ({error}). {_FIX}.") from error
    return _pixels(header, name)


def _is_deep(header: Image.Image) -> bool:
    """Whether OpenCV would round or refuse the pixels, float, 32-bit or 16-bit in a TIFF, or mix CMYK unlike Pillow."""
    bits = getattr(header, "tag_v2", {}).get(_BITS, (8,))
    return header.mode in ("I", "F", "CMYK") or max(bits, default=8) > 8


def _pixels(picture: Image.Image, name: str) -> UInt8[np.ndarray, "height width 3"]:
    if picture.mode[0] in "IF":
        from vitjax.data.arrays import as_rgb  # which few files need

        return as_rgb(np.asarray(picture), name)
    try:
        return np.asarray(picture.convert("RGB"))
    except ValueError as error:  # such as LAB
        wish = "Save it as 8-bit or 16-bit PNG, or as JPEG"
        raise DataError(f"{name} ({picture.format}) has pixels of Pillow's mode {picture.mode!r}. {wish}.") from error


def _orientation(header: Image.Image) -> int:
    if header.format == "TIFF":
        return 1
    try:
        value = header.getexif().get(_ORIENTATION, 1)
    except Exception:  # an unreadable EXIF block says nothing, and the pixels are good
        return 1
    return value if value in range(1, 9) else 1


def _upright(pixels: UInt8[np.ndarray, "h w 3"], orientation: int) -> UInt8[np.ndarray, "height width 3"]:
    """Turns and mirrors stored pixels for viewing (Source: EXIF 2.32, tag 0x0112)."""
    if orientation >= 5:
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)
