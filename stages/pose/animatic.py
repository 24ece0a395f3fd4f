"""An animatic: the picture of a character cut out and bent along the dancer's bones, like a figure of paper.

No model is asked: it shows in seconds where the character will stand and how it will move. Each pixel near a
bone of the dancer comes from the place beside the same bone of the picture, blended where bones meet (linear
blend skinning, inverted: Lewis et al., "Pose Space Deformation", SIGGRAPH 2000, section 2).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np

from ..types import PoseSequence
from . import skeleton
from .skeleton import VISIBLE

LIMBS = (
    ((9, 10), (8, 9)),
    ((12, 13), (11, 12)),
    ((1, 8), (1, 11), (8, 11), (2, 5)),
    ((1, 0),),
    ((2, 3), (3, 4)),
    ((5, 6), (6, 7)),
)
"""Parts that bend as one, from the back to the front: legs, trunk, head, arms; each of bones, which are pairs
of OpenPose body points."""
TRUNK, ARMS = 2, (4, 5)
BONES = tuple(bone for limb in LIMBS for bone in limb)
REACH = {(3, 4): 1.45, (6, 7): 1.45, (9, 10): 1.2, (12, 13): 1.2, (1, 0): 1.5}
"""Bones that go on beyond their second point: hands, feet and the head have none of their own."""
SHARPNESS = 4
"""Power of the distance with which a bone's part fades."""
GRID = 3
"""Pixels between the points at which the bend is reckoned; between them it is interpolated."""
CUT_ROUNDS = 4
"""Rounds of GrabCut (Rother et al., SIGGRAPH 2004) that cut the figure out."""
STRETCH = 2.0
"""How much a bone that points at the viewer is shortened at most. Its width stays."""
OVERLAP = 0.25
"""How far parts reach over each other at joints, in lengths of a usual bone."""

Bones = dict[tuple[int, int], np.ndarray]
"""Bones by their points, each float64 [2, 2] from end to end in pixels."""


