"""How far each place of a figure is from its parts, measured inside the figure: a hand is far from the hair
that it hangs beside."""

from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np

from .. import skeleton
from ..skeleton import VISIBLE
from .bones import ARMS, HEAD, LEGS, Skeleton
from .cut import disc, line

NAMES = ("trunk", "head", "right arm", "left arm", "right leg", "left leg")
TRUNK, HEAD_PART, RIGHT_ARM, LEFT_ARM, RIGHT_LEG, LEFT_LEG = range(6)
BODY = (TRUNK, HEAD_PART, RIGHT_LEG, LEFT_LEG)
COARSE = 6
"""Pixels of a cell in which distances inside the figure are measured, at 1024 pixels of height."""
EDGE_COST = 40.0
"""What crossing an edge of full contrast costs, in its own length: arms in front of a body end at edges."""
HAND = 0.11
"""About how far hands reach from their bones, in distances of the shoulders."""
FIST = 0.45
"""How far a hand reaches beyond the wrist where it was not found, in lengths of its forearm."""
FAR = 1e6
"""A distance from what cannot be reached inside the figure."""
AT_ONCE = 12
"""Steps in all directions between looks whether any distance became shorter."""
STEPS = ((0, 1), (1, 0), (1, 1), (1, -1))
"""To half of the neighbours of a cell; the others are these the other way."""


@dataclass(frozen=True, slots=True)
class Distances:
    """How far each cell is from each part inside the figure, in cells of `cell` pixels; FAR outside of the
    figure and from parts that it has not."""

    cells: np.ndarray
    """Of NAMES, float32 [6, h, w], where edges of colour are dear: which part a cell is of."""
    body: np.ndarray
    """Of BODY, float32 [4, h, w], whatever the colours: how far a cell hangs on a part."""
    cell: int


