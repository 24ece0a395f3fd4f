"""A second look at hands that were not found: where to look, and which fingers belong to the wrist.

Any estimator can use it: it knows keypoints alone. An estimator that finds a hand in a crop looks in the
squares that are told here, and asks `fits` before it takes one.
"""

import math
from dataclasses import dataclass, replace

import numpy as np

from ..skeleton import LEFT_HAND, RIGHT_HAND, VISIBLE

WRIST_SEEN = 0.5
"""A hand is looked for again where its wrist scores at least this."""

CROP_AHEAD, CROP_REACH = 0.3, 0.9
"""The crop around a hand that may point anywhere: its centre this many forearms beyond the wrist, and how
many forearms it reaches to each side."""

HAND_SIDE = 1.0
"""Side of the square around a hand, in forearms: 0.7 to 1.3 on hands that were found in two real clips."""

BENT = 0.7
"""How far a hand is bent at its wrist where the square along the forearm shows too little of it, in radians,
either way: with it the fingers of hands bent by a right angle were found."""

WIDER = 1.4
"""How many times as wide the crop is in which palms are looked for last: hands near its edge, and those that
are large for their forearm, are whole there."""

ROOT_REACH = 0.45
"""A hand's root lies nearer than this many forearms to the body's wrist: 0.29 in nine of ten hands found."""

SIZES = (0.25, 2.5)
"""Least and largest side of a hand's square in forearms (assumed: fists, and hands near the camera)."""

CHANGE = 2.0
"""A hand's square is at most this many times as large as in the frame before, or as small."""

OWN = 0.5
"""How surely a hand must be the left or the right one that it is looked for as, 0 to 1."""

OWN_APART = 0.1
"""The same where the other wrist is farther than a forearm away. There the arm tells whose hand it is: seen
edge on, right hands of right arms were called left by up to 0.9, their fingers well placed."""

SURE, UNSURE = 0.8, 0.6
"""A hand that is so surely the left or the right one tells whether its palm or its back is seen. One that is
less sure than the second may be mirrored, with its little finger where the index finger is."""

FLAT = 0.12
"""A hand whose `facing` is less than this is seen edge on: palm or back cannot be told (assumed)."""

TURNED_AFTER = 10
"""Frames after which a hand may have been turned over. On two real clips unsure hands that faced another way
than a sure one so shortly before were mirrored wherever the fingers could be told."""

ONE_HAND = 0.1
"""Left and right hands whose points lie nearer than this part of their square's side are one hand."""

UPPER_ARM = 0.8
"""A forearm in upper arms, of adults (0.146 over 0.186 of the height; Drillis and Contini, 1966)."""

PALM = (0, 1, 2, 3, 5, 6, 9, 10, 13, 14, 17, 18)
"""The points of a hand that span its square: all but the far half of the fingers."""


@dataclass(frozen=True, slots=True)
class Side:
    """The keypoints of one arm: its hand's slice, its joints, and the other arm's wrist."""

    hand: slice
    elbow: int
    wrist: int
    other_wrist: int


LEFT, RIGHT = Side(LEFT_HAND, 7, 9, 10), Side(RIGHT_HAND, 8, 10, 9)


@dataclass(frozen=True, slots=True)
class Square:
    """A square of a frame: centre and side in pixels, rotation in radians, clockwise, 0 for upright."""

    x: float
    y: float
    side: float
    rotation: float = 0.0


@dataclass(frozen=True, slots=True)
class Hand:
    """A hand in a frame: points [21, 2] in pixels, score, and how surely it is of the side meant, 0 to 1."""

    points: np.ndarray
    score: float
    own: float


def forearm_length(keypoints: np.ndarray, scores: np.ndarray) -> float:
    """The length of a person's forearm in pixels, 0 where no arm is seen; [133, 2] and [133].

    The longest of what is seen of both arms, since an arm that points at the camera is short in the frame.
    """
    bones = ((7, 9, 1.0), (8, 10, 1.0), (5, 7, UPPER_ARM), (6, 8, UPPER_ARM))
    seen = [
        part * float(np.linalg.norm(keypoints[a] - keypoints[b]))
        for a, b, part in bones
        if min(scores[a], scores[b]) > VISIBLE
    ]
    return max(seen, default=0.0)


def is_missing(keypoints: np.ndarray, scores: np.ndarray, side: Side) -> bool:
    """Whether a hand is to be looked for again: its wrist is seen and the hand is not; [133, 2] and [133]."""
    arm = scores[side.wrist] >= WRIST_SEEN and scores[side.elbow] > VISIBLE
    return bool(arm and not scores[side.hand].any() and forearm_length(keypoints, scores) > 0)


def crop_square(keypoints: np.ndarray, scores: np.ndarray, side: Side) -> Square:
    """The upright square around a hand that may point anywhere: for a detector of hands."""
    length = forearm_length(keypoints, scores)
    x, y = keypoints[side.wrist] + CROP_AHEAD * length * _along(keypoints, side)
    return Square(float(x), float(y), 2 * CROP_REACH * length)