@dataclass(slots=True)
class PaperFigure:
    """A character that can be bent: `picture` uint8 RGB [H, W, 3], `own` its pose in pixels of it."""

    picture: np.ndarray
    own: PoseSequence
    _bones: Bones = field(init=False)
    _background: np.ndarray = field(init=False)
    _parts: list[tuple[np.ndarray, np.ndarray]] = field(init=False)
    """Of each of LIMBS: its colours and its mask, uint8 [H, W, 3] and [H, W]."""

    def __post_init__(self) -> None:
        self._bones = bones_of(self.own.keypoints[0], self.own.scores[0])
        mask = cut_out(self.picture, self._bones)
        self._background = filled(self.picture, mask)
        self._parts = parts_of(self.picture, mask, self._bones)

    def draw(self, keypoints: np.ndarray, scores: np.ndarray) -> np.ndarray:
        """The figure in a pose, uint8 RGB [H, W, 3]: `keypoints` [133, 2] in pixels, `scores` [133]."""
        there, frame = bones_of(keypoints, scores), self._background.astype(np.float32)
        for limb, (colours, mask) in zip(LIMBS, self._parts, strict=True):
            pairs = [
                (there[bone], self._bones[bone]) for bone in limb if bone in there and bone in self._bones
            ]
            if not pairs:
                continue
            across, down = bend(pairs, mask.shape)
            figure = cv2.remap(colours, across, down, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
            part = cv2.remap(mask, across, down, cv2.INTER_LINEAR)[..., None].astype(np.float32) / 255
            frame += (figure - frame) * part
        return np.rint(frame).astype(np.uint8)


def bend(
    pairs: Sequence[tuple[np.ndarray, np.ndarray]], shape: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """Where each pixel [H, W] comes from, float32 x and y: near a bone, from beside it as it was.

    `pairs` are bones as they are now and as they were.
    """
    height, width = shape
    x, y = np.meshgrid(np.arange(0, width + GRID, GRID), np.arange(0, height + GRID, GRID))
    places = x + 1j * y
    total, source = np.zeros(places.shape), np.zeros(places.shape, complex)
    for now, before in pairs:
        (a, b), (c, d) = (points[:, 0] + 1j * points[:, 1] for points in (now, before))
        way, length = (b - a) / max(abs(b - a), 1e-6), max(abs(b - a), 1e-6)
        local = (places - a) * np.conj(way)  # along the bone, and beside it
        stretch = min(abs(d - c) / length, STRETCH)
        place = c + (local.real * stretch + 1j * local.imag) * (d - c) / max(abs(d - c), 1e-6)
        weight = 1 / (distance(places, now) + 1) ** SHARPNESS
        source += weight * place
        total += weight
    source /= total
    size = (places.shape[1] * GRID, places.shape[0] * GRID)
    start = (GRID - 1) // 2  # cv2.resize puts a point in the middle of its cell
    across, down = (
        cv2.resize(part.astype(np.float32), size)[start : start + height, start : start + width]
        for part in (source.real, source.imag)
    )
    return across, down


def parts_of(picture: np.ndarray, mask: np.ndarray, bones: Bones) -> list[tuple[np.ndarray, np.ndarray]]:
    """Cut a figure into LIMBS, each around its bones; what the arms hide of the trunk is filled in."""
    height, width = mask.shape
    y, x = np.mgrid[:height, :width]
    away = np.full((len(LIMBS), height, width), np.inf, np.float32)
    for number, limb in enumerate(LIMBS):
        for bone in limb:
            if bone in bones:
                away[number] = np.minimum(away[number], distance(x + 1j * y, bones[bone]))
    nearest = away.argmin(0)
    over = OVERLAP * usual_length(bones)
    parts = []
    for number in range(len(LIMBS)):
        inside = away[number] <= away.min(0) + over
        colours = picture
        if number == TRUNK:
            hull = np.zeros_like(mask)
            corners = [bones[bone] for bone in LIMBS[TRUNK] if bone in bones]
            if corners:
                points = np.rint(np.concatenate(corners)).astype(np.int32)
                cv2.fillConvexPoly(hull, cv2.convexHull(points), (255,))
            hidden = np.isin(nearest, ARMS) & (mask > 0)
            inside |= hidden & (hull > 0)
            colours = filled(picture, hidden.astype(np.uint8) * 255)
        parts.append((colours, np.where(inside, mask, 0).astype(np.uint8)))
    return parts


def distance(places: np.ndarray, bone: np.ndarray) -> np.ndarray:
    """From places [H, W], as complex numbers x + iy, to a bone, in pixels."""
    a, b = bone[:, 0] + 1j * bone[:, 1]
    along = np.clip(np.real((places - a) * np.conj(b - a)) / max(abs(b - a) ** 2, 1e-6), 0, 1)
    return np.abs(places - a - along * (b - a)).astype(np.float32)


def usual_length(bones: Bones) -> float:
    """The median length of bones, in pixels."""
    return max(float(np.median([np.linalg.norm(bone[1] - bone[0]) for bone in bones.values()] or [0])), 4.0)


def bones_of(keypoints: np.ndarray, scores: np.ndarray) -> Bones:
    """The bones that one pose shows."""
    points, values = skeleton.to_openpose(keypoints, scores)
    found = {}
    for a, b in BONES:
        if values[a] > VISIBLE and values[b] > VISIBLE:
            reach = REACH.get((a, b), 1.0)
            found[a, b] = np.stack([points[a], points[a] + reach * (points[b] - points[a])])
    return found


def cut_out(picture: np.ndarray, bones: Bones) -> np.ndarray:
    """Which part of a picture the figure fills, uint8 [H, W], 255 inside; around its bones, by colour."""
    height, width = picture.shape[:2]
    known = np.full((height, width), cv2.GC_BGD, np.uint8)
    if not bones:
        return np.zeros((height, width), np.uint8)
    unit = usual_length(bones)
    ends = [np.rint(bone).astype(int).tolist() for bone in bones.values()]
    for thickness, value in ((1.3, cv2.GC_PR_BGD), (0.75, cv2.GC_PR_FGD), (0.2, cv2.GC_FGD)):
        for a, b in ends:
            cv2.line(known, a, b, (value,), max(1, round(unit * thickness)))
    trunk = [
        bones[bone][i] for bone, i in (((2, 5), 0), ((2, 5), 1), ((1, 11), 1), ((1, 8), 1)) if bone in bones
    ]
    if len(trunk) == 4:
        cv2.fillConvexPoly(known, np.rint(trunk).astype(np.int32), (cv2.GC_FGD,))
    models = np.zeros((1, 65)), np.zeros((1, 65))
    bgr = np.ascontiguousarray(picture[..., ::-1])
    cv2.grabCut(bgr, known, (0, 0, 1, 1), *models, CUT_ROUNDS, cv2.GC_INIT_WITH_MASK)
    inside = np.isin(known, (cv2.GC_FGD, cv2.GC_PR_FGD)).astype(np.uint8) * 255
    return cv2.GaussianBlur(cv2.medianBlur(inside, 5), (3, 3), 0)


def filled(picture: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The picture without its figure: what is behind is filled in from around it, smoothly."""
    small = cv2.resize(picture, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)
    hole = cv2.resize(mask, (small.shape[1], small.shape[0]), interpolation=cv2.INTER_AREA)
    hole = cv2.dilate((hole > 0).astype(np.uint8), np.ones((5, 5), np.uint8))
    behind = cv2.inpaint(small, hole, 5, cv2.INPAINT_TELEA)
    behind = cv2.resize(behind, (picture.shape[1], picture.shape[0]), interpolation=cv2.INTER_CUBIC)
    soft = cv2.GaussianBlur(cv2.dilate(mask, np.ones((9, 9), np.uint8)), (9, 9), 0)[..., None] / 255
    return np.rint(picture * (1 - soft) + behind * soft).astype(np.uint8)
