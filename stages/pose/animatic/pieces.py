"""Cutting a figure of paper into pieces: the arms, and the body with what they hid of it made up."""

from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np

from .bones import ARMS, Skeleton
from .cut import disc, filled
from .inside import BODY, FAR, HAND, LEFT_ARM, RIGHT_ARM, Distances, whole_size

UPPER, LOWER = 0.18, 0.14
"""About how far an upper arm and a forearm reach from their bones, in distances of the shoulders: beyond,
they lose against the rest of the body, but for sleeves that hang away from it."""
BEYOND = 3.0
"""What each pixel beyond counts for, in pixels of distance inside the figure."""
RIM = 0.03
"""How far around an arm the body's colours are still an arm's, in distances of the shoulders."""
ALIKE = 0.2
"""How far a colour may be from the usual one of a hand's bones and still be of the hand, in parts of LAB's
range: thumbs in pockets are found too."""
BAND = 0.12
"""How far around the outline of an arm colours decide, in distances of the shoulders."""
EDGE_DEPTH = 24.0
"""Cells from an arm's edge at which its depth is counted no further."""
CAP, ARMPIT = 0.3, 0.1
"""How far an arm reaches into the trunk around its shoulder, and how far down along its bone, in lengths of
its upper arm."""
CLOSED = 0.3
"""Half of the width of a gap in the body that an arm leaves and that is closed, in lengths of its upper
arm."""


@dataclass(frozen=True, slots=True)
class Cut:
    """A figure cut into pieces: `picture` uint8 [H, W, 3], and as float32 [H, W], 0 to 1, the `body` with
    what the arms hid of it made up in `body_picture`, and each arm (None where the figure has not that
    arm)."""

    picture: np.ndarray
    body_picture: np.ndarray
    body: np.ndarray
    arms: tuple[np.ndarray | None, np.ndarray | None]
    inwards: tuple[np.ndarray, np.ndarray]
    """How far inside the body from each arm's edge, in pixels, below 0 in the arm: float32 [H, W] each."""


def cut_apart(
    picture: np.ndarray, mask: np.ndarray, own: Skeleton, found: Distances, hands: list[np.ndarray], rows: int
) -> Cut:
    """Cut a figure, of `mask` float32 [H, W], into body and arms, which reach a little over each other at the
    shoulders. Below `rows` the picture was made up. What the arms hid of the body is made up between what is
    seen of it."""
    height, width = mask.shape
    others = found.cells[list(BODY)].min(0)
    arms: list[np.ndarray | None] = []
    inwards = []
    covered = np.zeros(mask.shape, bool)
    thickness = 0.0
    for limb, part in zip(ARMS, (RIGHT_ARM, LEFT_ARM), strict=True):
        rival = np.minimum(others, found.cells[RIGHT_ARM + LEFT_ARM - part])
        chain = own.chain(limb)
        if len(chain) < 2:
            arms.append(None)
            inwards.append(np.full(mask.shape, FAR, np.float32))
            continue
        upper = abs(chain[1] - chain[0])
        thickness = max(thickness, upper)
        lower = [chain[1:], *hands[part - RIGHT_ARM]]
        beyond = np.minimum(
            away_from([chain[:2]], others.shape, found.cell) - UPPER * own.width,
            away_from(lower, others.shape, found.cell) - LOWER * own.width,
        )
        far = BEYOND * np.maximum(beyond, 0) / found.cell
        depth = np.clip(found.cells[part] + far - rival, -EDGE_DEPTH, EDGE_DEPTH)
        depth = whole_size(depth, found.cell, mask.shape)
        places = np.arange(width) + 1j * np.arange(height)[:, None]
        if len(chain) > 2:
            other = others - found.cells[RIGHT_ARM + LEFT_ARM - part]
            elsewhere = whole_size(other, found.cell, mask.shape) > 0
            elsewhere[rows:] = True
            depth = along_colours(picture, mask, depth, elsewhere, chain, hands[part - RIGHT_ARM], own.width)
        edge = np.clip(0.5 - depth / 2, 0, 1)
        covered |= edge > 0.02
        away = places - chain[0]
        along = np.real(away * np.conj(chain[1] - chain[0])) / max(upper, 1e-6)
        cap = np.clip(CAP * upper - np.maximum(np.abs(away), depth), 0, 1)
        cap *= np.clip(1.5 - along / (ARMPIT * upper), 0, 1)
        arms.append((mask * np.maximum(edge, cap)).astype(np.float32))
        inwards.append(depth)
    free = (mask > 0.02) & ~covered
    _, pieces = cv2.connectedComponents((free & (mask > 0.5)).astype(np.uint8))
    main = whole_size((others == 0).astype(np.float32), found.cell, mask.shape) > 0
    lost = free & ~np.isin(pieces, [0, *np.unique(pieces[main & free])]) & (mask > 0.5)
    lost = cv2.dilate(lost.astype(np.uint8), disc(1)) > 0
    for number, arm in enumerate(arms):
        if arm is not None:
            arms[number] = np.where(lost & (inwards[number] <= np.minimum(*inwards)), mask, arm)
    free &= ~lost
    under = covered & between(free, round(CLOSED * thickness), main)
    body = np.where(free, mask, 0).astype(np.float32)
    body = np.maximum(body, mask * cv2.GaussianBlur((under | free).astype(np.float32), (0, 0), 1.0) * covered)
    body_picture = filled_inside(picture, covered, mask, max(2, round(RIM * own.width)))
    return Cut(picture, body_picture, body, (arms[0], arms[1]), (inwards[0], inwards[1]))


