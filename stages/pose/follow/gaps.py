"""Gaps in the poses of one person, filled from what is seen before and after.

A joint that is lost moves with the joint that carries it, a hand with its forearm. How far that is from the
truth was measured by hiding joints and hands that had been found in real clips: see docs/poses.md.
"""

from collections.abc import Iterator
from fractions import Fraction
from itertools import pairwise

import numpy as np

from ..skeleton import BODY, FACE, FEET, LEFT_HAND, RIGHT_HAND, VISIBLE

ANCHORS = ((LEFT_HAND, 9), (RIGHT_HAND, 10), (FACE, 0))
"""Parts that come and go by themselves, and the body joint that carries each: wrists and nose."""

TORSO = (5, 6, 11, 12)
CARRIERS = (
    *((joint, tuple(other for other in TORSO if other != joint)) for joint in TORSO),
    (0, (5, 6)), (1, (0,)), (2, (0,)), (3, (0,)), (4, (0,)),
    (7, (5,)), (8, (6,)), (9, (7,)), (10, (8,)),
    (13, (11,)), (14, (12,)), (15, (13,)), (16, (14,)),
    *((joint, (15,)) for joint in (17, 18, 19)), *((joint, (16,)) for joint in (20, 21, 22)),
)  # fmt: skip
"""Joints of body and feet, and those whose mean carries each, carriers first. With dancers' arms hidden for 1
to 8 frames, this is off by 0.5 to 1.0 of what a straight line in the picture is off; a bone that keeps its
length while it turns is off by more: most of what shortens an arm is that it points at the camera."""

FOREARMS = {9: 7, 10: 8}
"""The elbow of each wrist."""

SHORT = 0.25
"""A forearm shorter than this part of its full length in the picture points at the camera: its angle tells
nothing, and a hand is not turned with it."""

HAND_GAP = Fraction(1)
"""Seconds that a hand may be lost and still be filled."""

FILLED = 0.7
"""What is filled scores this part of what it would score found: it is drawn darker."""

BARELY = VISIBLE + 0.01
"""The least that a joint scores which is to be drawn."""


def bridge_gaps(keypoints: np.ndarray, scores: np.ndarray, max_gap: int, fps: Fraction) -> None:
    """Fill what is lost for a while, in place.

    `keypoints` [T, 133, 2] in pixels and `scores` [T, 133] of one person. A joint of body and feet that
    scores up to VISIBLE for up to `max_gap` frames moves with its carrier, linearly between its places before
    and after; with no carrier seen throughout, between its places in the picture. A hand or face that is lost
    moves with its wrist, which has to be seen, or nose, and a hand turns with its forearm: the face for up to
    `max_gap` frames, a hand for up to HAND_GAP seconds too. With `max_gap` 0 nothing is filled. What is lost
    at the beginning or the end stays lost. What is filled scores FILLED of what its neighbours score, and a
    joint at least BARELY, so that it shows.
    """
    if max_gap == 0:
        return
    for joint, carriers in CARRIERS:
        for start, stop in gaps(scores[:, joint] > VISIBLE, max_gap):
            span = slice(start - 1, stop + 1)
            seen = [one for one in carriers if (scores[span, one] > VISIBLE).all()]
            carrier = keypoints[span][:, seen].mean(1) if seen else 0
            keypoints[span, joint] = _between(keypoints[span, joint] - carrier) + carrier
            scores[span, joint] = np.maximum(_dimmed(scores[span, joint]), BARELY)
    hand_gap = max(max_gap, int(HAND_GAP * fps))
    for part, anchor in ANCHORS:
        for start, stop in gaps(scores[:, part].any(1), max_gap if part is FACE else hand_gap):
            span = slice(start - 1, stop + 1)
            if (scores[span, anchor] > VISIBLE).all():
                _carry(keypoints, scores, part, anchor, span)


