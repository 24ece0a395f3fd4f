"""Sharpness of a picture by what a blur takes from it."""

import cv2
import numpy as np

WIDTH = 9
"""Pixels of the blur that a picture is compared with (Crete et al. 2007)."""


def sharpness(luma: np.ndarray, width: int = WIDTH) -> float:
    """How much of the steps between neighbouring pixels a blur takes away: 0 blurred to 1 sharp.

    Crete et al., "The blur effect" (2007), as its complement, the lesser of both directions: a picture that
    is blurred along one direction is blurred. `luma` uint8 [H, W]; `width` of the blur in pixels. 0 for a
    picture without any step.
    """
    picture = luma.astype(np.float32)
    values = []
    for axis, kernel in ((1, (width, 1)), (0, (1, width))):
        sharp = np.abs(np.diff(picture, axis=axis))
        blurred = np.abs(np.diff(cv2.blur(picture, kernel), axis=axis))
        total = float(sharp.sum())
        values.append(float(np.maximum(sharp - blurred, 0).sum()) / total if total else 0.0)
    return min(values)
