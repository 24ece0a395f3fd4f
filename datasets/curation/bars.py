"""Letterbox and pillar bars: rows and columns at the edges that stay black while the picture moves."""

from dataclasses import dataclass

import numpy as np

from .clip import Box

BLACK = 28
"""Luma that a bar does not exceed, 0 to 255: black with the rings that coding draws along the picture."""
RINGING = 0.005
"""Share of a bar's pixels that may exceed it."""
NARROWEST = 0.02
"""Part of a side that a bar takes at least: less is the edge of a worn transfer."""


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
    """First and end of what is not black in a profile [n]; (0, 0) where all is."""
    lit = np.flatnonzero(profile > BLACK)
    return (int(lit[0]), int(lit[-1]) + 1) if len(lit) else (0, 0)


def find_bars(profiles: list[tuple[int, Profile]], start: int, end: int, size: tuple[int, int]) -> Box | None:
    """The picture inside the bars of frames `start` to `end`, in pixels of `size` (width, height).

    None without bars, for black frames, and where no frame of the span was looked at. A pixel of the small
    picture is left out at each bar, so that none of the bar is in the box.
    """
    seen = [profile for number, profile in profiles if start <= number < end]
    if not seen:
        return None
    rows = np.max([profile.rows for profile in seen], axis=0)
    columns = np.max([profile.columns for profile in seen], axis=0)
    (top, bottom), (left, right) = edges_of(rows), edges_of(columns)
    if bottom == top or right == left:
        return None
    x0, x1 = trimmed(left, right, len(columns), size[0])
    y0, y1 = trimmed(top, bottom, len(rows), size[1])
    return None if (x0, y0, x1, y1) == (0, 0, *size) else Box(x0, y0, x1, y1)


def trimmed(first: int, end: int, small: int, full: int) -> tuple[int, int]:
    """Edges in `full` pixels of a picture that lies between `first` and `end` of `small` ones."""
    scale = full / small
    low = int(np.ceil((first + 1) * scale)) if first >= NARROWEST * small else 0
    high = int((end - 1) * scale) if small - end >= NARROWEST * small else full
    return low, high
