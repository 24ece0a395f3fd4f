"""The One-Euro filter, run over a whole sequence in both directions.

Casiez, Roussel, Vogel, "1 Euro Filter: A Simple Speed-based Low-pass Filter for Noisy Input in Interactive
Systems", CHI 2012: a low-pass filter of first order whose cutoff rises with the speed, so that what rests
does not tremble and what moves does not lag. It was made for input as it comes. Here the whole sequence is
known, so it runs forwards and then backwards over what it gave, and lags nowhere; and what it took away is
filtered too and added again (Tukey's "twicing", Exploratory Data Analysis, 1977), so that the turning points
of fast moves keep their height.
"""

from dataclasses import dataclass
from fractions import Fraction

import numpy as np

VELOCITY_CUTOFF = 4.0
"""Hz at which the velocity is filtered; 1, as the paper has it, blurs the beginnings of fast moves."""

SPEED_CUTOFF = 1.0
"""Hz at which speeds are filtered once more: they fall no sooner than that lets them, for at the turning
points of a fast swing the speed is 0. A swing of 0.3 body heights, twice a second, so loses 0.003 of them
there, and 0.016 without."""


@dataclass(frozen=True, slots=True)
class Cutoff:
    """The cutoff in Hz: `least` at rest, and `growth` more for each unit of speed a second."""

    least: float
    growth: float


def one_euro(values: np.ndarray, fps: Fraction, cutoff: Cutoff) -> np.ndarray:
    """Points `values`, float64 [T, ..., 2] in some unit of length, without their trembling.

    Each point has a speed of its own, in that unit a second. No frame is missing; fewer than three are given
    back as they are. Both ends are continued for a third of a second, turned about the last value,
    so that what moves evenly is left alone there too.
    """
    if len(values) < 3:
        return values
    more = min(len(values) - 1, round(fps * Fraction(1, 3)))
    before, after = 2 * values[:1] - values[more:0:-1], 2 * values[-1:] - values[-2 : -2 - more : -1]
    return _filtered(np.concatenate([before, values, after]), fps, cutoff)[more : more + len(values)]


def _filtered(values: np.ndarray, fps: Fraction, cutoff: Cutoff) -> np.ndarray:
    velocity = np.gradient(values, axis=0) * float(fps)
    speed = np.linalg.norm(_both_ways(velocity, _weight(VELOCITY_CUTOFF, fps)), axis=-1, keepdims=True)
    speed = np.maximum(speed, _both_ways(speed, _weight(SPEED_CUTOFF, fps)))
    weights = _weight(cutoff.least + cutoff.growth * speed, fps)
    smooth = _both_ways(values, weights)
    return smooth + _both_ways(values - smooth, weights)


def _weight(cutoff: np.ndarray | float, fps: Fraction) -> np.ndarray:
    """What a new value counts for, 0 to 1, in a low-pass filter of this cutoff in Hz (Casiez, equation 3)."""
    ratio = 2 * np.pi * np.asarray(cutoff) / float(fps)
    return ratio / (ratio + 1)


def _both_ways(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    weights = np.broadcast_to(weights, values.shape)
    return _low_pass(_low_pass(values, weights)[::-1], weights[::-1])[::-1]


def _low_pass(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Each value moved from the last result towards itself by its weight (Casiez, equation 1)."""
    result = values.copy()
    for frame in range(1, len(values)):
        result[frame] = result[frame - 1] + weights[frame] * (values[frame] - result[frame - 1])
    return result
