"""Fits of one scale and one offset for the whole skeleton and the whole sequence.

A fit maps fractions of the dancer's frame to fractions of the reference's, value * scale + offset for x and
y. It applies to body, hands and face alike and leaves the scores as they are. Three ways:

    published   the published least squares, kept as it is: it shrinks the skeleton as the motion grows
    robust      lengths of bones and the head: does not shrink, never turns the skeleton over
    none        the dancer's whole frame inside the reference's, keeping its aspect
"""

import math
from dataclasses import dataclass, field, replace

import numpy as np

from ...errors import PoseError
from ...media.placement import Placement, Size
from ...types import PoseSequence
from .. import skeleton
from ..skeleton import BODY_LIMBS, VISIBLE
from .proportions import LIMB_TOLERANCE, limb_ratios, worst_limb

FITTED_JOINTS = [0, 1, 2, 5, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17]
"""OpenPose body points that enter a fit (published): all but elbows and wrists."""

BONES = (
    (2, 3), (3, 4), (5, 6), (6, 7), (8, 9), (9, 10), (11, 12), (12, 13), (8, 11), (2, 5), (14, 15), (16, 17),
)  # fmt: skip
"""Pairs of OpenPose body points that stay equally far apart: arms, legs, hips, shoulders, eyes and ears. From
shoulder to hip is none: that stretches with raised arms, and where the dancer leans."""

BONE_WEIGHTS = (1, 1, 1, 1, 1, 1, 1, 1, 1, 0.5, 0.5, 0.5)
"""What each bone counts for in a fit: shoulders less, since they draw in while arms are raised, and those of
the head less, since it turns more than a body."""

HEAD = [0, 14, 15, 16, 17]
"""Nose, eyes and ears. The nose lies in front, so while a head turns, one way they come nearer to each other
and another way they part: their spread hardly changes. Of 144 dances of drawn dancers beside a picture of
head and shoulders it told the size within 3 % in all; the distance of the eyes in 81 %, that of the shoulders
in 56 %. Where all five show, it stands for the bones between them."""

HEAD_WEIGHT = 2
"""What it counts for: with this all 576 dances beside pictures cut at feet, knees, waist and chest are within
2.5 %."""

FULL_LENGTH = 0.9
"""Quantile of a bone's lengths over the frames that is taken for its length seen from the side: nearly the
longest, but for frames in which it was found wrong."""

MIN_JOINTS = 3
"""Fewer common joints than this say nothing about a scale."""


@dataclass(frozen=True, slots=True)
class Alignment:
    """A fit, and what is worth saying about it.

    `scale` and `offset` (x, y) act on fractions; `size` (width, height) is what the results are fractions of;
    `method` is what was used in the end; `limbs` is the length of each limb over the reference's, where both
    are seen; `note` is empty or a sentence for the user.
    """

    scale: tuple[float, float]
    offset: tuple[float, float]
    size: Size
    method: str
    limbs: dict[str, float] = field(default_factory=dict)
    note: str = ""

    def apply(self, poses: PoseSequence) -> PoseSequence:
        """The poses in pixels of `size`; scores and frame rate stay, and so do keypoints that score 0."""
        fractions = poses.keypoints.astype(np.float64) / poses.size
        points = (fractions * self.scale + self.offset) * self.size
        points = np.where(poses.scores[..., None] > 0, points, poses.keypoints)
        return PoseSequence(points, poses.scores, self.size, poses.fps)


def align_published(dance: PoseSequence, reference: PoseSequence) -> Alignment:
    """The published fit over all frames. How sure the dancer's joints are plays no role, as published, but
    those that score 0 have no place and stay out (DWPose, which the fit was made for, always gives one).
    """
    points, _ = _body_fractions(dance)
    target, visible = _body_fractions(reference)
    known = _placed(dance)[:, FITTED_JOINTS] & visible[0, FITTED_JOINTS]
    if known.any(0).sum() < 2:
        raise PoseError(
            f"the published alignment needs two joints that dancer and character both show, there are "
            f"{known.any(0).sum()}: use the alignment robust or none"
        )
    wanted = np.broadcast_to(target[0, FITTED_JOINTS], (*known.shape, 2))
    ours, theirs = points[:, FITTED_JOINTS][known], wanted[known]
    if np.ptp(ours[:, 1]) == 0 or np.ptp(theirs[:, 1]) == 0:
        raise PoseError(
            "the published alignment needs joints at different heights, and those that dancer and character "
            "both show are at one: use the alignment robust or none"
        )
    aspect = (dance.size[1] / dance.size[0]) / (reference.size[1] / reference.size[0])
    scale, offset = least_squares(ours, theirs, aspect)
    note = "" if scale[1] > 0 else "the published alignment turns the skeleton over here: use robust"
    return _checked(Alignment(scale, offset, reference.size, "published", note=note), dance, reference)