def _carry(keypoints: np.ndarray, scores: np.ndarray, part: slice, anchor: int, span: slice) -> None:
    """Fill a hand or face within the ends of `span`, where both show a point, in place, by its anchor."""
    turns = _turns(keypoints, scores, anchor, span)
    carrier = keypoints[span, anchor, None]
    relative = (keypoints[span, part] - carrier) @ turns
    both = (scores[span.start, part] > 0) & (scores[span.stop - 1, part] > 0)
    points = _between(relative) @ turns.swapaxes(1, 2) + carrier
    keypoints[span.start + 1 : span.stop - 1, part] = np.where(both[:, None], points[1:-1], 0)
    scores[span.start + 1 : span.stop - 1, part] = np.where(both, _dimmed(scores[span, part])[1:-1], 0)


def _turns(keypoints: np.ndarray, scores: np.ndarray, anchor: int, span: slice) -> np.ndarray:
    """How the forearm of a wrist is turned in each frame of `span`: matrices [n, 2, 2], upright for none."""
    turns = np.broadcast_to(np.eye(2), (span.stop - span.start, 2, 2))
    elbow = FOREARMS.get(anchor)
    if elbow is None or not (scores[span, elbow] > VISIBLE).all():
        return turns
    seen = (scores[:, [anchor, elbow]] > VISIBLE).all(1)
    lengths = np.linalg.norm(keypoints[:, anchor] - keypoints[:, elbow], axis=-1)
    along = keypoints[span, anchor] - keypoints[span, elbow]
    if lengths[span].min() <= SHORT * np.quantile(lengths[seen], 0.9):
        return turns
    cos, sin = (along / lengths[span, None]).T
    return np.stack([np.stack([cos, -sin], -1), np.stack([sin, cos], -1)], -2)


def _between(values: np.ndarray) -> np.ndarray:
    """`values` [n, ...] with all but the first and the last on a line between these."""
    part = np.linspace(0, 1, len(values)).reshape(-1, *[1] * (values.ndim - 1))
    return (1 - part) * values[0] + part * values[-1]


def _dimmed(scores: np.ndarray) -> np.ndarray:
    """Scores [n, ...] of which all but the first and the last are filled."""
    found = _between(scores)
    found[1:-1] *= FILLED
    return found


def fill_gaps(keypoints: np.ndarray, scores: np.ndarray, max_gap: int) -> None:
    """Interpolate gaps of up to `max_gap` frames linearly, in place; [T, 133, 2] and [T, 133].

    First those of the whole person, then those of a hand or the face whose wrist or nose is seen throughout:
    these are interpolated relative to it. A keypoint is filled where both ends of the gap show it. Gaps at
    the beginning and the end stay. Scores are interpolated too: this is for measuring clips, not for drawing.
    """
    body = slice(BODY.start, FEET.stop)
    for start, stop in gaps(scores.any(1), max_gap):
        for part in (body, FACE, LEFT_HAND, RIGHT_HAND):
            _interpolate(keypoints[:, part], scores[:, part], start, stop)
    for part, anchor in ANCHORS:
        for start, stop in gaps(scores[:, part].any(1), max_gap):
            if (scores[start - 1 : stop + 1, anchor] > 0).all():
                carrier = keypoints[:, anchor, None].copy()
                relative = keypoints[:, part] - carrier
                _interpolate(relative, scores[:, part], start, stop)
                seen = scores[start:stop, part, None] > 0
                keypoints[start:stop, part] = np.where(seen, (relative + carrier)[start:stop], 0)


def gaps(known: np.ndarray, longest: int) -> Iterator[tuple[int, int]]:
    """[start, stop) of each run of up to `longest` unknown frames, bool [T], between two known ones."""
    frames = np.flatnonzero(known)
    for before, after in pairwise(frames):
        if 1 < after - before <= longest + 1:
            yield int(before) + 1, int(after)


def _interpolate(keypoints: np.ndarray, scores: np.ndarray, start: int, stop: int) -> None:
    """Fill [start, stop) linearly between its neighbours, in place, where both show the keypoint."""
    first, last = start - 1, stop
    both = (scores[first] > 0) & (scores[last] > 0)
    for frame in range(start, stop):
        part = (frame - first) / (last - first)
        for values, mask in ((keypoints, both[:, None]), (scores, both)):
            values[frame] = np.where(mask, (1 - part) * values[first] + part * values[last], 0)
