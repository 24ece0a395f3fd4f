"""Which parts of the body a dance shows, and which lie outside its picture or were never found."""

import numpy as np

from ..types import PoseSequence
from .skeleton import LEFT_HAND, RIGHT_HAND, VISIBLE

PARTS: dict[str, list[int]] = {
    "head": [0, 1, 2, 3, 4],
    "shoulders": [5, 6],
    "hands": [*range(LEFT_HAND.start, RIGHT_HAND.stop)],
    "hips": [11, 12],
    "knees": [13, 14],
    "feet": [15, 16],
}
"""Keypoints of each part, from top to bottom; of feet the ankles, which every estimator has."""
SELDOM = 0.1
"""A part that shows in less than this share of the frames is not shown (assumed)."""


def hidden_parts(poses: PoseSequence) -> list[str]:
    """The names of PARTS of which hardly any frame shows a keypoint inside the picture, from top to bottom.

    Frames without a person do not count; without any there is no part to name.
    """
    inside = ((poses.keypoints >= 0) & (poses.keypoints < poses.size)).all(-1)
    shown = (inside & (poses.scores > VISIBLE))[poses.scores.any(1)]
    if not len(shown):
        return []
    return [name for name, points in PARTS.items() if np.mean(shown[:, points].any(1)) < SELDOM]


def listed(names: list[str]) -> str:
    """Names as in a sentence: a, b and c."""
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))