def away_from(lines: Iterable[np.ndarray], shape: tuple[int, ...], cell: int = 1) -> np.ndarray:
    """From each cell of `cell` pixels to the nearest of lines, complex [n] each; in pixels, float32 of
    `shape`."""
    free = np.ones(shape, np.uint8)
    for line in lines:
        ends = np.rint(np.stack([line.real, line.imag], 1) / cell).astype(np.int32)
        cv2.polylines(free, [ends], False, (0,))
    if free.all():
        return np.full(shape, FAR, np.float32)
    return cv2.distanceTransform(free, cv2.DIST_L2, 5) * cell


def along_colours(
    picture: np.ndarray,
    mask: np.ndarray,
    depth: np.ndarray,
    elsewhere: np.ndarray,
    chain: np.ndarray,
    hand: np.ndarray,
    width: float,
) -> np.ndarray:
    """The depth in pixels [H, W] with the edge of forearm and hand moved to where colours change.

    `elsewhere` bool [H, W] is the other arm, and what was made up: their colours are not learnt. What lies
    within BAND of the outline is decided by GrabCut. Sleeves of the upper arm mostly have the colour of what
    the trunk wears: there it would find nothing.
    """
    away = away_from([chain[1:], *hand], mask.shape)
    mine = ~elsewhere & (mask > 0.5)
    mine &= (away < away_from([chain[:2]], mask.shape)) & (away < (LOWER + BAND) * width)
    rows, columns = np.nonzero(mine)
    if not len(rows):
        return depth
    pad = round(0.5 * width)
    box = tuple(slice(max(0, each.min() - pad), each.max() + pad) for each in (rows, columns))
    near, inside, deep, open_ = away[box], mask[box] > 0.5, depth[box].copy(), mine[box]
    known = np.full(deep.shape, cv2.GC_BGD, np.uint8)
    known[inside & (deep < BAND * width)] = cv2.GC_PR_BGD
    middle = away_from([chain[1:]], mask.shape)[box]
    known[inside & (deep < 0) & (near < np.where(near < middle, 0.8, 0.45) * HAND * width)] = cv2.GC_PR_FGD
    lab = cv2.cvtColor(np.ascontiguousarray(picture[box]), cv2.COLOR_RGB2LAB).astype(np.float32) / 255
    for lines, thick in (([chain[1:]], 0.15), (hand, 0.35)):
        sure = inside & (away_from(lines, mask.shape)[box] < thick * HAND * width)
        if sure.any():
            usual = np.median(lab[sure], axis=0)
            sure &= np.linalg.norm(lab - usual, axis=-1) < ALIKE
        known[sure] = cv2.GC_FGD
    known[~open_ & inside & (deep < 0)] = cv2.GC_FGD
    known[~open_ & (known == cv2.GC_PR_BGD)] = cv2.GC_BGD
    known[elsewhere[box]] = cv2.GC_BGD
    inside &= ~elsewhere[box]
    judged = known.copy()
    judged[~inside] = cv2.GC_BGD
    bgr = np.ascontiguousarray(picture[box][..., ::-1])
    random = np.random.default_rng(0)
    for told, others in ((known == cv2.GC_BGD, ~inside), (known == cv2.GC_FGD, inside & (deep < 0))):
        told, others = bgr[told & inside & open_ | told & inside & (deep > 0)], others & ~open_
        if not len(told):
            return depth
        bgr[others] = random.choice(told, others.sum())  # what is not judged must not be learnt from
    models = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.setRNGSeed(0)
    cv2.grabCut(bgr, judged, (0, 0, 1, 1), *models, 3, cv2.GC_INIT_WITH_MASK)
    arm = np.isin(judged, (cv2.GC_FGD, cv2.GC_PR_FGD)).astype(np.uint8)
    arm = cv2.medianBlur(arm, 5)
    within, without = (cv2.distanceTransform(side, cv2.DIST_L2, 3) for side in (arm, 1 - arm))
    moved = np.where(arm > 0, -within, without) + np.where(arm > 0, 0.5, -0.5)
    made = depth.copy()
    made[box] = np.where(open_, cv2.GaussianBlur(moved.astype(np.float32), (0, 0), 1.0), deep)
    return made


