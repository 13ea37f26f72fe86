"""Colour jitter as one matrix of the colours of every pixel."""

import math

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from vitjax.data.augmentation_parts import ColorJitter

# Luminance and the two axes of colour. Source: NTSC 1953.
_YIQ = np.array([[0.299, 0.587, 0.114], [0.595716, -0.274453, -0.321263], [0.211456, -0.522591, 0.311135]])
_RGB = np.linalg.inv(_YIQ)


def recolored(
    image: UInt8[np.ndarray, "height width 3"], jitter: ColorJitter, numbers: Float[np.ndarray, "4"]
) -> UInt8[np.ndarray, "height width 3"]:
    """The image in other colours; the random numbers, 0.5 for no change, say brightness, contrast, saturation and hue.

    Contrast is around the mean luminance of the image.
    """
    brightness, contrast, saturation, turns = (2 * numbers - 1) * (
        jitter.brightness, jitter.contrast, jitter.saturation, jitter.hue
    )  # fmt: skip
    cosine, sine = math.cos(2 * math.pi * turns), math.sin(2 * math.pi * turns)
    colours = (1 + saturation) * np.array([[cosine, -sine], [sine, cosine]])
    chroma = np.eye(3)
    chroma[1:, 1:] = colours
    matrix = (1 + brightness) * (1 + contrast) * (_RGB @ chroma @ _YIQ)
    mean = (1 + brightness) * float(_YIQ[0] @ cv2.mean(image)[:3])
    return cv2.transform(image, np.concatenate([matrix, np.full((3, 1), -contrast * mean)], 1))