def arm_square(keypoints: np.ndarray, scores: np.ndarray, side: Side) -> Square:
    """The square around a hand that goes on along its forearm, fingers up: for a model of hands' points."""
    length, along = forearm_length(keypoints, scores), _along(keypoints, side)
    x, y = keypoints[side.wrist] + CROP_AHEAD * length * along
    return Square(float(x), float(y), HAND_SIDE * length, _up(along))


def bent_squares(square: Square) -> list[Square]:
    """The squares of a hand that is bent at its wrist, to either side of `square`, which goes on straight."""
    return [replace(square, rotation=square.rotation + turn) for turn in (BENT, -BENT)]


def hand_square(points: np.ndarray) -> Square:
    """The square around a hand's points [21, 2], fingers up: MediaPipe's HandLandmarkLandmarksToRoi."""
    fingers = ((points[6] + points[14]) / 2 + points[10]) / 2
    rotation = _up(fingers - points[0])
    turn = np.array([[math.cos(rotation), -math.sin(rotation)], [math.sin(rotation), math.cos(rotation)]])
    flat = points[list(PALM)] @ turn  # in the square's own axes
    low, high = flat.min(0), flat.max(0)
    width, height = high - low
    x, y = turn @ ((low + high) / 2 - (0, 0.1 * height))
    return Square(float(x), float(y), 2 * float(max(width, height)), rotation)


def fits(
    hand: Hand,
    keypoints: np.ndarray,
    scores: np.ndarray,
    side: Side,
    before: np.ndarray | None = None,
) -> bool:
    """Whether a hand is that of this arm: its root at the wrist, of a hand's size, and left or right.

    `keypoints` [133, 2], `scores` [133] are the body's; `before` [21, 2] are the hand's points in the last
    frame, if it was found there.
    """
    length = forearm_length(keypoints, scores)
    if not at_wrist(hand.points, keypoints, scores, side):
        return False
    size = hand_square(hand.points).side
    if not SIZES[0] * length <= size <= SIZES[1] * length:
        return False
    if before is not None and not 1 / CHANGE <= size / hand_square(before).side <= CHANGE:
        return False
    apart = np.linalg.norm(hand.points[0] - keypoints[side.other_wrist]) > length
    return hand.own >= (OWN_APART if apart and scores[side.other_wrist] >= WRIST_SEEN else OWN)


def facing(points: np.ndarray) -> float:
    """Which face of a hand [21, 2] is seen, by its sign, and how widely: about 1 from in front, 0 edge on.

    The area between wrist and the roots of index and little finger, in squares of the palm's length.
    """
    to_index, to_little, to_middle = (points[i] - points[0] for i in (5, 17, 9))
    area = to_index[0] * to_little[1] - to_index[1] * to_little[0]
    return float(area / max(float(to_middle @ to_middle), 1e-6))


def is_mirrored(hand: Hand, before: float) -> bool:
    """Whether an unsure hand faces another way than a sure one did just before, whose `facing` this is."""
    now = facing(hand.points)
    return hand.own < UNSURE and min(abs(now), abs(before)) > FLAT and now * before < 0


def at_wrist(points: np.ndarray, keypoints: np.ndarray, scores: np.ndarray, side: Side) -> bool:
    """Whether the root of a hand [21, 2] lies at the body's wrist, as far as an arm is seen."""
    length = forearm_length(keypoints, scores)
    away = float(np.linalg.norm(points[0] - keypoints[side.wrist]))
    return length == 0 or scores[side.wrist] <= VISIBLE or away < ROOT_REACH * length


def refuse_twins(keypoints: np.ndarray, scores: np.ndarray) -> None:
    """Of one hand that was found for both arms, drop that of the arm whose wrist is farther; in place."""
    if scores[LEFT_HAND].any() and scores[RIGHT_HAND].any():
        left, right = keypoints[LEFT_HAND], keypoints[RIGHT_HAND]
        size = max(hand_square(left).side, hand_square(right).side)
        if np.linalg.norm(left - right, axis=1).mean() < ONE_HAND * size:
            away = [np.linalg.norm(keypoints[side.hand][0] - keypoints[side.wrist]) for side in (LEFT, RIGHT)]
            worse = RIGHT if away[1] >= away[0] else LEFT
            keypoints[worse.hand], scores[worse.hand] = 0, 0


def _along(keypoints: np.ndarray, side: Side) -> np.ndarray:
    """The direction of the forearm, from elbow to wrist, of length 1; down where both are one point."""
    along = keypoints[side.wrist].astype(np.float64) - keypoints[side.elbow]
    length = np.linalg.norm(along)
    return along / length if length > 0 else np.array([0.0, 1.0])


def _up(along: np.ndarray) -> float:
    """The rotation of a square in which this direction points up."""
    return math.pi / 2 - math.atan2(-along[1], along[0])