def between(free: np.ndarray, reach: int, main: np.ndarray) -> np.ndarray:
    """Gaps in a body, bool [H, W], with the body on both sides, across or down, not further than `reach`; and
    what is of it for sure, which is `main`."""
    mask, gaps = free.astype(np.uint8), main.copy()
    pad = 2 * reach + 1
    padded = np.pad(mask, pad)
    for shape in ((1, pad), (pad, 1)):
        closed = cv2.morphologyEx(padded, cv2.MORPH_CLOSE, np.ones(shape, np.uint8))
        gaps |= closed[pad:-pad, pad:-pad] > 0
    return cv2.morphologyEx(gaps.astype(np.uint8), cv2.MORPH_OPEN, disc(2)) > 0


def filled_inside(picture: np.ndarray, hole: np.ndarray, mask: np.ndarray, margin: int) -> np.ndarray:
    """The picture with `hole` bool made up from the rest of the figure, not from what is around it: mirrored
    at the edge of the hole, which keeps patterns of cloth, and where that leads nowhere as `filled`."""
    missing = cv2.dilate(hole.astype(np.uint8), disc(margin)) > 0
    known = ~missing & (mask > 0.9)
    if not known.any():
        return picture
    made = filled(picture, ~known, 1)
    _, nearest = cv2.distanceTransformWithLabels(
        (~known).astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    nearest = np.asarray(nearest, np.intp)
    rows, columns = np.nonzero(known)
    of_label = np.zeros((int(nearest.max()) + 1, 2), np.intp)
    of_label[nearest[rows, columns]] = np.stack([rows, columns], 1)
    y, x = np.nonzero(missing)
    edge = of_label[nearest[y, x]]
    mirrored = 2 * edge - np.stack([y, x], 1)
    inside = ((mirrored >= 0) & (mirrored < mask.shape)).all(1)
    inside[inside] = known[mirrored[inside, 0], mirrored[inside, 1]]
    texture, covered = made.copy(), np.zeros(mask.shape, np.float32)
    texture[y[inside], x[inside]] = picture[mirrored[inside, 0], mirrored[inside, 1]]
    covered[y[inside], x[inside]] = 1
    blend = (np.asarray(cv2.GaussianBlur(covered, (0, 0), 2.0)) * covered)[..., None]
    return np.where(
        missing[..., None], np.rint(made + (texture - made.astype(np.float32)) * blend), picture
    ).astype(np.uint8)