def least_squares(
    dance: np.ndarray, reference: np.ndarray, aspect: float
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Scale and offset, each (x, y), of points `dance` [n, 2] onto `reference` [n, 2]: fractions, float64.

    y is the least-squares line of the dancer's values to the reference's. The scale in x follows from the one
    in y and `aspect`, the dance's height / width over the reference's; the offset in x is the mean rest.
    Source: the pose alignment of ControlNeXt-SVD-v2 and MimicMotion.
    """
    scale_y, offset_y = np.polyfit(dance[:, 1], reference[:, 1], 1)
    scale_x = scale_y / aspect
    offset_x = (reference[:, 0] - scale_x * dance[:, 0]).mean()
    return (float(scale_x), float(scale_y)), (float(offset_x), float(offset_y))


def align_robust(dance: PoseSequence, reference: PoseSequence) -> Alignment:
    """Scale: the median ratio of bones, character's over dancer's. Offset: the median rest of the joints.

    A bone's picture is never longer than the bone, so what the dancer's is worth is a high quantile of its
    lengths over the frames; the median would be too short by how much the dance turns and bends, and a
    reference that shows few bones would make the dancer too large. Lengths are positive and do not change
    when the dancer sways, jumps or turns over, so neither the skeleton's size nor its sign depends on the
    motion. Joints outside their frame are guesses: they enter only where there are too few others.
    """
    points, seen = _body_fractions(dance)
    target, visible = _body_fractions(reference)
    inner, shown = seen & _inside(points), visible & _inside(target)
    points, target = points * dance.size, target * reference.size
    for known, wanted in ((inner, shown[0]), (seen, visible[0])):
        joints = [j for j in FITTED_JOINTS if wanted[j] and known[:, j].any()]
        ratios, weights = _bone_ratios(points, known, target[0], wanted)
        if len(joints) >= MIN_JOINTS and len(ratios):
            break
    else:
        fallback = align_none(dance, reference)
        short = f"{len(joints)} joints" if len(joints) < MIN_JOINTS else "joints without a bone between them"
        note = f"only {short} are visible in both dancer and character: placed without a fit"
        return replace(fallback, note=note)
    zoom = weighted_median(ratios, weights)
    middles = np.array([np.median(points[known[:, j], j], axis=0) for j in joints])
    shift = np.median(target[0, joints] - zoom * middles, axis=0)
    return _checked(_from_pixels(zoom, shift, dance.size, reference.size, "robust"), dance, reference)


def align_none(dance: PoseSequence, reference: PoseSequence) -> Alignment:
    """The dancer's whole frame, as large as it fits and centred, in the reference's; joints play no role."""
    source, target = np.array(dance.size, float), np.array(reference.size, float)
    zoom = float((target / source).min())
    return _from_pixels(zoom, (target - zoom * source) / 2, dance.size, reference.size, "none")


def placed_alignment(placement: Placement) -> Alignment:
    """Where keypoints go when their picture is placed so (`stages.media.picture.place`)."""
    (width, height), scaled, (x, y) = placement.size, placement.scaled, placement.corner
    scale, offset = (scaled[0] / width, scaled[1] / height), (x / width, y / height)
    return Alignment(scale, offset, placement.size, "placed")


def weighted_median(values: np.ndarray, weights: np.ndarray) -> float:
    """The median of `values`, each as often as its weight; between two, in proportion. Both [n], n > 0."""
    order = np.argsort(values, kind="stable")
    middles = np.cumsum(weights[order]) - weights[order] / 2
    return float(np.interp(weights.sum() / 2, middles, values[order]))


def _body_fractions(poses: PoseSequence) -> tuple[np.ndarray, np.ndarray]:
    """OpenPose body as fractions, float64 [T, 18, 2], and which joints are seen, bool [T, 18]."""
    points, scores = skeleton.to_openpose(poses.keypoints, poses.scores)
    body = skeleton.OPENPOSE_BODY
    return points[:, body] / poses.size, scores[:, body] > VISIBLE


def _placed(poses: PoseSequence) -> np.ndarray:
    """Which OpenPose body joints have a place, bool [T, 18]: those that score above 0; necks between such."""
    _, scores = skeleton.to_openpose(poses.keypoints, poses.scores)
    placed = scores[:, skeleton.OPENPOSE_BODY] > 0
    shoulders = [skeleton.LEFT_SHOULDER, skeleton.RIGHT_SHOULDER]
    placed[:, skeleton.NECK] = (poses.scores[:, shoulders] > 0).all(1)
    return placed


def _inside(fractions: np.ndarray) -> np.ndarray:
    """Which points [..., 2] lie in the frame, bool [...]."""
    return ((fractions >= 0) & (fractions < 1)).all(-1)


def _bone_ratios(
    points: np.ndarray, seen: np.ndarray, target: np.ndarray, visible: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Length of each bone that both show, and spread of the head, in `target` [18, 2] over that in `points`
    [T, 18, 2]; the weight of each."""
    ratios, weights = [], []
    heads = _spread(points, seen, HEAD), _spread(target[None], visible[None], HEAD)
    if min(heads) > 0:
        ratios.append(heads[1] / heads[0])
        weights.append(HEAD_WEIGHT)
    for (a, b), weight in zip(BONES, BONE_WEIGHTS, strict=True):
        if a in HEAD and min(heads) > 0:
            continue
        length = _length(points, seen, a, b, FULL_LENGTH)
        wanted = math.dist(target[a], target[b]) if visible[a] and visible[b] else 0.0
        if length > 0 and wanted > 0:
            ratios.append(wanted / length)
            weights.append(weight)
    return np.array(ratios), np.array(weights)


def _spread(points: np.ndarray, seen: np.ndarray, joints: list[int]) -> float:
    """Median over the frames that show all these joints of their distance from their middle; 0 for none."""
    shown = points[seen[:, joints].all(1)][:, joints]
    if not len(shown):
        return 0.0
    away = shown - shown.mean(1, keepdims=True)
    return float(np.median(np.sqrt((away**2).sum((1, 2)))))


def _length(points: np.ndarray, seen: np.ndarray, a: int, b: int, quantile: float) -> float:
    """A quantile of the distance of joints a and b over the frames that show both; 0 where none does."""
    both = seen[:, a] & seen[:, b]
    if not both.any():
        return 0.0
    return float(np.quantile(np.linalg.norm(points[both, a] - points[both, b], axis=-1), quantile))


def _from_pixels(zoom: float, shift: np.ndarray, source: Size, target: Size, method: str) -> Alignment:
    """target pixel = zoom * source pixel + shift, written for fractions."""
    scale = (zoom * source[0] / target[0], zoom * source[1] / target[1])
    offset = (float(shift[0]) / target[0], float(shift[1]) / target[1])
    return Alignment(scale, offset, target, method)


def _checked(fit: Alignment, dance: PoseSequence, reference: PoseSequence) -> Alignment:
    """The fit with its limbs, and a note where their median length is far from the reference's."""
    aligned = fit.apply(dance)
    points, seen = _body_fractions(aligned)
    target, visible = _body_fractions(reference)
    points, target = points * fit.size, target * fit.size
    ratios = []
    for a, b in BODY_LIMBS:
        wanted = _length(target[:1], visible[:1], a, b, 0.5)
        length = _length(points, seen, a, b, 0.5)
        if wanted > 0 and length > 0:
            ratios.append(length / wanted)
    limbs, note = limb_ratios(aligned, dance, reference), fit.note
    ratio = float(np.median(ratios)) if ratios else 1.0
    if not note and not 1 / LIMB_TOLERANCE <= ratio <= LIMB_TOLERANCE:
        note = f"the aligned limbs are {ratio:.2f} times as long as the reference's: look at the poses"
    return replace(fit, limbs=limbs, note=note or worst_limb(limbs))
