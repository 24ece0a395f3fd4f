"""The bones of a figure of paper, and where its points go when they turn.

All places are complex numbers x + iy in pixels. A point between two bones is turned about their joint by a
part of the angle between them, and stretched by a part of their stretches (polar decomposition, blended:
Alexa et al., "As-Rigid-As-Possible Shape Interpolation", SIGGRAPH 2000, section 3). Blended matrices, as in
plain linear blend skinning, would collapse where an arm turns by half a circle.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .. import skeleton
from ..skeleton import VISIBLE

ARMS = ((2, 3, 4), (5, 6, 7))
LEGS = ((8, 9, 10), (11, 12, 13))
"""OpenPose body points of the limbs from their root on, right and left."""
HEAD = (0, 14, 15, 16, 17)
"""Nose, eyes and ears."""
SHORTEST, LONGEST = 0.3, 1.6
"""How far a bone is shortened and stretched at most: one that points at the viewer is nearly a point."""
NARROWEST, WIDEST = 0.35, 1.25
"""How far a trunk that turns is narrowed and widened at most."""
TRUNK_LENGTH = 1.5
"""From neck to hips in widths of the shoulders, where hips are not seen (assumed, not measured)."""
HEAD_TILT = math.radians(50)
"""How far a head leans from the trunk at most: seen from behind, its eyes are on the other side."""
NECK_WEIGHT = 3.0
"""What the neck counts beside nose, eyes and ears for how a head leans: a nod or a turn moves these alone."""
INWARDS, OUTWARDS = math.radians(-120), math.radians(240)
"""How far a limb turns from hanging: past the body, and outwards beyond straight up. It tells which way an
arm was raised that points upwards."""

Linear = tuple[complex, complex]
"""A symmetric stretch of the plane: z becomes a z + b conj(z)."""
RIGID: Linear = (1.0, 0.0)


@dataclass(frozen=True, slots=True)
class Trunk:
    """Where trunk and neck are, and how wide: complex numbers; `across` from right to left, of the shoulders
    and the hips taken together; `found` tells limbs with all but their end: by their root."""

    neck: complex
    hips: complex
    across: complex


@dataclass(frozen=True, slots=True)
class Skeleton:
    """One pose: `points` complex [18] of OpenPose's body and `seen` bool [18], its trunk completed."""

    points: np.ndarray
    seen: np.ndarray
    trunk: Trunk

    @property
    def has_hips(self) -> bool:
        """Whether both hips are seen."""
        return bool(self.seen[8] and self.seen[11])

    def without_hips(self) -> "Skeleton":
        """The same as if the hips were not seen: beside a pose that lacks them nothing else compares."""
        return Skeleton(self.points, self.seen, trunk_of(self.points, hips=False))

    @property
    def width(self) -> float:
        """About the distance of the shoulders in pixels: where they are seen from the side, as the spine
        tells."""
        return max(float(abs(self.points[2] - self.points[5])), abs(self.trunk.hips - self.trunk.neck) / 2)

    def chain(self, limb: Sequence[int]) -> np.ndarray:
        """The joints of a limb from its root to the last before one that is not seen, complex [n]."""
        hidden = np.nonzero(~self.seen[list(limb)])[0]
        return self.points[list(limb)][: hidden[0] if len(hidden) else len(limb)]


def skeleton_of(keypoints: np.ndarray, scores: np.ndarray) -> Skeleton | None:
    """The skeleton of a pose, `keypoints` [133, 2] in pixels and `scores` [133]; None without both shoulders.

    Hips that are not seen are taken to hang straight below them.
    """
    points, values = skeleton.to_openpose(keypoints, scores)
    points, seen = points[:18, 0] + 1j * points[:18, 1], values[:18] > VISIBLE
    if not (seen[2] and seen[5]) or points[2] == points[5]:
        return None
    return Skeleton(points, seen, trunk_of(points, hips=bool(seen[8] and seen[11])))


def trunk_of(points: np.ndarray, hips: bool) -> Trunk:
    """The trunk of OpenPose body points, complex [18]; where `hips` are not seen they hang below the neck."""
    shoulders, neck, middle = points[5] - points[2], points[1], (points[8] + points[11]) / 2
    if hips and middle != neck:
        return Trunk(complex(neck), complex(middle), complex((shoulders + points[11] - points[8]) / 2))
    down = 1j * shoulders / abs(shoulders)
    middle = neck + TRUNK_LENGTH * abs(shoulders) * (down if down.imag > 0 else -down)
    return Trunk(complex(neck), complex(middle), complex(shoulders))


