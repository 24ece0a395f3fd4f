"""Wan2.2-Animate's published way to fit a dancer to a character, as it was published.

Source: `get_retarget_pose` of `wan/modules/animate/preprocess` in Wan-Video/Wan2.2 (commit 42bf4cf), without
its edited pictures. Each bone keeps its direction and is longer by the ratio of the character's bone to the
dancer's in the **first** frame alone; the first frame stands on the character's feet, or at its neck. What
that costs is kept: a bone that the first frame shows foreshortened makes every later one too long, joints
that were guessed count like those that were seen, and hands are moved by whole pixels.
"""

import math
from dataclasses import dataclass, field, replace

import numpy as np

from ...errors import PoseError
from ...media.placement import Size
from ...types import PoseSequence
from .. import skeleton
from .proportions import limb_ratios, worst_limb

NOSE, NECK, RIGHT_WRIST, LEFT_WRIST = 0, 1, 4, 7
HIPS, ANKLES, TOES = [8, 11], [10, 13], [19, 18]

BONES = (
    (1, 2), (1, 5), (2, 3), (3, 4), (5, 6), (6, 7), (1, 8), (8, 9), (9, 10), (1, 11), (11, 12), (12, 13),
    (1, 0), (0, 14), (14, 16), (0, 15), (15, 17), (13, 18), (10, 19),
)  # fmt: skip
"""Bones of the 20 points, from parent to child, in the order in which they are carried on."""

PAIRS = ((0, 1), (2, 4), (3, 5), (6, 9), (7, 10), (8, 11), (17, 18))
"""Bones of which the left and the right one get the larger ratio of the two."""
MEAN_PAIRS = ((13, 15), (14, 16))
"""Those of the eyes and ears, which get the mean of theirs."""
FEET = ((18, 8), (17, 11))
"""Each foot and its shin: a foot is at most LONGEST_FOOT of it."""
LONGEST_FOOT = 0.5

PARTS = (
    (skeleton.FACE, NOSE, ((NOSE, 14), (NOSE, 15))),
    (slice(17, 20), ANKLES[1], ((13, 18),)),
    (slice(20, 23), ANKLES[0], ((10, 19),)),
)
"""Face and feet, which Wan leaves out: points of the 133, where they hang, the bones as which they grow."""

SURE = 0.5
"""A joint that scores above this tells how large the figure is."""
THRESHOLD = 0.4
"""What a joint must score so that the picture shows it, and a point of a hand so that it is kept."""
_FIRST = [0, 6, 6, 8, 10, 5, 7, 9, 12, 14, 16, 11, 13, 15, 2, 1, 4, 3, 17, 20]
_SECOND = [0, 5, 6, 8, 10, 5, 7, 9, 12, 14, 16, 11, 13, 15, 2, 1, 4, 3, 18, 21]
_BODY = [i for i in range(18) if i != NECK]


