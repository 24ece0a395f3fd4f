"""How long the limbs of a pose are: what a fit compares between dancer and character, limb by limb.

A limb's picture is never longer than the limb, so over many frames a high quantile of its lengths tells how
long it is when seen from the side.
"""

from collections.abc import Mapping

import numpy as np

from ...types import NUM_KEYPOINTS, PoseSequence
from ..skeleton import LEFT_HAND, RIGHT_HAND, VISIBLE

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
    "left hand": (LEFT_HAND.start, LEFT_HAND.start + 9),
    "right hand": (RIGHT_HAND.start, RIGHT_HAND.start + 9),
}
"""The two points of each limb; of a hand its root and the middle finger's knuckle."""

HEAD = [0, 1, 2, 3, 4]
"""Nose, eyes and ears: their spread is the size of the head."""

QUANTILE = 0.9
"""Quantile of a limb's lengths over the frames that is taken for its full length: nearly the longest, but for
frames in which it was found wrong."""
QUANTILES = {"head": 0.5, "neck": 0.75, "trunk": 0.75}
"""Where it is another: raised arms and bent heads make these longer too. Of 64 dances of drawn dancers beside
stills of them the median is 1.00 for the head, and at 0.75 0.96 for the neck and 1.06 for the trunk."""

AVERAGE = {
    "trunk": 0.30, "neck": 0.115, "shoulders": 0.21, "hips": 0.10, "upper arm": 0.165, "forearm": 0.14,
    "thigh": 0.24, "shin": 0.21, "hand": 0.055,
}  # fmt: skip
"""Lengths of an average body between keypoints, in fractions of its height: those of drawn dancers, within
15 % of three real figures; as Drillis and Contini have them ("Body Segment Parameters", 1966)."""

WITNESSES = (
    ("forearm", "upper arm", 0.7), ("upper arm", "forearm", 0.7), ("hand", "forearm", 0.7),
    ("shin", "thigh", 0.7), ("thigh", "shin", 0.7),
    ("trunk", "shoulders", 0.6), ("shoulders", "trunk", 0.6), ("hips", "trunk", 0.5),
)  # fmt: skip
"""A limb, and another that tells what to expect of it in an average body: where it is shorter than this part
of that, it points at the camera. Short limbs on a long trunk are left as they are, and stay short."""
SIDES = 0.85
"""A limb that is shorter than this part of the other side's points at the camera."""

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


def shown_points(poses: PoseSequence) -> tuple[np.ndarray, np.ndarray]:
    """Which of the 135 points are seen, and which of these within the picture, bool [T, 135] each.

    Points outside the picture are an estimator's guesses.
    """
    points, scores = with_middles(poses)
    seen = scores > VISIBLE
    return seen, seen & ((points >= 0) & (points < poses.size)).all(-1)


def limb_lengths(poses: PoseSequence, seen: np.ndarray) -> dict[str, float]:
    """Full length in pixels of each limb whose points some frame shows (`seen`, bool [T, 135]), and of the
    "head" its spread."""
    points, _ = with_middles(poses)
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


def limb_ratios(fitted: PoseSequence, dance: PoseSequence, reference: PoseSequence) -> dict[str, float]:
    """Each limb's full length in the fitted poses over the character's in its picture, where both show it.

    `dance` are the poses before they were fitted: points within their picture count before others.
    """
    seen, inner = shown_points(dance)
    lengths = {**limb_lengths(fitted, seen), **limb_lengths(fitted, inner)}
    wanted = limb_lengths(reference[:1], shown_points(reference[:1])[1])
    return {name: length / wanted[name] for name, length in lengths.items() if name in wanted}


def unshortened(lengths: Mapping[str, float]) -> tuple[dict[str, float], list[str]]:
    """Lengths of limbs, those that point at the camera as long as other limbs let expect, and their names.

    A limb is held against the other side, and against its neighbour by an average body's proportions. A side
    that is not shown is as long as the other.
    """
    out, changed = dict(lengths), []
    for part in AVERAGE:
        left, right = f"left {part}", f"right {part}"
        longest = max(out.get(left, 0), out.get(right, 0))
        for name in (left, right):
            if longest and out.get(name, 0) < SIDES * longest:
                out[name] = longest
                changed.append(name)
    for one, other, least in WITNESSES:
        for a, b in pairs_of(one, other):
            if a in out and b in out:
                expected = out[b] * AVERAGE[one] / AVERAGE[other]
                if out[a] < least * expected:
                    out[a] = expected
                    changed.append(a)
    return out, [name for name in lengths if name in changed]


def pairs_of(one: str, other: str) -> list[tuple[str, str]]:
    """The names of two parts on each side, or in the middle."""
    if one in LIMBS:
        return [(one, other)]
    return [(f"{side} {one}", f"{side} {other}") for side in ("left", "right")]


def worst_limb(ratios: Mapping[str, float], tolerance: float = LIMB_TOLERANCE) -> str:
    """A sentence on the limb that is furthest from 1, where that is more than a factor of `tolerance`."""
    off = {name: max(ratio, 1 / ratio) for name, ratio in ratios.items()}
    name = max(off, key=off.__getitem__, default="")
    if not name or off[name] <= tolerance:
        return ""
    ratio = f"{ratios[name]:.2f} times as long as the character's"
    return f"the dancer's {name} comes out {ratio}: look at the poses"
