"""When the frames of a video are shown, and the constant grid k / rate that they are put on.

Pure arithmetic on time stamps: `video.py` reads them from a file.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

STANDARD_RATES = tuple(
    Fraction(rate)
    for rate in ("24000/1001", "24", "25", "30000/1001", "30", "48", "50", "60000/1001", "60", "90", "120")
)
STANDARD_RATE_TOLERANCE = 0.01
"""How far, relatively, a measured rate may lie from a standard one and still be taken for it."""
FASTEST_VARIABLE_RATE = Fraction(120)
"""A variable-rate file whose frames follow each other faster is sampled at this rate."""
ROUNDING = Fraction(1, 1000)
"""Seconds by which a time stamp may be off: many were rounded to the millisecond on their way."""
SPARSEST = 1 / 3
"""Of the places of a grid at least so many have a frame, or the grid is only a fine ruler (assumed)."""
RATE_OF_ONE_FRAME = Fraction(25)
"""Rate of a file of one frame that names none."""


@dataclass(frozen=True, slots=True)
class Timeline:
    """The time stamps of a video's frames and the grid that they are put on.

    `pts` are the time stamps in presentation order, distinct, in units of `tick` seconds; `end` is when the
    last frame ceases to be shown. `constant` says that every frame lies on the grid.
    """

    pts: tuple[int, ...]
    end: int
    tick: Fraction
    rate: Fraction
    constant: bool

    def slot(self, pts: int) -> int:
        """First grid index that shows the frame stamped `pts`.

        At a constant rate that is the nearest. At a variable rate index k shows the last frame whose time is
        at most k / rate, where one tick of rounding is forgiven.
        """
        place = (pts - self.pts[0]) * self.tick * self.rate
        if self.constant:
            return math.floor(place + Fraction(1, 2))
        return max(0, math.ceil(place - max(self.tick, ROUNDING) * self.rate))

    @property
    def num_frames(self) -> int:
        """Length of the grid; the last frame is held to its end."""
        return max(self.slot(self.pts[-1]) + 1, self.slot(self.end))


def make_timeline(
    pts: Sequence[int], last_duration: int, tick: Fraction, rates: Sequence[Fraction]
) -> Timeline:
    """Put frames stamped `pts` (in `tick` seconds, any order) on a grid.

    `rates` are those that the container names, the likeliest first; `last_duration` in ticks is how long the
    last frame is shown, 0 where unknown. The grid's rate is

    1. a named or the measured rate on whose grid every frame lies, as far as time stamps are precise; dropped
       frames leave holes, as long as most frames follow each other by one step;
    2. else a rate at which frame k lies within half a frame of k / rate, for every k: jitter;
    3. else, the rate varying, the measured one. An average would be meaningless there: a screen recording
       that pauses may average 3 frames a second.

    The measured rate is one over the usual distance between frames: the mean of those within a tenth, or a
    tick, of the median. It is rounded to a standard rate within 1 % of it. Raises ValueError for no frames.
    """
    stamps = np.unique(np.asarray(pts, np.int64))
    if not len(stamps):
        raise ValueError("no time stamps")
    named = [Fraction(rate) for rate in rates if rate and rate > 0]
    measured = _measured_rate(stamps, tick) or next(iter(named), RATE_OF_ONE_FRAME)
    standard = min(STANDARD_RATES, key=lambda rate: abs(rate - measured))
    if abs(standard - measured) <= STANDARD_RATE_TOLERANCE * measured:
        measured = standard

    rate = next((rate for rate in [*named, measured] if _lies_on_grid(stamps, tick, rate)), None)
    rate = rate or next(
        (rate for rate in [measured, *named] if _jitters_round_grid(stamps, tick, rate)), None
    )
    constant = rate is not None
    rate = rate if rate is not None else min(measured, FASTEST_VARIABLE_RATE)
    end = int(stamps[-1]) + (last_duration if last_duration > 0 else round(1 / (rate * tick)))
    return Timeline(tuple(stamps.tolist()), end, tick, rate, constant)


def make_sparse_timeline(places: Sequence[int], tick: Fraction, rates: Sequence[Fraction]) -> Timeline:
    """Put frames, which lie at whole `places` of a constant rate with others dropped, on that rate's grid.

    Each is held until the next. Where hardly any is there, as in files that have 120 places a second for all
    kinds of rates, the rate is that of `make_timeline`.
    """
    stamps = np.unique(np.asarray(places, np.int64))
    step = int(np.gcd.reduce(np.diff(stamps))) if len(stamps) > 1 else 1
    share = len(stamps) * step / (int(stamps[-1] - stamps[0]) + step)
    if share < SPARSEST:
        return make_timeline(places, step, tick, rates)
    return Timeline(tuple(stamps.tolist()), int(stamps[-1]) + step, tick, 1 / (step * tick), True)


def _measured_rate(stamps: np.ndarray, tick: Fraction) -> Fraction | None:
    if len(stamps) < 2:
        return None
    steps = np.diff(stamps)
    median = float(np.median(steps))
    usual = steps[np.abs(steps - median) <= max(median / 10, 1)]
    mean = Fraction(int(usual.sum()), len(usual)) if len(usual) else Fraction(median)
    return (1 / (mean * tick)).limit_denominator(1001)


def _places(stamps: np.ndarray, tick: Fraction, rate: Fraction) -> np.ndarray:
    return (stamps - stamps[0]).astype(np.float64) * float(tick * rate)


def _lies_on_grid(stamps: np.ndarray, tick: Fraction, rate: Fraction) -> bool:
    places = _places(stamps, tick, rate)
    slots = np.round(places)
    steps = np.diff(slots)
    near = bool((np.abs(places - slots) <= min(float(max(tick, ROUNDING) * rate), 0.25)).all())
    return near and bool((steps > 0).all()) and (len(steps) == 0 or float(np.median(steps)) == 1)


def _jitters_round_grid(stamps: np.ndarray, tick: Fraction, rate: Fraction) -> bool:
    return bool((np.abs(_places(stamps, tick, rate) - np.arange(len(stamps))) < 0.49).all())
