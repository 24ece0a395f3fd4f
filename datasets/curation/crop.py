"""The box around the dancer that a training sees: one for a clip, of the training's aspect, no bars."""

from fractions import Fraction

import numpy as np

from ...stages.pose.skeleton import VISIBLE
from ...stages.types import PoseSequence
from .clip import Box

MARGIN = 0.1
"""Room around the dancer on each side, in the longer side of the dancer's box: hair, hands and shoes reach
beyond the joints."""


def crop_box(poses: PoseSequence, picture: Box, aspect: Fraction) -> Box:
    """The box of `aspect` (width over height) in `picture` that shows the dancer of all frames with MARGIN.

    Where the dancer needs more room than `picture` has, the largest box of that aspect there is, around the
    middle of the dancer. Without any pose, the largest in the middle. Sides are even numbers of pixels.
    """
    width, height = largest_of(aspect, picture.width, picture.height)
    seen = poses.keypoints[poses.scores > VISIBLE]
    low, high = np.array([picture.x0, picture.y0], float), np.array([picture.x1, picture.y1], float)
    if not len(seen):
        return placed((low + high) / 2, width, height, picture)
    first = np.clip(seen.min(0), low, high)
    last = np.clip(seen.max(0), low, high)
    margin = MARGIN * float((last - first).max())
    needed = last - first + 2 * margin
    tall = max(float(needed[1]), float(needed[0] / aspect))
    if tall < height:
        width, height = largest_of(aspect, round(tall * aspect), round(tall))
    return placed((first + last) / 2, width, height, picture)


def largest_of(aspect: Fraction, width: int, height: int) -> tuple[int, int]:
    """Even width and height of the largest box of that aspect in width x height pixels."""
    tall = min(height, int(width / aspect))
    return max(2, int(tall * aspect) // 2 * 2), max(2, tall // 2 * 2)


def placed(centre: np.ndarray, width: int, height: int, picture: Box) -> Box:
    """A box of that size around `centre` (x, y), moved into `picture`."""
    x0 = min(max(round(float(centre[0]) - width / 2), picture.x0), picture.x1 - width)
    y0 = min(max(round(float(centre[1]) - height / 2), picture.y0), picture.y1 - height)
    return Box(x0, y0, x0 + width, y0 + height)