@dataclass(frozen=True, slots=True)
class Turn:
    """What becomes of a part: z - `origin` is stretched, turned by `angle`, and put at `place`."""

    origin: complex
    place: complex
    angle: float
    stretch: Linear = RIGID

    def __call__(self, z: np.ndarray | complex) -> np.ndarray | complex:
        return self.place + np.exp(1j * self.angle) * stretched(z - self.origin, self.stretch)


def stretched(z: np.ndarray | complex, by: tuple[np.ndarray | complex, np.ndarray | complex]):
    """z as `by` stretches it."""
    return by[0] * z + by[1] * np.conj(z)


def stretch_along(way: complex, along: float, beside: float = 1.0) -> Linear:
    """The stretch by `along` in direction `way`, and by `beside` across it."""
    turned = (way / abs(way)) ** 2 if way else 1.0
    return (along + beside) / 2, (along - beside) / 2 * turned


def turn_trunk(own: Trunk, now: Trunk) -> Turn:
    """The trunk turned by its spine, as long as it is now, and as wide; mirrored where its back is seen."""
    before, after = own.hips - own.neck, now.hips - now.neck
    long = float(np.clip(abs(after) / abs(before), SHORTEST, LONGEST))
    width, wanted = (
        float(np.imag(np.conj(way) * side) / abs(way))
        for way, side in ((before, own.across), (after, now.across))
    )
    if abs(width) < abs(before) / 4:  # seen from the side: its width tells nothing
        wide = 1.0
    else:
        wide = wanted / width
        wide = math.copysign(float(np.clip(abs(wide), NARROWEST, WIDEST)), wide)
    return Turn(own.neck, now.neck, float(np.angle(after / before)), stretch_along(before, long, wide))


def turn_head(own: Skeleton, now: Skeleton, trunk: Turn) -> Turn:
    """The head: as it is, leaning as neck, nose, eyes and ears tell together."""
    both = [point for point in HEAD if own.seen[point] and now.seen[point]]
    angle = trunk.angle
    if both:
        before, after = own.points[both] - own.trunk.neck, now.points[both] - now.trunk.neck
        middles = before.mean(), after.mean()
        told = NECK_WEIGHT * np.conj(middles[0]) * middles[1]
        told += (np.conj(before - middles[0]) * (after - middles[1])).sum()
        leaning = float(np.angle(told * np.exp(-1j * angle)))
        angle += float(np.clip(leaning, -HEAD_TILT, HEAD_TILT))
    return Turn(own.trunk.neck, now.trunk.neck, angle)


def turn_limb(own: np.ndarray, now: np.ndarray, trunk: Turn, down: complex, side: int) -> list[Turn]:
    """The bones of a limb, joints complex [n] each as they were and are, and its end: a hand or a foot.

    `down` is where the limb hangs in the picture, and `side` is 1 where outwards is anticlockwise of it as
    seen on the screen, else -1. Where `now` has fewer joints than `own` the rest turns as the last that it
    has.
    """
    turns: list[Turn] = []
    angle, place = trunk.angle, now[0] if len(now) else trunk(own[0])
    for bone in range(len(own) - 1):
        before = own[bone + 1] - own[bone]
        stretch, length = RIGID, abs(before)
        if bone + 1 < len(now):
            after = now[bone + 1] - now[bone]
            turned = float(np.angle(after / before * np.exp(-1j * angle))) if after and before else 0.0
            if bone == 0:
                hung = side * float(np.angle(before / down))
                hung = hung + 2 * math.pi if hung < INWARDS else hung
                if hung + side * turned > OUTWARDS:
                    turned -= side * 2 * math.pi
                elif hung + side * turned < INWARDS:
                    turned += side * 2 * math.pi
            angle += turned
            factor = float(np.clip(abs(after) / abs(before), SHORTEST, LONGEST)) if before else 1.0
            stretch, length = stretch_along(before, factor), factor * length
        turns.append(Turn(complex(own[bone]), complex(place), angle, stretch))
        way = before / abs(before) if before else 1.0
        place = place + length * way * np.exp(1j * angle)
    turns.append(Turn(complex(own[-1]), complex(place), angle))
    return turns


def blended(z: np.ndarray, parent: Turn, child: Turn, weight: np.ndarray) -> np.ndarray:
    """Where points between two bones go, complex [n]: `weight` [n] is 0 on the parent and 1 on the child."""
    joint = child.origin
    place = parent(joint) + weight * (child.place - parent(joint))
    angle = parent.angle + weight * (child.angle - parent.angle)
    stretch = tuple(a + weight * (b - a) for a, b in zip(parent.stretch, child.stretch, strict=True))
    return place + np.exp(1j * angle) * stretched(z - joint, (stretch[0], stretch[1]))
