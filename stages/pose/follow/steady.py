"""One person's poses made steady, one joint at a time: outliers, blinking, gaps, trembling."""

from collections.abc import Iterator
from fractions import Fraction
from itertools import pairwise

import numpy as np

from ...types import PoseSequence
from ..skeleton import BODY, FACE, FEET, LEFT_HAND, RIGHT_HAND, VISIBLE
from .gaps import BARELY, FILLED, bridge_gaps
from .one_euro import Cutoff, one_euro

TRUNK = slice(BODY.start, FEET.stop)
"""The joints of body and feet."""

PARTS = (LEFT_HAND, RIGHT_HAND, FACE)
"""What is found as a whole or not at all."""

BONES = (
    (5, 7, 0.186), (6, 8, 0.186), (7, 9, 0.146), (8, 10, 0.146), (5, 11, 0.288), (6, 12, 0.288),
    (11, 13, 0.245), (12, 14, 0.245), (13, 15, 0.246), (14, 16, 0.246),
)  # fmt: skip
"""Pairs of body joints and how far they are apart in body heights (Drillis and Contini, 1966, as in Winter,
Biomechanics and Motor Control of Human Movement)."""

FULL_LENGTH = 0.9
"""Quantile of a bone's lengths over the frames that is taken for its length seen from the side."""

HOLD = 0.05
"""A joint appears when it scores this much above VISIBLE, and goes when it scores this much below."""

HARDLY = 2 * VISIBLE - BARELY
"""The most that a joint scores which is not to be drawn."""

JUMP = 0.5
"""Body heights that most joints move by from one frame to the next where the video is cut."""

OUTLIER = 0.04
"""Body heights that a keypoint of one frame lies off the curve through two frames before and two after, to
be an outlier. Of drawn dancers none lies further off than 0.004 at 30 frames a second, 0.016 at 15."""

MOST = 0.5
"""A hand or face is an outlier as a whole when this share of its points are."""

BODY_CUTOFF = Cutoff(3, 5)
PLACE_CUTOFF = Cutoff(5, 10)
"""Of the middle of a hand or face."""
SHAPE_CUTOFF = Cutoff(3, 7)
"""Of the points of a hand or face around their middle. Filtered by themselves, or around the wrist, they are
further from the truth at equal trembling."""


def steady(poses: PoseSequence, max_gap: int, smooth: float) -> PoseSequence:
    """One person's poses without outliers, blinking joints, short gaps (`bridge_gaps`) and trembling.

    `smooth` is the strength of the filter, 1 by default: with 2 cutoffs are halved. With 0 all stays as it
    was found, gaps too.
    """
    if smooth == 0:
        return poses
    points, scores = poses.keypoints.astype(np.float64), poses.scores.astype(np.float64)
    height = body_height(poses)
    repair_outliers(points, scores, height)
    hold_scores(scores)
    bridge_gaps(points, scores, max_gap, poses.fps)
    filter_points(points, scores, poses.fps, height, smooth)
    return PoseSequence(points, scores, poses.size, poses.fps)


def body_height(poses: PoseSequence) -> float:
    """The person's height in pixels, as tall as they would stand, by the full lengths of their bones.

    Where no bone is seen in any frame, the height of the picture.
    """
    heights = []
    for a, b, part in BONES:
        seen = (poses.scores[:, [a, b]] > VISIBLE).all(1)
        if seen.any():
            lengths = np.linalg.norm(poses.keypoints[seen, a] - poses.keypoints[seen, b], axis=-1)
            heights.append(float(np.quantile(lengths, FULL_LENGTH)) / part)
    height = float(np.median(heights)) if heights else 0.0
    return height if height > 0 else float(poses.size[1])


