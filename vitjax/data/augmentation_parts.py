"""What may further be done to a training image, each with its probability; nothing of it happens by default."""

from dataclasses import dataclass

from vitjax.data.errors import require_sides
from vitjax.errors import FieldError

_LARGEST_FACTOR = 10.0  # beyond it a photograph takes gigabytes


@dataclass(frozen=True)
class Part:
    """What is done to some of the images."""

    probability: float = 0.0
    """How often it is done to an image; 0 is never, 1 always."""

    def __post_init__(self) -> None:
        """Refuses a probability, factors or a canvas that cannot be."""
        require_probability(self, "probability")
        name, (low, high) = type(self).__name__, getattr(self, "factors", (1.0, 1.0))
        if not 0 < low <= high <= _LARGEST_FACTOR:
            raise FieldError(f"{name}.factors is (least, greatest) in (0, {_LARGEST_FACTOR:g}], got {(low, high)}")
        require_sides(name, size=getattr(self, "size", None))


@dataclass(frozen=True)
class ScaleJitter(Part):
    """The whole image larger or smaller than it would be, whatever `max_side` says.

    Source: torchvision, ScaleJitter.
    """

    factors: tuple[float, float] = (0.8, 1.25)
    """Least and greatest factor of both sides."""


@dataclass(frozen=True)
class LargeScaleJitter(Part):
    """In place of resize and crop: the image at any size on a canvas, cropped if it is larger, on grey if smaller.

    Source: Ghiasi et al. 2021 (Copy-Paste), with canvases of 1024; there a smaller image is at the top left, here
    anywhere.
    """

    factors: tuple[float, float] = (0.1, 2.0)
    """Least and greatest factor of both sides; with factor 1 the image just fits into the canvas."""
    size: int | None = None
    """Side of the square canvas in pixels; None is the size that the image would have otherwise."""


@dataclass(frozen=True)
class Mosaic(Part):
    """Four images around a point of a canvas, each in its quarter as LargeScaleJitter has it on the whole.

    One is the record's own, the others are drawn from the epoch. Source: Bochkovskiy et al. 2020 (YOLOv4).
    """

    factors: tuple[float, float] = (0.4, 1.0)
    """Least and greatest factor of each image; with factor 1 it would just fit into the whole canvas."""
    center: tuple[float, float] = (0.3, 0.7)
    """Nearest and farthest that the point is from the top and from the left, in shares of the canvas."""
    size: int | None = None
    """Side of the square canvas in pixels; None is the size that the image would have otherwise."""

    def __post_init__(self) -> None:
        """Refuses a place that cannot be, and what all parts refuse."""
        super().__post_init__()
        if not 0 < self.center[0] <= self.center[1] < 1:
            raise FieldError(f"Mosaic.center is (nearest, farthest) share between 0 and 1, got {self.center}")


@dataclass(frozen=True)
class ColorJitter(Part):
    """Other brightness, contrast, saturation and hue.

    Source: torchvision, ColorJitter; here all four are one matrix, and the hue is turned in YIQ.
    """

    brightness: float = 0.3
    """Most that its factor differs from 1."""
    contrast: float = 0.3
    """Most that its factor differs from 1."""
    saturation: float = 0.3
    """Most that its factor differs from 1."""
    hue: float = 0.05
    """Most that the hue is turned; 1 would be once around."""

    def __post_init__(self) -> None:
        """Refuses strengths that cannot be, and what all parts refuse."""
        super().__post_init__()
        for name, most in {"brightness": 1.0, "contrast": 1.0, "saturation": 1.0, "hue": 0.5}.items():
            if not 0 <= getattr(self, name) <= most:
                raise FieldError(f"ColorJitter.{name} is in [0, {most:g}], got {getattr(self, name)}")


@dataclass(frozen=True)
class Cutout(Part):
    """Grey rectangles anywhere on the image, whose pixels have no label. Source: DeVries and Taylor 2017."""

    holes: int = 3
    """Most rectangles; there is at least one."""
    sides: tuple[float, float] = (0.05, 0.25)
    """Shortest and longest side of a rectangle, in shares of the image's."""

    def __post_init__(self) -> None:
        """Refuses holes that cannot be, and what all parts refuse."""
        super().__post_init__()
        if not 1 <= self.holes <= 1000:
            raise FieldError(f"Cutout.holes is in [1, 1000], got {self.holes}")
        if not 0 < self.sides[0] <= self.sides[1] <= 1:
            raise FieldError(f"Cutout.sides is (shortest, longest) share in (0, 1], got {self.sides}")


def require_probability(owner: object, *fields: str) -> None:
    """Nothing, if the fields of the owner are probabilities.

    Raises:
        FieldError: one is not; the sentence names it.
    """
    for name in fields:
        if not 0.0 <= getattr(owner, name) <= 1.0:
            raise FieldError(f"{type(owner).__name__}.{name} is a probability in [0, 1], got {getattr(owner, name)}")
