"""Draws a dressed dancer: trunk, legs, arms and hands, with the head in between, from far to near."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from .camera import Camera, seen_by
from .character import Character, Outfit
from .drawing import FLIP, Canvas, Capsules, Loft, capsule, draw_capsules, join, loft_surface, paint
from .head import PART, Figure, draw_hair_behind, draw_head
from .skeleton import Skeleton

SIDES = ("left", "right")

LEG_STOPS = np.array([0.0, 0.25, 0.51, 0.66, 1.0])
LEG_RADII = np.array([0.049, 0.049, 0.036, 0.036, 0.022])
ARM_STOPS = np.array([0.0, 0.25, 0.53, 0.65, 1.0])
ARM_RADII = np.array([0.034, 0.032, 0.0265, 0.0285, 0.0200])
"""Radii of bare limbs along their length, in heights."""
CLOTH_RADII = np.array([0.0, 0.0, 0.038, 0.037, 0.031])
"""Trousers hang at least this far from the bone, in heights."""
LONG_SLEEVE, SHORT_SLEEVE = np.array([1.05, 1.1, 1.15, 1.1, 1.25]), np.array([1.05, 1.2, 1.2, 1.2, 1.2])
"""How much wider than the arm the cloth is, at ARM_STOPS."""

TRUNK_KNOTS = np.array([-0.14, 0.0, 0.14, 0.38, 0.62, 0.80, 0.88, 0.94, 0.985, 1.03, 1.08])
TRUNK_HALVES = np.array([0.060, 0.100, 0.096, 0.078, 0.088, 0.101, 0.104, 0.094, 0.066, 0.042, 0.034])
TRUNK_DEPTHS = np.array([0.000, 0.060, 0.062, 0.054, 0.066, 0.068, 0.058, 0.050, 0.042, 0.036, 0.032])
"""Half-widths and half-depths of the trunk from the crotch to the neck, in heights."""


class Limb(NamedTuple):
    """A bent limb: joints [3, 3] as projected, its radii, and the share that cloth covers."""

    joints: np.ndarray
    stops: np.ndarray
    radii: np.ndarray
    covered: float
    cloth_radii: np.ndarray
    cloth: tuple[np.ndarray, int]
    skin: tuple[np.ndarray, int]


def _limb_capsules(limb: Limb) -> Capsules:
    """Capsules along the limb, split where the cloth ends."""
    cut = limb.covered
    stops = np.unique(np.concatenate([limb.stops, [cut]])) if 0 < cut < 1 else limb.stops
    middle = limb.stops[2]
    points = np.stack([np.interp(stops, [0, middle, 1], limb.joints[:, axis]) for axis in range(3)], 1)
    bare = np.interp(stops, limb.stops, limb.radii)
    dressed = np.interp(stops, limb.stops, limb.cloth_radii)
    cloth = (stops[:-1] + stops[1:]) / 2 < cut
    return Capsules(
        points[:-1],
        points[1:],
        np.where(cloth, dressed[:-1], bare[:-1]),
        np.where(cloth, dressed[1:], bare[1:]),
        np.where(cloth[:, None], limb.cloth[0], limb.skin[0]),
        np.where(cloth, limb.cloth[1], limb.skin[1]),
    )


def _draw_leg(figure: Figure, side: int) -> None:
    canvas, character, _, points, scale = figure
    outfit, colours, name = character.outfit, character.colours, SIDES[side]
    joints = np.stack([points.hips[side], points.knees[side], points.ankles[side]])
    joints[0, 2] -= 0.03 * scale  # the pelvis lies over the thigh
    bare = LEG_RADII * character.proportions.limb * scale
    flare = np.interp(LEG_STOPS, [0, 0.4, 1], [1.0, 1.04, outfit.flare])
    leg = Limb(
        joints,
        LEG_STOPS,
        bare,
        outfit.leg if outfit.cut != "skirt" else 0.12,
        np.maximum(bare * 1.06, CLOTH_RADII * scale) * flare,
        (np.array(colours[f"{name}_leg"]), PART[f"{name}_leg"]),
        (np.array(colours[f"{name}_calf"]), PART[f"{name}_calf"]),
    )
    big_toe, small_toe, heel = points.feet[side]
    toe, ankle = (big_toe + small_toe) / 2, joints[2]
    shoe, part = np.array(colours[f"{name}_shoe"]), PART[f"{name}_shoe"]
    sole = capsule(heel + 0.2 * (toe - heel), toe, 0.029 * scale, 0.025 * scale, shoe, part)
    shaft = capsule(ankle, heel + 0.25 * (toe - heel), 0.028 * scale, 0.028 * scale, shoe, part)
    draw_capsules(canvas, join(_limb_capsules(leg), sole, shaft), joined=8.0)


def _trunk_loft(figure: Figure) -> Loft:
    _, character, bones, points, scale = figure
    body, low, waist, high = character.proportions, points.pelvis, points.waist, points.neck
    along = (high - low)[:2] / np.hypot(*(high - low)[:2])
    across = np.array([-along[1], along[0]])
    share = np.clip(TRUNK_KNOTS, 0, 1)
    girth = np.interp(
        TRUNK_KNOTS, [0, 0.2, 0.38, 0.6, 0.9, 1.0], [1, 1, body.waist, body.chest, body.chest, 1]
    )
    width, depth = TRUNK_HALVES * girth * scale, TRUNK_DEPTHS * girth * scale
    width *= np.interp(TRUNK_KNOTS, [0.6, 0.8, 0.95], [1, body.shoulder / 0.106, 1])
    turns = [np.abs((FLIP * r)[:2].T @ across) for r in (bones.pelvis_turn, bones.chest_turn)]
    wide = turns[0][0] + share * (turns[1][0] - turns[0][0])
    deep = turns[0][2] + share * (turns[1][2] - turns[0][2])
    lines = [pair[0] - pair[1] for pair in (points.hips, points.shoulders)]
    tilts = [
        float(line[:2] @ along * (line[:2] @ across)) / ((line[:2] @ across) ** 2 + (0.1 * scale) ** 2)
        for line in lines
    ]
    return Loft(
        low,
        high,
        TRUNK_KNOTS,
        np.hypot(width * wide, depth * deep),
        depth,
        float((waist - low)[:2] @ across),
        (tilts[0], 0.6 * tilts[1]),
    )


def _emblem(kind: str, x: np.ndarray, y: np.ndarray, edge: float) -> np.ndarray:
    """Coverage of an emblem of radius 1 at (x, y); `edge` is the width of its border blur."""
    away = np.hypot(x, y)
    distance = {
        "disc": away - 1,
        "ring": np.abs(away - 0.75) - 0.27,
        "diamond": np.abs(x) + np.abs(y) - 1.15,
        "square": np.maximum(np.abs(x), np.abs(y)) - 0.85,
    }[kind]
    return np.clip(0.5 - distance / edge, 0, 1)


def _top_colours(outfit: Outfit, around: np.ndarray, v: np.ndarray, pixel: float) -> np.ndarray:
    """RGB [P, 3] of the top; `around` is the angle from the breastbone, `pixel` a pixel in heights."""
    top, other = np.array(outfit.top, np.float32), np.array(outfit.pattern_colour, np.float32)
    if outfit.pattern in ("striped", "vertical"):
        wave = np.sin(np.pi * (v * 2 * outfit.stripes if outfit.pattern == "striped" else around * 4))
        steep = np.pi * 2 * outfit.stripes * pixel / 0.3 if outfit.pattern == "striped" else 40 * pixel
        share = np.clip(0.5 + wave / max(steep, 0.05), 0, 1)
    elif outfit.pattern == "emblem":
        share = _emblem(
            outfit.emblem, around * 0.085 / 0.042, (v - 0.66) * 0.29 / 0.042, max(pixel / 0.042, 0.05)
        )
    else:
        return np.broadcast_to(top, (len(v), 3))
    return top + share[:, None] * (other - top)


def _draw_trunk(figure: Figure) -> None:
    canvas, character, bones, points, scale = figure
    outfit, body = character.outfit, character.proportions
    radius = ARM_RADII[0] * body.limb * scale * 1.05
    bridges = []
    for side, name in enumerate(SIDES):  # from the chest to the shoulders, under the trunk
        inner = (
            points.neck + 0.55 * (points.shoulders[side] - points.neck) + 0.09 * (points.pelvis - points.neck)
        )
        back = np.array([0.0, 0.0, 0.03 * scale])
        part = PART[f"{name}_sleeve"]
        ends = inner - back, points.shoulders[side] - back
        bridges.append(capsule(*ends, 0.9 * radius, radius, np.array(outfit.top), part))
    draw_capsules(canvas, join(*bridges))
    found = loft_surface(canvas, _trunk_loft(figure))
    if found is None:
        return
    surface, u, v = found
    low, high = (np.float32(np.arctan2(r[0, 2], r[2, 2])) for r in (bones.pelvis_turn, bones.chest_turn))
    around = np.arcsin(u) - (low + np.clip(v, 0, 1) * (high - low))
    length = np.float32(body.torso * scale)
    waistline = np.clip(0.5 + (v - np.float32(outfit.hem)) * length, 0, 1)[:, None]
    bottom, skin = np.array(outfit.bottom, np.float32), np.array(outfit.skin, np.float32)
    colour = bottom + waistline * (_top_colours(outfit, around, v, 1 / scale) - bottom)
    neckline = 1.0 - 0.065 * np.cos(np.clip(around * 2.4, -1.57, 1.57))
    colour += np.clip(0.5 + (v - neckline) * length, 0, 1)[:, None] * (skin - colour)
    part = np.where(v < outfit.hem, PART["hips"], np.where(v > neckline, PART["neck"], PART["torso"]))
    paint(canvas, surface, colour.astype(np.float32), part)


def _draw_skirt(figure: Figure) -> None:
    canvas, character, _, points, scale = figure
    outfit, body = character.outfit, character.proportions
    ends = points.hips + min(1.0, outfit.leg / LEG_STOPS[2]) * (points.knees - points.hips)
    top, centre = points.pelvis + 0.13 * (points.neck - points.pelvis), ends.mean(0)
    along = (centre - top)[:2] / max(np.hypot(*(centre - top)[:2]), 1.0)
    spread = abs(float((ends[0] - ends[1])[:2] @ np.array([-along[1], along[0]]))) / 2
    waist = 0.090 * body.waist
    front = np.array([0.0, 0.0, ends[:, 2].max() - centre[2] + 0.01 * scale])  # hangs over the nearer knee
    halves = np.array([waist, max(waist, 0.104), spread / scale + 0.064 + 0.03 * outfit.flare]) * scale
    depths = np.array([0.068, 0.085, 0.085]) * scale
    loft = Loft(top, centre + front, np.array([0.0, 0.3, 1.0]), halves, depths, 0.0, (0.0, 0.0))
    found = loft_surface(canvas, loft)
    if found is not None:
        surface, u, _ = found
        pleats = 0.95 - 0.05 * np.cos(14 * u)[:, None]
        paint(canvas, surface, np.array(outfit.bottom, np.float32) * pleats, PART["hips"])


def _draw_arm(figure: Figure, side: int) -> None:
    canvas, character, _, points, scale = figure
    sleeve, name, colours = character.outfit.sleeve, SIDES[side], character.colours
    bare = ARM_RADII * character.proportions.limb * scale
    arm = Limb(
        np.stack([points.shoulders[side], points.elbows[side], points.wrists[side]]),
        ARM_STOPS,
        bare,
        sleeve,
        bare * (LONG_SLEEVE if sleeve > 0.5 else SHORT_SLEEVE),
        (np.array(colours[f"{name}_sleeve"]), PART[f"{name}_sleeve"]),
        (np.array(colours[f"{name}_arm"]), PART[f"{name}_arm"]),
    )
    draw_capsules(canvas, _limb_capsules(arm), joined=5.0)


FINGER_STARTS = np.array([1, 2, 3, 5, 6, 7, 9, 10, 11, 13, 14, 15, 17, 18, 19])
"""The joint before each bone of the fingers; the bone ends at the next joint."""
FINGER_RADII = np.zeros(21)
FINGER_RADII[1:5] = 0.078, 0.074, 0.066, 0.058
FINGER_RADII[5:17] = np.tile([0.064, 0.058, 0.053, 0.046], 3)
FINGER_RADII[17:] = 0.056, 0.051, 0.046, 0.040
"""Radii at the joints of thumb, index, middle, ring and little finger, in hand lengths."""


def _draw_hand(figure: Figure, side: int) -> None:
    canvas, character, _, points, scale = figure
    hand, size = points.hands[side], character.proportions.hand * scale
    wrist, knuckles = hand[0], hand[[5, 9, 13, 17]]
    roots = wrist + 0.12 * (knuckles - wrist)
    start = np.concatenate([roots, wrist[None], hand[FINGER_STARTS]])
    end = np.concatenate([knuckles, hand[[2]], hand[FINGER_STARTS + 1]])
    start_radii = np.concatenate(
        [np.full(4, 0.105 * size), [0.09 * size], FINGER_RADII[FINGER_STARTS] * size]
    )
    end_radii = np.concatenate(
        [np.full(4, 0.078 * size), [0.085 * size], FINGER_RADII[FINGER_STARTS + 1] * size]
    )
    colour = np.array(character.colours[f"{SIDES[side]}_hand"], float)
    shades = np.concatenate([np.full(5, 0.97), np.repeat([1.0, 1.02, 0.98, 1.02, 0.98], 3)])
    part = np.full(len(start), PART[f"{SIDES[side]}_hand"])
    draw_capsules(canvas, Capsules(start, end, start_radii, end_radii, colour * shades[:, None], part))


def draw_figure(canvas: Canvas, character: Character, bones: Skeleton, camera: Camera) -> None:
    """Draw the dancer over what `canvas` holds, far parts first; the depth buffer settles what crosses."""
    bones, points = seen_by(camera, bones)
    figure = Figure(canvas, character, bones, points, camera.scale)
    near = 0.03 * camera.scale
    trunk, skull = float(points.pelvis[2] + points.neck[2]) / 2, float(points.skull[2])
    legs = [float(points.knees[side, 2] + points.ankles[side, 2]) / 2 for side in range(2)]
    jobs: list[tuple[float, Callable[[], None]]] = [
        (skull - 3 * near, lambda: draw_hair_behind(figure)),
        (trunk, lambda: _draw_trunk(figure)),
        (max(skull, trunk) + near, lambda: draw_head(figure)),
    ]
    for side in range(2):
        leg = legs[side] if legs[side] > trunk + 3 * near else min(legs[side], trunk - 0.1 * near)
        arm = float(points.elbows[side, 2] + points.wrists[side, 2]) / 2
        hand = float(points.hands[side, :, 2].mean())
        jobs.append((leg, lambda side=side: _draw_leg(figure, side)))
        jobs.append((arm + near, lambda side=side: _draw_arm(figure, side)))
        jobs.append((hand + 1.5 * near, lambda side=side: _draw_hand(figure, side)))
    if character.outfit.cut == "skirt":
        jobs.append((max(trunk, *legs) + 0.1 * near, lambda: _draw_skirt(figure)))
    for _, job in sorted(jobs, key=lambda item: item[0]):
        job()
