"""Image files to RGB pixels: OpenCV reads (faster than Pillow, and scales 16 bits), Pillow checks and explains."""

import io

import cv2
import numpy as np
from jaxtyping import UInt8
from PIL import Image, UnidentifiedImageError

from vitjax.data.errors import DataError

# What OpenCV would print about a broken file is in the DataError.
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)

_RAW_RGB = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
_EIGHT_BIT = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr")
_ORIENTATION = 0x0112  # the EXIF tag
_FIX = "Replace the file, or remove it from the data"


def decode(data: bytes, name: str, *, orient: bool = False) -> UInt8[np.ndarray, "height width 3"]:
    """The pixels of an image file; grey, palette, CMYK and 16-bit images become 8-bit RGB, transparency is left out.

    COCO-style annotations count pixels as they are stored, so the EXIF orientation is ignored; with `orient` it is
    applied, as photo viewers do. (TIFF is always turned, by every reader.) Of an animation this is the first frame.

    Raises:
        DataError: the file is empty, truncated, no image, or larger than Pillow's limit (`Image.MAX_IMAGE_PIXELS`).
    """
    header = _open(io.BytesIO(data), name)
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), _RAW_RGB)
    except cv2.error:
        pixels = None
    if pixels is None:
        pixels = _with_pillow(header, name)
    return _upright(pixels, _orientation(header)) if orient else pixels


def decoded(picture: Image.Image) -> UInt8[np.ndarray, "height width 3"]:
    """The pixels of an image that Pillow has opened, as `decode` gives those of its file with `orient`."""
    orientation = _orientation(picture)
    if picture.mode.startswith("I;16"):
        picture = Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))
    return _upright(np.asarray(picture.convert("RGB")), orientation)


def read_size(file: io.BytesIO | io.BufferedReader, name: str) -> tuple[int, int]:
    """Height and width of an image as `decode` will give it, from the header alone.

    Raises:
        DataError: as `decode`, as far as the header shows it.
    """
    width, height = _open(file, name).size
    return height, width


def is_turned(file: io.BytesIO | io.BufferedReader, name: str) -> bool:
    """Whether EXIF says that viewers should show the image turned by a quarter."""
    return _orientation(_open(file, name)) >= 5


def _open(file: io.BytesIO | io.BufferedReader, name: str) -> Image.Image:
    start = file.read(16)
    file.seek(0)
    if not start:
        raise DataError(f"{name} is empty. {_FIX}.")
    try:
        header = Image.open(file)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DataError(f"{name} is too large: {error} Make it smaller.") from error
    except UnidentifiedImageError as error:
        raise DataError(f"{name} is no image: it begins with {start!r}. {_FIX}.") from error
    except Exception as error:  # the readers of broken headers raise anything, from SyntaxError to struct.error
        raise DataError(f"{name} has a broken header ({error}). {_FIX}.") from error
    limit, pixels = Image.MAX_IMAGE_PIXELS, header.width * header.height
    if limit is not None and pixels > limit:
        raise DataError(f"{name} is too large: {pixels:,} pixels, the limit is {limit:,}. Make it smaller.")
    return header


def _with_pillow(header: Image.Image, name: str) -> UInt8[np.ndarray, "height width 3"]:
    """The pixels of what OpenCV does not read (TGA, ICO, a PNG without its last bytes), or the reason why not."""
    try:
        header.load()
    except Exception as error:  # as above
        raise DataError(f"{name} is broken or truncated ({error}). {_FIX}.") from error
    if header.mode not in _EIGHT_BIT:
        wish = "Save it as 8-bit or 16-bit PNG, or as JPEG"
        raise DataError(f"{name} ({header.format}) has pixels of Pillow's mode {header.mode!r}. {wish}.")
    return np.asarray(header.convert("RGB"))


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
