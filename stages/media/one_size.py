"""Frames of one size, whatever sizes the decoder gives: a stream may change its own on the way."""

from fractions import Fraction

import cv2
import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter

from .rgb import square_size, to_rgb, upright

Size = tuple[int, int]
"""Width and height in pixels."""


class OneSize:
    """Makes RGB of the frames of one video, all of the first one's size; its longer side is limited.

    `aspect` is the width of a pixel over its height. `notes` has a line for each other size that was met.
    """

    def __init__(self, aspect: Fraction, longest_side: int | None) -> None:
        self._aspect, self._longest = aspect, longest_side
        self._reformatter = VideoReformatter()
        self._first: Size | None = None
        self._others: set[Size] = set()

    @property
    def notes(self) -> list[str]:
        """What changed on the way."""
        return [
            "its frames change from {}x{} to {}x{}: the later ones are scaled as a whole".format(
                *self._first, *other
            )
            for other in sorted(self._others)
            if self._first is not None
        ]

    def rgb(self, frame: VideoFrame) -> np.ndarray:
        """uint8 [H, W, 3] RGB, upright. A frame of another shape than the first lies between black bars."""
        natural = square_size(frame.width, frame.height, self._aspect)
        image = to_rgb(frame, scaled_down(natural, self._longest), self._reformatter)
        size = (image.shape[1], image.shape[0])
        self._first = self._first or size
        if size == self._first:
            return image
        self._others.add(size)
        return between_bars(image, self._first)


def between_bars(image: np.ndarray, size: Size) -> np.ndarray:
    """uint8 [H, W, 3] scaled as a whole into the middle of a black picture of `size` (width, height)."""
    (height, width), (wide, high) = image.shape[:2], size
    zoom = min(wide / width, high / height)
    inner = (max(1, min(wide, round(width * zoom))), max(1, min(high, round(height * zoom))))
    scaled = cv2.resize(image, inner, interpolation=cv2.INTER_AREA if zoom < 1 else cv2.INTER_LINEAR)
    left, top = (wide - inner[0]) // 2, (high - inner[1]) // 2
    whole = np.zeros((high, wide, 3), np.uint8)
    whole[top : top + inner[1], left : left + inner[0]] = scaled
    return whole


def upright_size(frame: VideoFrame, aspect: Fraction) -> Size:
    """Width and height of a frame in square pixels, turned as it is shown."""
    width, height = square_size(frame.width, frame.height, aspect)
    height, width = upright(np.empty((height, width)), frame).shape
    return width, height


def scaled_down(size: Size, longest_side: int | None) -> Size:
    """Width and height with the longer side at most that; as they are for None."""
    if longest_side is None or max(size) <= longest_side:
        return size
    width, height = (max(1, round(side * longest_side / max(size))) for side in size)
    return width, height
