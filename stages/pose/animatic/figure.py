"""An animatic: the picture of a character cut out and bent along the dancer's bones, like a figure of paper.

No model of pictures is asked: it shows in seconds where the character will stand and how it will move.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np

from ...types import PoseSequence
from .bones import ARMS, LEGS, Skeleton, Turn, blended, skeleton_of, turn_head, turn_limb, turn_trunk
from .cut import bones_drawn, cut_out, filled
from .inside import FAR, Distances, distances, hands_of, to_line
from .mesh import NOWHERE, fill, lattice, triangles
from .pieces import CAP, Cut, cut_apart

STEP = 8
"""Pixels between the points of the mesh at 1024 pixels of height."""
SPILL = 0.025
"""How far around a figure its background is made up, in parts of the picture's longer side: its glow."""
BELOW = 0.3
"""How much of a figure that the lower edge of the picture cuts is made up below it, in heights of the
picture: mirrored, and seen only where the figure rises."""
ELBOW, HIP, NECK, WRIST = 0.14, 0.3, 0.25, 0.15
"""How far from a joint its bones are blended: in lengths of the shorter bone, thigh, neck, and forearm or
shin."""
SIDES = 0.35
"""How far around the middle between two legs a skirt hangs on both, in distances of the hips."""


@dataclass(slots=True)
class Layer:
    """A piece of paper: its colours and how much they cover, uint8 [H, W, 4], times each other; and its
    mesh."""

    colours: np.ndarray
    groups: list[tuple[np.ndarray, np.ndarray]]
    """Squares that are drawn one after the other, bool [h, w], and their triangles in the picture."""
    weights: list[np.ndarray]
    """For each joint of the arm, or as `_place_body` reads them: how far points follow, float [h, w]."""


@dataclass(slots=True)
class PaperFigure:
    """A character that can be bent.

    `picture` uint8 RGB [H, W, 3], `own` its pose in pixels of it, `mask` which part of it the figure fills,
    float32 [H, W] from 0 to 1 (by default as `cut_out` finds it). Without both shoulders nothing bends.
    """

    picture: np.ndarray
    own: PoseSequence
    mask: np.ndarray | None = None
    _own: Skeleton | None = field(init=False)
    _background: np.ndarray = field(init=False)
    _points: np.ndarray = field(init=False)
    _body: Layer = field(init=False)
    _arms: list[tuple[int, Layer]] = field(init=False)

    def __post_init__(self) -> None:
        keypoints, scores = self.own.keypoints[0], self.own.scores[0]
        self._own = own = skeleton_of(keypoints, scores)
        if own is None:
            return
        mask = cut_out(self.picture, keypoints, scores) if self.mask is None else self.mask
        margin = max(2, round(SPILL * max(mask.shape)))
        _, near = bones_drawn(keypoints, scores, mask.shape)
        self._background = filled(self.picture, (mask > 0.02) | (near > 0), margin)
        picture, mask = continued_below(self.picture, mask)
        height, width = mask.shape
        step = max(2, round(STEP * max(self.picture.shape[:2]) / 1024))
        self._points = lattice(width, height, step)
        hands = hands_of(keypoints, scores)
        found = distances(picture, mask, own, hands)
        cut = cut_apart(picture, mask, own, found, hands, len(self.picture))
        near = at_points(found, self._points)
        self._body = body_layer(cut, own, near, self._points, step)
        self._arms = []
        for number, limb in enumerate(ARMS):
            if cut.arms[number] is not None:
                self._arms.append((number, arm_layer(cut, number, own.chain(limb), self._points, step)))

    def draw(self, keypoints: np.ndarray, scores: np.ndarray) -> np.ndarray:
        """The figure in a pose, uint8 RGB [H, W, 3]: `keypoints` [133, 2] in pixels, `scores` [133].

        Without both shoulders the background alone; limbs that the pose lacks hang on what it has.
        """
        if self._own is None:
            return self.picture.copy()
        now = skeleton_of(keypoints, scores)
        frame = self._background.copy()
        if now is None:
            return frame
        own = self._own
        if not (own.has_hips and now.has_hips):
            own, now = own.without_hips(), now.without_hips()
        trunk = turn_trunk(own.trunk, now.trunk)
        down = own.trunk.hips - own.trunk.neck
        right = 1 if np.imag(np.conj(down) * -own.trunk.across) > 0 else -1
        legs = [
            turn_limb(own.chain(limb), now.chain(limb), trunk, down, side) if len(own.chain(limb)) > 1 else []
            for limb, side in zip(LEGS, (right, -right), strict=True)
        ]
        places = self._place_body(trunk, turn_head(own, now, trunk), legs)
        paste(frame, self._body, places)
        for number, layer in self._arms:
            chain = own.chain(ARMS[number])
            turns = turn_limb(chain, now.chain(ARMS[number]), trunk, down, (right, -right)[number])
            paste(frame, layer, place_limb(self._points, trunk, turns, layer.weights))
        return frame

    def _place_body(self, trunk: Turn, head: Turn, legs: Sequence[list[Turn]]) -> np.ndarray:
        """Where the points of the body go, complex [h, w]."""
        up, side, *legs_weights = self._body.weights
        middle = np.asarray(trunk(self._points))
        placed = [
            place_limb(self._points, trunk, turns, legs_weights[3 * i : 3 * i + len(turns)])
            if turns
            else middle
            for i, turns in enumerate(legs)
        ]
        places = side * placed[0] + (1 - side) * placed[1]
        return np.where(up > 0, blended(self._points, trunk, head, up), places)


