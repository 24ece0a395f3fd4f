"""Cutting a figure out of its picture, and filling in what was behind it."""

import cv2
import numpy as np

from .. import skeleton
from ..estimate.segmentation import person_in
from ..skeleton import VISIBLE

BONES = (
    ((2, 3), 0.3), ((3, 4), 0.25), ((5, 6), 0.3), ((6, 7), 0.25), ((8, 9), 0.45), ((9, 10), 0.18),
    ((11, 12), 0.45), ((12, 13), 0.18), ((1, 0), 0.35),
)  # fmt: skip
"""Pairs of OpenPose body points, and about how thick a body is around each, in distances of the shoulders."""
SURE, NOT = 0.9, 0.1
"""From which probability on the network's word is taken for the figure, and up to which for what is
behind."""
KNOWN = 0.6
"""Part of the bones of a figure that a network must see: below, as of many drawn figures, it is not asked."""
CUT_ROUNDS = 3
"""Rounds of GrabCut (Rother et al., SIGGRAPH 2004), which cuts along colours."""
CUT_SIDE = 640
"""Pixels of the longer side at which it works: its time grows with their number."""


def cut_out(picture: np.ndarray, keypoints: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Which part of a picture a figure fills, float32 [H, W], 0 to 1.

    `picture` uint8 RGB [H, W, 3], `keypoints` [133, 2] in pixels, `scores` [133]. MediaPipe's network says
    where people are, bones and hands where this one must be, and colours where exactly the edge runs. Without
    the network (mediapipe 1 carries none), or where it does not see the figure, bones and colours do alone.
    """
    height, width = picture.shape[:2]
    zoom = min(1.0, CUT_SIDE / max(height, width))
    small = cv2.resize(picture, (round(width * zoom), round(height * zoom)), interpolation=cv2.INTER_AREA)
    core, near = bones_drawn(keypoints * zoom, scores, small.shape[:2])
    if not core.any():
        return np.zeros((height, width), np.float32)
    likely = person_in(small)
    known = np.full(small.shape[:2], cv2.GC_BGD, np.uint8)
    seen = likely is not None and (likely[core > 0] > 0.5).mean() >= KNOWN
    if likely is None or not seen:
        known[near > 0] = cv2.GC_PR_FGD
        rim = cv2.dilate(near, disc(round(0.3 * reach_of(near))))
        known[(rim > 0) & (near == 0)] = cv2.GC_PR_BGD
    else:
        known[cv2.dilate((likely > NOT).astype(np.uint8), disc(2)) > 0] = cv2.GC_PR_BGD
        known[near > 0] = np.maximum(known[near > 0], cv2.GC_PR_BGD)
        known[likely > 0.5] = cv2.GC_PR_FGD
        known[cv2.erode((likely > SURE).astype(np.uint8), disc(4)) > 0] = cv2.GC_FGD
    known[core > 0] = cv2.GC_FGD
    models = np.zeros((1, 65)), np.zeros((1, 65))
    bgr = np.ascontiguousarray(small[..., ::-1])
    if np.isin(known, (cv2.GC_BGD, cv2.GC_PR_BGD)).any():
        cv2.setRNGSeed(0)
        cv2.grabCut(bgr, known, (0, 0, 1, 1), *models, CUT_ROUNDS, cv2.GC_INIT_WITH_MASK)
    inside = np.isin(known, (cv2.GC_FGD, cv2.GC_PR_FGD)).astype(np.uint8)
    if likely is not None and seen:
        inside[
            (likely < np.where(below_knees(keypoints * zoom, scores, near.shape), SURE, 0.5)) & (near == 0)
        ] = 0
    return soft(in_one(inside, core), (width, height))


def in_one(inside: np.ndarray, core: np.ndarray) -> np.ndarray:
    """The pieces of a mask uint8 [H, W] that hold some of `core`, smoothed, without small holes."""
    inside = cv2.morphologyEx(inside | core, cv2.MORPH_OPEN, disc(1)) | core
    _, pieces = cv2.connectedComponents(inside, connectivity=4)
    inside = np.isin(pieces, np.unique(pieces[(core > 0) & (inside > 0)])).astype(np.uint8)
    count, holes, facts, _ = cv2.connectedComponentsWithStats(1 - inside, connectivity=4)
    least = inside.sum() / 2500
    for number in range(1, count):
        if facts[number, cv2.CC_STAT_AREA] < least:
            inside[holes == number] = 1
    return inside


def soft(inside: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A mask of 0 and 1 at another (width, height), float32, with a smooth edge a little inside of its
    own."""
    mask = cv2.GaussianBlur(inside.astype(np.float32), (0, 0), 1.2)
    mask = cv2.resize(mask, size, interpolation=cv2.INTER_CUBIC)
    return np.clip((mask - 0.5) * 2.5 + 0.3, 0, 1)


def bones_drawn(
    keypoints: np.ndarray, scores: np.ndarray, shape: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """Where a figure must be, and where it may be without clothes, uint8 [H, W] each, 0 or 1.

    Its bones, hands and face; and these with about the thickness of a body.
    """
    points, values = skeleton.to_openpose(keypoints, scores)
    core, near = np.zeros(shape, np.uint8), np.zeros(shape, np.uint8)
    seen = values > VISIBLE
    body = points[:18][seen[:18]]
    if not (seen[2] and seen[5]):
        return core, near
    unit = max(float(np.linalg.norm(points[2] - points[5])), 0.25 * float(np.ptp(body[:, 1])))
    for (a, b), thick in BONES:
        if seen[a] and seen[b]:
            line(core, points[a], points[b], 0.3 * thick * unit)
            line(near, points[a], points[b], 1.2 * thick * unit)
    for ankle, toe in skeleton.FOOT_EDGES:
        if seen[ankle] and seen[toe]:
            line(near, points[ankle], points[toe], 0.15 * unit)
    for elbow, wrist in ((3, 4), (6, 7)):
        if seen[elbow] and seen[wrist]:
            forearm = points[wrist] - points[elbow]
            line(near, points[wrist], points[wrist] + 0.55 * forearm, 0.35 * unit)
            line(core, points[wrist], points[wrist] + 0.35 * forearm, 0.06 * unit)
    for hand in (skeleton.OPENPOSE_LEFT_HAND, skeleton.OPENPOSE_RIGHT_HAND):
        for a, b in np.array(skeleton.HAND_EDGES) + hand.start:
            if seen[a] and seen[b]:
                line(core, points[a], points[b], 0.03 * unit)
                line(near, points[a], points[b], 0.15 * unit)
    trunk = [j for j in (2, 5, 11, 8) if seen[j]]
    hull = np.rint(points[trunk]).astype(np.int32)
    cv2.fillPoly(near, [hull], (1,))
    cv2.polylines(near, [hull], True, (1,), max(1, round(0.3 * unit)))
    middle = points[trunk].mean(0)
    cv2.fillPoly(core, [np.rint(middle + 0.75 * (points[trunk] - middle)).astype(np.int32)], (1,))
    face = points[skeleton.OPENPOSE_FACE][seen[skeleton.OPENPOSE_FACE]]
    face = np.concatenate([face, points[[0, 14, 15, 16, 17]][seen[[0, 14, 15, 16, 17]]]])
    if len(face):
        hull = cv2.convexHull(np.rint(face).astype(np.int32))
        cv2.fillPoly(core, [hull], (1,))
        cv2.fillPoly(near, [hull], (1,))
        x, y = np.rint(face.mean(0)).astype(int).tolist()
        cv2.circle(near, (x, round(y - 0.1 * unit)), round(0.45 * unit), (1,), -1)
    return core, near | core


def line(mask: np.ndarray, a: np.ndarray, b: np.ndarray, thick: float, value: int = 1) -> None:
    """Draw a line from `a` to `b`, (x, y) each, `thick` pixels wide, into a mask uint8 [H, W]."""
    start, end = (tuple(np.rint(point).astype(int).tolist()) for point in (a, b))
    cv2.line(mask, start, end, (value,), max(1, round(thick)))


def below_knees(keypoints: np.ndarray, scores: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """What lies nearer to the shins than to other bones, bool [H, W]. There the network often takes lit
    ground for a part of the figure."""
    points, values = skeleton.to_openpose(keypoints, scores)
    away = []
    for bones in (((9, 10), (12, 13)), ((8, 9), (11, 12), (8, 11), (3, 4), (6, 7))):
        free = np.ones(shape, np.uint8)
        for a, b in bones:
            if values[a] > VISIBLE and values[b] > VISIBLE:
                line(free, points[a], points[b], 1, 0)
        away.append(cv2.distanceTransform(free, cv2.DIST_L2, 3) if not free.all() else np.full(shape, np.inf))
    return away[0] < away[1]


def reach_of(near: np.ndarray) -> float:
    """About half of the thickness of a body's limbs in a mask, in pixels."""
    return max(3.0, float(np.sqrt(near.sum())) / 12)


def disc(radius: int) -> np.ndarray:
    """A round kernel."""
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))


def filled(picture: np.ndarray, hole: np.ndarray, margin: int) -> np.ndarray:
    """A picture uint8 [H, W, 3] whose pixels in `hole` bool [H, W], and `margin` around it, are made up.

    From coarse to fine, each hole takes what is around it, the nearer the more ("pull-push": Gortler et al.,
    "The Lumigraph", SIGGRAPH 1996, section 3.4).
    """
    hole = cv2.dilate(hole.astype(np.uint8), disc(margin)) > 0
    if not hole.any() or hole.all():
        return picture
    weight = (~hole).astype(np.float32)
    levels = [(picture.astype(np.float32) * weight[..., None], weight)]
    while min(levels[-1][1].shape) > 1:
        colour, weight = levels[-1]
        size = (max(1, -(-weight.shape[1] // 2)), max(1, -(-weight.shape[0] // 2)))
        colour = cv2.resize(cv2.GaussianBlur(colour, (5, 5), 0), size, interpolation=cv2.INTER_AREA)
        weight = cv2.resize(cv2.GaussianBlur(weight, (5, 5), 0), size, interpolation=cv2.INTER_AREA)
        more = np.minimum(1, 4 * weight) / np.maximum(weight, 1e-6)
        levels.append((colour * more[..., None], weight * more))
    made = levels[-1][0] / np.maximum(levels[-1][1], 1e-6)[..., None]
    for colour, weight in reversed(levels[:-1]):
        made = cv2.resize(made, (weight.shape[1], weight.shape[0]), interpolation=cv2.INTER_LINEAR)
        made = np.atleast_3d(made)
        made = colour + (1 - weight[..., None]) * made
    blend = cv2.GaussianBlur(hole.astype(np.float32), (0, 0), max(1.0, margin / 3))[..., None]
    blend = np.where(hole[..., None], np.maximum(blend, 0.9), blend)
    return np.rint(picture * (1 - blend) + made * blend).clip(0, 255).astype(np.uint8)
