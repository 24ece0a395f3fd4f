"""Short gaps in the poses of one person, filled from what is seen before and after."""

from collections.abc import Iterator
from itertools import pairwise

import numpy as np

from .skeleton import BODY, FACE, FEET, LEFT_HAND, RIGHT_HAND

ANCHORS = ((LEFT_HAND, 9), (RIGHT_HAND, 10), (FACE, 0))
"""Parts that come and go by themselves, and the body joint that carries each: wrists and nose."""


def fill_gaps(keypoints: np.ndarray, scores: np.ndarray, max_gap: int) -> None:
    """Interpolate gaps of up to `max_gap` frames linearly, in place; [T, 133, 2] and [T, 133].

    First those of the whole person, then those of a hand or the face whose wrist or nose is seen throughout:
    these are interpolated relative to it. A keypoint is filled where both ends of the gap show it. Gaps at
    the beginning and the end stay.
    """
    body = slice(BODY.start, FEET.stop)
    for start, stop in _gaps(scores.any(1), max_gap):
        for part in (body, FACE, LEFT_HAND, RIGHT_HAND):
            _interpolate(keypoints[:, part], scores[:, part], start, stop)
    for part, anchor in ANCHORS:
        for start, stop in _gaps(scores[:, part].any(1), max_gap):
            if (scores[start - 1 : stop + 1, anchor] > 0).all():
                carrier = keypoints[:, anchor, None].copy()
                relative = keypoints[:, part] - carrier
                _interpolate(relative, scores[:, part], start, stop)
                seen = scores[start:stop, part, None] > 0
                keypoints[start:stop, part] = np.where(seen, (relative + carrier)[start:stop], 0)


def _gaps(known: np.ndarray, max_gap: int) -> Iterator[tuple[int, int]]:
    """[start, stop) of each run of unknown frames, bool [T], with known ones on both sides."""
    frames = np.flatnonzero(known)
    for before, after in pairwise(frames):
        if 1 < after - before <= max_gap + 1:
            yield int(before) + 1, int(after)


def _interpolate(keypoints: np.ndarray, scores: np.ndarray, start: int, stop: int) -> None:
    """Fill [start, stop) linearly between its neighbours, in place, where both show the keypoint."""
    first, last = start - 1, stop
    both = (scores[first] > 0) & (scores[last] > 0)
    for frame in range(start, stop):
        part = (frame - first) / (last - first)
        for values, mask in ((keypoints, both[:, None]), (scores, both)):
            values[frame] = np.where(mask, (1 - part) * values[first] + part * values[last], 0)