def place_limb(
    points: np.ndarray, trunk: Turn, turns: Sequence[Turn], weights: Sequence[np.ndarray]
) -> np.ndarray:
    """Where points of a limb go that follow each joint by `weights`: the farthest joint that moves them
    counts."""
    places, parent = np.asarray(trunk(points)), trunk
    for turn, weight in zip(turns, weights, strict=True):
        if parent is trunk:
            moved = blended(points, trunk, turn, weight)
        else:
            moved = blended(points, parent, turn, weight)
        places = np.where(weight > 0, moved, places)
        parent = turn
    return places


def smooth(x: np.ndarray) -> np.ndarray:
    """From 0 at x = -1 to 1 at x = 1, with level ends."""
    x = np.clip((x + 1) / 2, 0, 1)
    return x * x * (3 - 2 * x)


def limb_weights(points: np.ndarray, chain: np.ndarray) -> list[np.ndarray]:
    """How far points follow each joint of a limb after its root, and its end. `chain` complex [n], n > 1."""
    lengths = np.maximum(np.abs(np.diff(chain)), 1e-6)
    found = []
    for joint in range(1, len(chain) - 1):
        before, after = (
            to_line(points, chain[joint - 1 : joint + 1]),
            to_line(points, chain[joint : joint + 2]),
        )
        found.append(smooth((before - after) / (ELBOW * min(lengths[joint - 1], lengths[joint]))))
    way = (chain[-1] - chain[-2]) / lengths[-1]
    beyond = np.real((points - chain[-1]) * np.conj(way))
    end = smooth(beyond / (WRIST * lengths[-1]))
    if found:  # beside the upper bone, however far along the lower one's direction, nothing is of a hand
        end = np.where(found[-1] >= 1, end, 0)
    return [*found, end]


def arm_layer(cut: Cut, number: int, chain: np.ndarray, points: np.ndarray, step: int) -> Layer:
    """The paper of the right arm (0) or the left (1)."""
    alpha = cut.arms[number]
    assert alpha is not None
    upper = chain[1] - chain[0]
    reach = CAP * abs(upper)
    along = np.real((points - chain[0]) * np.conj(upper)) / max(abs(upper), 1e-6)
    inwards = smooth(2 * sampled(cut.inwards[number], points) / reach - 1)
    inwards *= 1 - smooth(2 * along / reach - 1)
    root = np.maximum(smooth(along / reach) * (1 - inwards), 1e-6)
    weights = [root, *limb_weights(points, chain)]
    cells = squares(alpha, points.shape, step)
    lower = weights[1][:-1, :-1] > 0.5
    return layer(cut.picture, alpha, [cells & ~lower, cells & lower], points, weights)


def body_layer(cut: Cut, own: Skeleton, near: np.ndarray, points: np.ndarray, step: int) -> Layer:
    """The paper of trunk, head and legs. `near` [4, h, w] tells how far the points are from each of BODY.

    Weights: how far the head is followed, how far the right leg rather than the left, and for each leg those
    of hip, knee and foot.
    """
    trunk = own.trunk
    to_trunk, to_head, to_right, to_left = near
    neck = abs(
        np.mean([own.points[j] for j in (0, 14, 15, 16, 17) if own.seen[j]] or [trunk.neck]) - trunk.neck
    )
    gap = to_trunk - to_head
    up = smooth(gap / max(NECK * neck, 1e-6)) if to_head.min() < FAR else np.zeros(points.shape)
    legs = []
    for limb, away in zip(LEGS, (to_right, to_left), strict=True):
        chain = own.chain(limb)
        if len(chain) < 2 or away.min() >= FAR:
            legs += [np.zeros(points.shape)] * 3
            continue
        thigh = max(abs(chain[1] - chain[0]), 1e-6)
        hip = smooth((to_trunk - away) / (HIP * thigh))
        rest = limb_weights(points, chain)
        legs += [hip, *(np.where(hip >= 1, weight, 0) for weight in rest)]
        legs += [np.zeros(points.shape)] * (2 - len(rest))
    hips = abs(own.points[8] - own.points[11]) if own.seen[8] and own.seen[11] else abs(trunk.across) / 2
    side = smooth((to_left - to_right) / max(SIDES * hips, 1e-6))
    cells = squares(cut.body, points.shape, step)
    nearest = near[[2, 3, 0, 1]].argmin(0)[:-1, :-1]
    groups = [cells & (nearest == part) for part in range(4)]
    return layer(cut.body_picture, cut.body, groups, points, [up, side, *legs])