def body20(keypoints: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """The 20 points of each frame, float64 [T, 20, 3] of x, y and score: OpenPose's 18, left and right toe.

    The neck is the mean of the shoulders and a toe that of the big and the small one, their scores too.
    """
    points = np.concatenate([keypoints, scores[..., None]], -1).astype(np.float64)
    return (points[:, _FIRST] + points[:, _SECOND]) / 2


@dataclass(frozen=True, slots=True)
class WanFit:
    """Wan's fit: `ratios` [19] of BONES, dance to the character's picture times `zoom`; then `offset` (x, y)
    is taken off, and all divided by `zoom`, which gives pixels of `size`. `limbs` as in `limb_ratios`."""

    ratios: np.ndarray
    offset: tuple[float, float]
    zoom: float
    size: Size
    method: str = "wan"
    limbs: dict[str, float] = field(default_factory=dict)
    note: str = ""

    def apply(self, poses: PoseSequence) -> PoseSequence:
        """The poses in pixels of `size`. Points that score 0 stay, as do the scores, but points of a hand
        that score below 0.4 are dropped. What Wan leaves out goes along: the face with the nose, in the size
        of the eyes' bones, and what a foot has besides the toes with the ankle."""
        before = body20(poses.keypoints, poses.scores)
        after = self.body(before)
        points, scores = poses.keypoints.astype(np.float64), poses.scores.copy()
        points[:, skeleton.BODY] = after[:, _BODY, :2][:, np.argsort(np.array(_FIRST)[_BODY])]
        for hand, fitted in zip(
            (skeleton.LEFT_HAND, skeleton.RIGHT_HAND), self.hands(poses, before, after), strict=True
        ):
            kept = np.isfinite(fitted).all(-1)
            points[:, hand][kept] = fitted[kept]
            scores[:, hand][~kept] = 0
        with np.errstate(divide="ignore", invalid="ignore"):
            for part, joint, bones in PARTS:
                lengths = [np.sum([_length(body, bone) for bone in bones], 0) for body in (before, after)]
                away = points[:, part] - before[:, None, joint, :2]
                points[:, part] = after[:, None, joint, :2] + (lengths[1] / lengths[0])[:, None, None] * away
        usable = (scores > 0) & np.isfinite(points).all(-1)
        points = np.where(usable[..., None], points, poses.keypoints)
        return PoseSequence(points, np.where(usable, scores, 0), self.size, poses.fps)

    def body(self, points: np.ndarray) -> np.ndarray:
        """The 20 points [T, 20, 3] of some frames, fitted."""
        moved = carried(points, self.ratios)
        moved[..., :2] = (moved[..., :2] - self.offset) / self.zoom
        return moved

    def hands(
        self, poses: PoseSequence, before: np.ndarray, after: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Left and right hand, [T, 21, 2] each, in whole pixels, NaN where a point is not kept.

        Both are as much larger as the shoulders are. A hand's root goes to its wrist, but where the right
        hand lies nearer to the left wrist the two are taken to be swapped.
        """
        factor = max(self.ratios[0], self.ratios[1]) / self.zoom
        roots, moved = [], []
        for hand, wrist in ((skeleton.RIGHT_HAND, RIGHT_WRIST), (skeleton.LEFT_HAND, LEFT_WRIST)):
            points = poses.keypoints[:, hand].astype(np.float64)
            kept = poses.scores[:, hand] >= THRESHOLD
            root = np.where(kept[:, :1], points[:, 0], -np.array(poses.size))
            moved.append(np.where(kept[..., None], points[:, :1] + factor * (points - points[:, :1]), np.nan))
            shift = after[:, wrist, :2] - before[:, wrist, :2]
            shift += np.where(kept[:, :1], before[:, wrist, :2] - root, 0)
            roots.append((root, shift))
        (right_root, right_shift), (_, left_shift) = roots
        right, left = moved
        away = [
            np.linalg.norm(before[:, wrist, :2] - right_root, axis=-1) for wrist in (RIGHT_WRIST, LEFT_WRIST)
        ]
        swapped = (away[0] > away[1])[:, None, None]
        with np.errstate(invalid="ignore"):
            return (
                np.trunc(np.where(swapped, right, left) + left_shift[:, None]),
                np.trunc(np.where(swapped, left, right) + right_shift[:, None]),
            )


def align_wan(dance: PoseSequence, reference: PoseSequence) -> WanFit:
    """The fit of the dancer's first frame to the first of `reference`."""
    first = body20(dance.keypoints[:1], dance.scores[:1])[0]
    still = body20(reference.keypoints[:1], reference.scores[:1])[0]
    zoom = figure_height(first, still, dance.size, reference.size)
    canvas = [int(side * zoom) for side in reference.size]
    target = still[:, :2] / reference.size * canvas
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = paired(_lengths(target) / _lengths(first[:, :2]))
    extent = min(shown(first, dance.size), shown(still, reference.size))
    offset = _ground(carried(first[None], ratios)[0], target, whole=extent == 2)
    fit = WanFit(ratios, offset, zoom, reference.size)
    limbs = limb_ratios(fit.apply(dance), dance, reference)
    return replace(fit, limbs=limbs, note=worst_limb(limbs))


def figure_height(dance: np.ndarray, character: np.ndarray, size: Size, target: Size) -> float:
    """How much higher the dancer's figure is, [20, 3] each: from the nose to the ankles, else to the hips,
    where both are sure of them; else by the areas of the pictures."""
    for ends in (ANKLES, HIPS):
        if min(dance[[NOSE, *ends], 2].min(), character[[NOSE, *ends], 2].min()) > SURE:
            heights = [abs(body[ends, 1].mean() - body[NOSE, 1]) for body in (dance, character)]
            if min(heights) <= 0:
                raise PoseError(
                    "the alignment wan measures from the nose down, which shows no height here: "
                    "use limbs or robust"
                )
            return float(heights[0] / heights[1])
    return math.sqrt(size[0] * size[1]) / math.sqrt(target[0] * target[1])


def shown(body: np.ndarray, size: Size) -> int:
    """How much of a body [20, 3] its picture shows: 2 with hips and ankles, 1 with hips, else 0."""

    def in_picture(joints: list[int]) -> bool:
        return bool((body[joints, 1] <= size[1]).all() and (body[joints, 2] >= THRESHOLD).all())

    return int(in_picture(HIPS)) + int(in_picture(HIPS + ANKLES))


def paired(ratios: np.ndarray) -> np.ndarray:
    """The ratios of BONES, those of the left and the right made equal."""
    out = ratios.copy()
    for a, b in PAIRS:
        out[[a, b]] = out[b] if out[b] > out[a] else out[a]
    for a, b in MEAN_PAIRS:
        out[[a, b]] = (out[a] + out[b]) / 2
    return out


def carried(points: np.ndarray, ratios: np.ndarray) -> np.ndarray:
    """Each bone of `points` [T, 20, 3] as long as its ratio says, carried down the tree from the neck."""
    bones = np.array([points[:, b, :2] - points[:, a, :2] for a, b in BONES])
    angles = np.arctan2(bones[..., 1], bones[..., 0])
    with np.errstate(invalid="ignore"):
        lengths = np.linalg.norm(bones, axis=-1) * ratios[:, None]
        for foot, shin in FEET:
            most = LONGEST_FOOT * lengths[shin]
            lengths[foot] = np.where(lengths[foot] > most, most, lengths[foot])
        bones = lengths[..., None] * np.stack([np.cos(angles), np.sin(angles)], -1)
    moved = points.copy()
    for (a, b), bone in zip(BONES, bones, strict=True):
        moved[:, b, :2] = moved[:, a, :2] + bone
    return moved


def _length(body: np.ndarray, bone: tuple[int, int]) -> np.ndarray:
    """Length of a bone in each frame of `body` [T, 20, 3]."""
    return np.linalg.norm(body[:, bone[0], :2] - body[:, bone[1], :2], axis=-1)


def _lengths(points: np.ndarray) -> np.ndarray:
    """Lengths of BONES of one body [20, 2]."""
    return np.array([math.dist(points[a], points[b]) for a, b in BONES])


def _ground(first: np.ndarray, target: np.ndarray, whole: bool) -> tuple[float, float]:
    """What the first frame, carried on, is off the character: by hips and feet of a whole figure, else by the
    neck. The character stands on the middle of ankle and toe, the dancer on the ankle, as published."""
    if not whole:
        off = first[NECK, :2] - target[NECK]
        return float(off[0]), float(off[1])
    ground = max((target[ankle, 1] + target[toe, 1]) / 2 for ankle, toe in zip(ANKLES, TOES, strict=True))
    return float(first[HIPS, 0].mean() - target[HIPS, 0].mean()), float(first[ANKLES, 1].max() - ground)