def distances(picture: np.ndarray, mask: np.ndarray, own: Skeleton, hands: list[np.ndarray]) -> Distances:
    """Measured inside the figure, where crossing edges of colour is dear: geodesic distances (Bai and Sapiro,
    "A Geodesic Framework for Fast Interactive Image and Video Segmentation", ICCV 2007).

    `hands` are lines of the right and the left hand, complex [n, 2] each.
    """
    height, width = mask.shape
    cell = max(1, round(COARSE * max(height, width) / 1024))
    size = (-(-width // cell), -(-height // cell))
    small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    inside = cv2.resize(mask, size, interpolation=cv2.INTER_AREA) > 0.25
    lab = cv2.cvtColor(cv2.GaussianBlur(small, (3, 3), 0), cv2.COLOR_RGB2LAB).astype(np.float32) / 255
    seeds = [cores(part, own, hands, inside.shape, cell) & inside for part in range(len(NAMES))]
    arms = (seeds[RIGHT_ARM] | seeds[LEFT_ARM]).astype(np.uint8)
    near_arms = cv2.dilate(arms, disc(round(HAND * own.width / cell))) > 0
    cut = [seed if part in (RIGHT_ARM, LEFT_ARM) else seed & ~near_arms for part, seed in enumerate(seeds)]
    body = [seeds[part] for part in BODY]
    return Distances(
        spread(np.where(np.stack(cut), 0, FAR), inside, EDGE_COST * lab),
        spread(np.where(np.stack(body), 0, FAR), inside, 0 * lab),
        cell,
    )


def spread(start: np.ndarray, inside: np.ndarray, colour: np.ndarray) -> np.ndarray:
    """Shortest ways, float32 [n, h, w], from where `start` is 0, through cells that are `inside`; a step is
    longer by the difference of `colour` [h, w, 3]."""
    found = np.where(inside, start, FAR).astype(np.float32)
    costs = []
    for down, right in STEPS:
        here, there = _both(colour, down, right)
        cost = np.hypot(down, right) * (1 + np.linalg.norm(here - there, axis=-1))
        a, b = _both(inside, down, right)
        costs.append(np.where(a & b, cost, FAR).astype(np.float32))
    before = None
    while before is None or not np.array_equal(before, found):
        before = found.copy()
        for _ in range(AT_ONCE):
            for (down, right), cost in zip(STEPS, costs, strict=True):
                here, there = _both(found, down, right)
                np.minimum(there, here + cost, out=there)
                np.minimum(here, there + cost, out=here)
    return np.minimum(found, FAR)


def _both(array: np.ndarray, down: int, right: int) -> tuple[np.ndarray, np.ndarray]:
    """Views of cells and their neighbours, of an array [..., h, w] or [h, w, 3]."""
    rows = array.ndim - 2 if array.shape[-1] != 3 or array.ndim < 3 else 0
    before: list[slice] = [slice(None)] * array.ndim
    after = list(before)
    before[rows], after[rows] = slice(None, -down or None), slice(down, None)
    if right > 0:
        before[rows + 1], after[rows + 1] = slice(None, -right), slice(right, None)
    elif right < 0:
        before[rows + 1], after[rows + 1] = slice(-right, None), slice(None, right)
    return array[tuple(before)], array[tuple(after)]


def cores(part: int, own: Skeleton, hands: list[np.ndarray], shape: tuple[int, ...], cell: int) -> np.ndarray:
    """Cells that are of a part for sure, bool [h, w]: those on its bones."""
    drawn = np.zeros(shape, np.uint8)

    def along(a: complex, b: complex, thick: float = 1) -> None:
        start, end = (np.array([z.real, z.imag]) / cell for z in (a, b))
        line(drawn, start, end, thick / cell)

    trunk, wide = own.trunk, abs(own.trunk.across)
    if part == TRUNK:
        way = trunk.across / 2
        corners = [
            trunk.neck + 0.1 * (trunk.hips - trunk.neck) - 0.75 * way,
            trunk.neck + 0.1 * (trunk.hips - trunk.neck) + 0.75 * way,
            trunk.hips + 0.7 * way,
            trunk.hips - 0.7 * way,
        ]
        corners = np.array([[z.real, z.imag] for z in corners]) / cell
        cv2.fillPoly(drawn, [np.rint(corners).astype(np.int32)], (1,))
    elif part == HEAD_PART:
        centre, radius = head_of(own)
        if radius:
            middle = (round(centre.real / cell), round(centre.imag / cell))
            cv2.circle(drawn, middle, max(1, round(0.7 * radius / cell)), (1,), -1)
    else:
        limb = (*ARMS, *LEGS)[part - RIGHT_ARM]
        chain = own.chain(limb)
        arm = part in (RIGHT_ARM, LEFT_ARM)
        for bone in range(len(chain) - 1):
            a, b = chain[bone], chain[bone + 1]
            along(a + 0.2 * (b - a) if bone == 0 else a, b, 0.12 * wide if arm else 0.2 * wide)
        if len(chain) == 3:
            along(chain[2], chain[2] + (0.35 if arm else 0.15) * (chain[2] - chain[1]), 0.08 * wide)
        if arm and len(chain) > 1:
            for a, b in hands[part - RIGHT_ARM]:
                along(a, b)
    return drawn > 0


def head_of(own: Skeleton) -> tuple[complex, float]:
    """The middle of a head and about its radius from chin to crown; radius 0 where it is not seen."""
    seen = [point for point in HEAD if own.seen[point]]
    if not seen:
        return own.trunk.neck, 0.0
    middle = own.points[seen].mean()
    return complex(middle), 0.62 * abs(middle - own.trunk.neck)


def hands_of(keypoints: np.ndarray, scores: np.ndarray) -> list[np.ndarray]:
    """The lines of the right and the left hand, complex [n, 2] each: of their fingers, or straight on from
    the forearm where no hand was found."""
    points, values = skeleton.to_openpose(keypoints, scores)
    places, seen = points[:, 0] + 1j * points[:, 1], values > VISIBLE
    found = []
    right, left = skeleton.OPENPOSE_RIGHT_HAND, skeleton.OPENPOSE_LEFT_HAND
    for hand, (_, elbow, wrist) in ((right, ARMS[0]), (left, ARMS[1])):
        edges = np.array(skeleton.HAND_EDGES) + hand.start
        lines = places[edges][seen[edges].all(1)]
        if not len(lines) and seen[elbow] and seen[wrist]:
            tip = places[wrist] + FIST * (places[wrist] - places[elbow])
            lines = np.array([[places[wrist], tip]])
        found.append(lines)
    return found


def whole_size(cells: np.ndarray, cell: int, shape: tuple[int, ...]) -> np.ndarray:
    """Distances in cells [h, w] as distances in pixels [H, W]."""
    height, width = cells.shape
    large = cv2.resize(
        cells.astype(np.float32), (width * cell, height * cell), interpolation=cv2.INTER_LINEAR
    )
    return large[: shape[0], : shape[1]] * cell


def to_line(places: np.ndarray, line: np.ndarray) -> np.ndarray:
    """From places, complex of any shape, to a line of one or more pieces, complex [n]; in pixels."""
    best = np.full(places.shape, FAR)
    for a, b in pairwise(line):
        along = np.clip(np.real((places - a) * np.conj(b - a)) / max(abs(b - a) ** 2, 1e-6), 0, 1)
        best = np.minimum(best, np.abs(places - a - along * (b - a)))
    return best
