"""How long the limbs of a pose are: what a fit compares between dancer and character, limb by limb.

A limb's picture is never longer than the limb, so over many frames a high quantile of its lengths tells how
long it is when seen from the side.
"""

from collections.abc import Mapping

import numpy as np

from ..types import NUM_KEYPOINTS, PoseSequence
from .skeleton import LEFT_HAND, RIGHT_HAND, VISIBLE

NECK, PELVIS = NUM_KEYPOINTS, NUM_KEYPOINTS + 1
"""Two points that are added to the 133: the middle of the shoulders and that of the hips."""
MIDDLES = {NECK: [5, 6], PELVIS: [11, 12]}

LIMBS = {
    "trunk": (PELVIS, NECK),
    "neck": (NECK, 0),
    "shoulders": (5, 6),
    "hips": (11, 12),
    "left upper arm": (5, 7),
    "right upper arm": (6, 8),
    "left forearm": (7, 9),
    "right forearm": (8, 10),
    "left thigh": (11, 13),
    "right thigh": (12, 14),
    "left shin": (13, 15),
    "right shin": (14, 16),
    "left foot": (15, 17),
    "right foot": (16, 20),
    "left hand": (LEFT_HAND.start, LEFT_HAND.start + 9),
    "right hand": (RIGHT_HAND.start, RIGHT_HAND.start + 9),
}
"""The two points of each limb: of a hand root and middle finger's knuckle, of a foot ankle and big toe."""

HEAD = [0, 1, 2, 3, 4]
"""Nose, eyes and ears: their spread is the size of the head."""

QUANTILE = 0.9
"""Quantile of a limb's lengths over the frames that is taken for its full length: nearly the longest, but for
frames in which it was found wrong."""
QUANTILES = {"head": 0.5, "neck": 0.5}
"""Where a turn makes the picture longer as often as shorter, the middle."""

LIMB_TOLERANCE = 1.5
"""Limbs that come out longer or shorter than the character's by more than this factor are reported."""


def with_middles(poses: PoseSequence) -> tuple[np.ndarray, np.ndarray]:
    """The 133 points, NECK and PELVIS, float64 [T, 135, 2] in pixels, and all scores, float64 [T, 135].

    A middle has the lower score of its two points.
    """
    points = np.empty((len(poses), NUM_KEYPOINTS + 2, 2))
    scores = np.empty(points.shape[:2])
    points[:, :NUM_KEYPOINTS], scores[:, :NUM_KEYPOINTS] = poses.keypoints, poses.scores
    for middle, pair in MIDDLES.items():
        points[:, middle] = points[:, pair].mean(1)
        scores[:, middle] = scores[:, pair].min(1)
    return points, scores


def limb_lengths(poses: PoseSequence, inside: bool = False) -> dict[str, float]:
    """Full length in pixels of each limb that a frame shows, and of the "head" its spread.

    With `inside` only points within the picture count: others are an estimator's guesses.
    """
    points, scores = with_middles(poses)
    seen = scores > VISIBLE
    if inside:
        seen &= ((points >= 0) & (points < poses.size)).all(-1)
    lengths = {}
    for name, (a, b) in LIMBS.items():
        both = seen[:, a] & seen[:, b]
        if both.any():
            away = np.linalg.norm(points[both, a] - points[both, b], axis=-1)
            lengths[name] = float(np.quantile(away, QUANTILES.get(name, QUANTILE)))
    if (whole := seen[:, HEAD].all(1)).any():
        head = points[whole][:, HEAD]
        spread = np.sqrt(((head - head.mean(1, keepdims=True)) ** 2).sum((1, 2)))
        lengths["head"] = float(np.quantile(spread, QUANTILES["head"]))
    return {name: length for name, length in lengths.items() if length > 0}


def limb_ratios(fitted: PoseSequence, reference: PoseSequence) -> dict[str, float]:
    """Each limb's full length in the fitted poses over the character's in its picture, where both show it."""
    wanted = limb_lengths(reference[:1], inside=True)
    return {name: length / wanted[name] for name, length in limb_lengths(fitted).items() if name in wanted}


def worst_limb(ratios: Mapping[str, float], tolerance: float = LIMB_TOLERANCE) -> str:
    """A sentence on the limb that is furthest from 1, where that is more than a factor of `tolerance`."""
    off = {name: max(ratio, 1 / ratio) for name, ratio in ratios.items()}
    name = max(off, key=off.__getitem__, default="")
    if not name or off[name] <= tolerance:
        return ""
    ratio = f"{ratios[name]:.2f} times as long as the character's"
    return f"the dancer's {name} comes out {ratio}: look at the poses"
