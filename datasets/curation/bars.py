"""Letterbox and pillar bars: rows and columns at the edges that stay black while the picture moves."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

BLACK = 28
"""Luma that a bar does not exceed, 0 to 255: black with the rings that coding draws along the picture."""
RINGING = 0.005
"""Share of a bar's pixels that may exceed it."""
NARROWEST = 0.02
"""Part of a side that a bar takes at least: less is the edge of a worn transfer."""
STEP = 16
"""Levels by which the picture beside a bar is brighter than the bar: a dark scene has no such edge."""
BESIDE = 4
"""Rows or columns of the small picture beside a bar, the brightest of which counts."""


@dataclass(frozen=True, slots=True)
class Profile:
    """How bright each row [H] and each column [W] of a frame is at its brightest, without outliers: uint8."""

    rows: np.ndarray
    columns: np.ndarray

    def inside(self) -> float:
        """The share of the frame inside its bars: 0 to 1, 0 for a black frame."""
        (top, bottom), (left, right) = edges_of(self.rows), edges_of(self.columns)
        return (bottom - top) / len(self.rows) * (right - left) / len(self.columns)


def profile_of(frame: np.ndarray) -> Profile:
    """The profile of a frame uint8 [H, W, 3], of either order of colours: the brightest of them counts."""
    bright = frame.max(-1)
    return Profile(upper(bright, 1), upper(bright, 0))


def upper(bright: np.ndarray, axis: int) -> np.ndarray:
    """Along an axis, the value that all but a share RINGING of the pixels stay below."""
    place = max(0, int(np.ceil((1 - RINGING) * bright.shape[axis])) - 1)
    return np.partition(bright, place, axis=axis).take(place, axis=axis)


def edges_of(profile: np.ndarray) -> tuple[int, int]:
    """First and end of the picture between bars in a profile [n]; (0, n) without, (0, 0) for black."""
    lit = np.flatnonzero(profile > BLACK)
    if not len(lit):
        return 0, 0
    first, end = int(lit[0]), int(lit[-1]) + 1
    levels = profile.astype(np.int16)
    if first < NARROWEST * len(profile) or levels[first : first + BESIDE].max() < levels[:first].max() + STEP:
        first = 0
    if len(profile) - end < NARROWEST * len(profile) or (
        levels[end - BESIDE : end].max() < levels[end:].max() + STEP
    ):
        end = len(profile)
    return first, end


def find_bars(profiles: Sequence[Profile]) -> tuple[tuple[int, int], tuple[int, int]]:
    """Rows and columns [first, end) of the picture inside the bars that all of these frames have."""
    rows = edges_of(np.max([profile.rows for profile in profiles], axis=0))
    columns = edges_of(np.max([profile.columns for profile in profiles], axis=0))
    return rows, columns