def repair_outliers(keypoints: np.ndarray, scores: np.ndarray, height: float) -> None:
    """Put back what lies off for one frame, in place: [T, 133, 2] in pixels, and [T, 133].

    An outlier lies OUTLIER `height`s off the cubic through the two frames before and the two after, and
    further than the frames beside it lie apart and off their own neighbours' lines. It scores as filled.
    """
    if len(scores) < 5:
        return
    a, b, here, d, e = (keypoints[i : len(keypoints) - 4 + i] for i in range(5))
    curve = (4 * (b + d) - a - e) / 6
    off, apart = _length(here - curve), _length(b - d)
    loose = np.maximum(_length(b - (2 * a + d) / 3), _length(d - (b + 2 * e) / 3))
    seen = np.logical_and.reduce([scores[i : len(scores) - 4 + i] > 0 for i in range(5)])
    found = seen & (off > OUTLIER * height) & (off > apart + loose)
    for part in PARTS:
        whole = found[:, part].mean(1) >= MOST
        found[:, part] |= whole[:, None] & seen[:, part]
    keypoints[2:-2] = np.where(found[..., None], curve, here)
    middle = scores[2:-2]
    scores[2:-2] = np.where(found, np.maximum(FILLED * middle, np.minimum(middle, BARELY)), middle)


def hold_scores(scores: np.ndarray) -> None:
    """Keep joints of body and feet from blinking, in place: hysteresis of HOLD around VISIBLE, [T, 133].

    A joint that is held scores just enough to be drawn, and one that is not there yet just too little.
    """
    shown = scores[0, TRUNK] > VISIBLE
    for frame in scores[:, TRUNK]:
        shown = np.where(shown, frame > VISIBLE - HOLD, frame > VISIBLE + HOLD)
        frame[:] = np.where(shown, np.maximum(frame, BARELY), np.minimum(frame, HARDLY))


def filter_points(
    keypoints: np.ndarray, scores: np.ndarray, fps: Fraction, height: float, smooth: float
) -> None:
    """Take the trembling out of each run of frames that show a joint, a hand or the face, in place."""
    body, place, shape = (
        Cutoff(cutoff.least / smooth, cutoff.growth / smooth)
        for cutoff in (BODY_CUTOFF, PLACE_CUTOFF, SHAPE_CUTOFF)
    )
    seen, jumps = scores > 0, _jumps(keypoints, scores, height)
    for points, start, stop in _runs(seen, TRUNK, jumps):
        values = keypoints[start:stop, points] / height
        keypoints[start:stop, points] = one_euro(values, fps, body) * height
    for part in PARTS:
        for points, start, stop in _runs(seen, part, jumps):
            values = keypoints[start:stop, points] / height
            middle = values.mean(1, keepdims=True)
            values = one_euro(values - middle, fps, shape) + one_euro(middle, fps, place)
            keypoints[start:stop, points] = values * height


def _length(ways: np.ndarray) -> np.ndarray:
    return np.linalg.norm(ways, axis=-1)


def _jumps(keypoints: np.ndarray, scores: np.ndarray, height: float) -> list[int]:
    """The frames at which the whole body is elsewhere than in the frame before: cuts."""
    both = (scores[1:, BODY] > VISIBLE) & (scores[:-1, BODY] > VISIBLE)
    ways = np.where(both, _length(np.diff(keypoints[:, BODY], axis=0)), np.nan)
    known = both.any(1)
    jumped = np.zeros(len(both), bool)
    jumped[known] = np.nanmedian(ways[known], axis=1) > JUMP * height
    return (np.flatnonzero(jumped) + 1).tolist()


def _runs(seen: np.ndarray, part: slice, jumps: list[int]) -> Iterator[tuple[np.ndarray, int, int]]:
    """Keypoints of `part` that are seen in the same frames of `seen` [T, 133], and [start, stop) of each run
    of these frames, from one of `jumps` to the next at most.
    """
    kinds, kind = np.unique(seen[:, part], axis=1, return_inverse=True)
    for i, known in enumerate(kinds.T):
        points = part.start + np.flatnonzero(kind.reshape(-1) == i)
        edges = {0, len(known), *jumps, *(np.flatnonzero(np.diff(known)) + 1).tolist()}
        yield from ((points, start, stop) for start, stop in pairwise(sorted(edges)) if known[start])