def layer(
    picture: np.ndarray,
    alpha: np.ndarray,
    groups: Sequence[np.ndarray],
    points: np.ndarray,
    weights: list[np.ndarray],
) -> Layer:
    """A piece of paper of a picture uint8 [H, W, 3], where `alpha` float32 [H, W] covers."""
    colours = np.concatenate([picture * alpha[..., None], alpha[..., None] * 255], -1)
    return Layer(
        np.rint(colours).astype(np.uint8), [(group, triangles(points, group)) for group in groups], weights
    )


def squares(alpha: np.ndarray, shape: tuple[int, ...], step: int) -> np.ndarray:
    """Which squares of a mesh of `shape` points hold something of a layer, bool [h - 1, w - 1]."""
    rows, columns = shape[0] - 1, shape[1] - 1
    padded = np.zeros((rows * step, columns * step), bool)
    shown = cv2.dilate((alpha > 0.004).astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    padded[: alpha.shape[0], : alpha.shape[1]] = shown
    return padded.reshape(rows, step, columns, step).any((1, 3))


def at_points(found: Distances, points: np.ndarray) -> np.ndarray:
    """Distances from BODY in pixels [4, h, w] at points complex [h, w]; beside the figure those of what is
    next to it."""
    cells = found.body
    outside = cells.min(0) >= FAR
    for _ in range(4):
        padded = np.pad(cells, ((0, 0), (1, 1), (1, 1)), mode="edge")
        h, w = cells.shape[1:]
        around = np.stack([padded[:, i : i + h, j : j + w] for i in range(3) for j in range(3)]).min(0)
        cells = np.where(outside, np.minimum(cells, around + 1), cells)
    x = np.clip((points.real / found.cell - 0.5).round().astype(int), 0, cells.shape[2] - 1)
    y = np.clip((points.imag / found.cell - 0.5).round().astype(int), 0, cells.shape[1] - 1)
    return np.minimum(cells[:, y, x] * found.cell, FAR)


def sampled(values: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Values [H, W] at points complex [h, w], or at the nearest pixels."""
    x = np.clip(points.real.astype(int), 0, values.shape[1] - 1)
    y = np.clip(points.imag.astype(int), 0, values.shape[0] - 1)
    return values[y, x]


def continued_below(picture: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A picture and the mask of its figure with some rows more where the picture's lower edge cuts the
    figure."""
    if not (mask[-2:] > 0.5).any():
        return picture, mask
    more = round(BELOW * mask.shape[0])
    return (
        cv2.copyMakeBorder(picture, 0, more, 0, 0, cv2.BORDER_REFLECT),
        cv2.copyMakeBorder(mask, 0, more, 0, 0, cv2.BORDER_REFLECT),
    )


def paste(frame: np.ndarray, layer: Layer, places: np.ndarray) -> None:
    """Lay a piece of paper on `frame` uint8 [H, W, 3], its mesh bent so that its points lie at `places`."""
    height, width = frame.shape[:2]
    for cells, before in layer.groups:
        if not cells.any():
            continue
        now = triangles(places, cells)
        left, right = (int(np.clip(edge, 0, width)) for edge in (now.real.min(), now.real.max() + 2))
        top, bottom = (int(np.clip(edge, 0, height)) for edge in (now.imag.min(), now.imag.max() + 2))
        if left >= right or top >= bottom:
            continue
        source = np.full((bottom - top, right - left, 2), NOWHERE, np.float32)
        fill(source, now - (left + 1j * top), before)
        paper = cv2.remap(layer.colours, source[..., 0], source[..., 1], cv2.INTER_LINEAR)
        there = frame[top:bottom, left:right]
        rest = 255 - paper[..., 3:].astype(np.uint16)
        there[...] = np.minimum(paper[..., :3] + (there * rest + 127) // 255, 255)
