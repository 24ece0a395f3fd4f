"""Draws a dressed dancer: trunk, legs, arms, hands, head and hair, from far to near."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from .puppet_character import PARTS, Character, Outfit
from .puppet_drawing import (
    Canvas,
    Capsules,
    Ellipsoid,
    Loft,
    draw_capsules,
    draw_ellipsoid,
    ellipsoid_surface,
    loft_surface,
    paint,
)
from .puppet_face import draw_face
from .puppet_skeleton import Camera, Skeleton

PART = {name: index for index, name in enumerate(PARTS)}
SIDES = ("left", "right")

LEG_STOPS = np.array([0.0, 0.25, 0.51, 0.66, 1.0])
LEG_RADII = np.array([0.053, 0.050, 0.036, 0.036, 0.022])
ARM_STOPS = np.array([0.0, 0.25, 0.53, 0.65, 1.0])
ARM_RADII = np.array([0.034, 0.032, 0.0265, 0.0285, 0.0200])
"""Radii of bare limbs along their length, in heights."""

TRUNK_KNOTS = np.array([-0.14, 0.0, 0.14, 0.38, 0.62, 0.80, 0.88, 0.94, 0.985, 1.03, 1.08])
TRUNK_HALVES = np.array([0.050, 0.094, 0.092, 0.077, 0.088, 0.101, 0.104, 0.094, 0.066, 0.042, 0.034])
TRUNK_DEPTHS = np.array([0.050, 0.066, 0.062, 0.054, 0.066, 0.068, 0.058, 0.050, 0.042, 0.036, 0.032])
"""Half-widths and half-depths of the trunk from the crotch to the neck, in heights."""


class Figure(NamedTuple):
    """What the drawing functions share: the canvas, who is drawn, bones in space and how they project."""

    canvas: Canvas
    character: Character
    bones: Skeleton
    camera: Camera


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


def _join(*bundles: Capsules) -> Capsules:
    return Capsules(*(np.concatenate(parts) for parts in zip(*bundles, strict=True)))


def _capsule(start: np.ndarray, end: np.ndarray, r0: float, r1: float, colour: object, part: int) -> Capsules:
    rgb = np.asarray(colour, float)[None]
    return Capsules(start[None], end[None], np.array([r0]), np.array([r1]), rgb, np.array([part]))


def _draw_leg(figure: Figure, side: int) -> None:
    canvas, character, bones, camera = figure
    outfit, body, scale = character.outfit, character.proportions, camera.scale
    joints = camera(np.stack([bones.hips[side], bones.knees[side], bones.ankles[side]]))
    joints[0, 2] -= 0.02 * scale  # the pelvis lies over the thigh
    bare = LEG_RADII * body.limb * scale
    flare = np.interp(LEG_STOPS, [0, 0.4, 1], [1.0, 1.04, outfit.flare])
    cloth = np.maximum(bare * 1.06, np.array([0, 0, 0.038, 0.037, 0.031]) * scale) * flare
    name = SIDES[side]
    colours = character.colours
    covered = outfit.leg if outfit.cut != "skirt" else 0.12
    leg = Limb(
        joints,
        LEG_STOPS,
        bare,
        covered,
        cloth,
        (np.array(colours[f"{name}_leg"]), PART[f"{name}_leg"]),
        (np.array(colours[f"{name}_calf"]), PART[f"{name}_calf"]),
    )
    feet = camera(bones.feet[side])
    toe, heel, ankle = feet[:2].mean(0), feet[2], joints[2]
    shoe, part = colours[f"{name}_shoe"], PART[f"{name}_shoe"]
    shoes = _join(
        _capsule(heel + 0.2 * (toe - heel), toe, 0.029 * scale, 0.025 * scale, shoe, part),
        _capsule(ankle, heel + 0.25 * (toe - heel), 0.028 * scale, 0.028 * scale, shoe, part),
    )
    draw_capsules(canvas, shoes)
    draw_capsules(canvas, _limb_capsules(leg))


def _trunk_loft(figure: Figure) -> Loft:
    _, character, bones, camera = figure
    body, scale = character.proportions, camera.scale
    low, waist, high = camera(np.stack([bones.pelvis, bones.waist, bones.neck]))
    along = (high - low)[:2] / np.hypot(*(high - low)[:2])
    across = np.array([-along[1], along[0]])
    share = np.clip(TRUNK_KNOTS, 0, 1)
    girth = np.interp(
        TRUNK_KNOTS, [0, 0.2, 0.38, 0.6, 0.9, 1.0], [1, 1, body.waist, body.chest, body.chest, 1]
    )
    width, depth = TRUNK_HALVES * girth * scale, TRUNK_DEPTHS * girth * scale
    width *= np.interp(TRUNK_KNOTS, [0.6, 0.8, 0.95], [1, body.shoulder / 0.106, 1])
    turns = [
        np.abs((r * [[1.0], [-1.0], [1.0]])[:2].T @ across) for r in (bones.pelvis_turn, bones.chest_turn)
    ]
    wide = turns[0][0] + share * (turns[1][0] - turns[0][0])
    deep = turns[0][2] + share * (turns[1][2] - turns[0][2])
    lines = [camera(pair)[0] - camera(pair)[1] for pair in (bones.hips, bones.shoulders)]
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
    """RGB [h, w, 3] of the top; `around` is the angle from the breastbone, `pixel` a pixel in heights."""
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
        return np.broadcast_to(top, (*v.shape, 3))
    return top + share[..., None] * (other - top)


def _draw_trunk(figure: Figure) -> None:
    canvas, character, bones, camera = figure
    outfit, scale, colours = character.outfit, camera.scale, character.colours
    found = loft_surface(canvas, _trunk_loft(figure))
    if found is not None:
        box, surface, u, v = found
        yaws = [np.arctan2(r[0, 2], r[2, 2]) for r in (bones.pelvis_turn, bones.chest_turn)]
        around = np.arcsin(u) - (yaws[0] + np.clip(v, 0, 1) * (yaws[1] - yaws[0])).astype(np.float32)
        pixel, length = 1 / scale, character.proportions.torso * scale
        cloth = _top_colours(outfit, around, v, pixel)
        waistline = np.clip(0.5 + (v - outfit.hem) * length, 0, 1)[..., None]
        colour = np.array(outfit.bottom, np.float32) * (1 - waistline) + waistline * cloth
        neckline = 1.0 - 0.065 * np.cos(np.clip(around * 2.4, -1.57, 1.57))
        bare = np.clip(0.5 + (v - neckline) * length, 0, 1)[..., None]
        colour = colour * (1 - bare) + bare * np.array(outfit.skin, np.float32)
        part = np.where(v < outfit.hem, PART["hips"], PART["torso"])
        part = np.where(v > neckline, PART["neck"], part)
        paint(canvas, box, surface, colour.astype(np.float32), part)
    body = character.proportions
    radius = ARM_RADII[0] * body.limb * scale * 1.05
    for side, name in enumerate(SIDES):
        inner = bones.neck + bones.chest_turn @ [(0.5, -0.5)[side] * body.shoulder, -0.052, 0.0]
        ends = camera(np.stack([inner, bones.shoulders[side]]))
        ends[:, 2] -= 0.03 * scale
        draw_capsules(
            canvas,
            _capsule(ends[0], ends[1], radius * 1.05, radius, colours["torso"], PART[f"{name}_sleeve"]),
        )


def _draw_skirt(figure: Figure) -> None:
    canvas, character, bones, camera = figure
    outfit, body, scale = character.outfit, character.proportions, camera.scale
    legs = bones.hips + min(1.0, outfit.leg / 0.51) * (bones.knees - bones.hips)
    top = camera(bones.pelvis + 0.13 * body.torso * bones.pelvis_turn[:, 1])
    ends = camera(legs)
    centre = ends.mean(0)
    along = (centre - top)[:2] / max(np.hypot(*(centre - top)[:2]), 1.0)
    across = np.array([-along[1], along[0]])
    spread = abs(float((ends[0] - ends[1])[:2] @ across)) / 2
    hem = spread + (0.064 + 0.03 * outfit.flare) * scale
    waist = 0.088 * body.waist * scale
    nearest = np.array([0, 0, ends[:, 2].max() - centre[2] + 0.01 * scale])
    loft = Loft(
        top,
        centre + nearest,
        np.array([0.0, 0.3, 1.0]),
        np.array([waist, max(waist, 0.1 * scale), hem]),
        np.array([0.066, 0.085, 0.085]) * scale,
        0.0,
        (0.0, 0.0),
    )
    found = loft_surface(canvas, loft)
    if found is not None:
        box, surface, u, _ = found
        pleats = (1 - 0.10 * (0.5 + 0.5 * np.cos(u * 14)))[..., None]
        colour = (np.array(outfit.bottom) * pleats).astype(np.float32)
        paint(canvas, box, surface, colour, PART["hips"])


def _draw_arm(figure: Figure, side: int) -> None:
    canvas, character, bones, camera = figure
    scale, name, colours = camera.scale, SIDES[side], character.colours
    joints = camera(np.stack([bones.shoulders[side], bones.elbows[side], bones.wrists[side]]))
    bare = ARM_RADII * character.proportions.limb * scale
    loose = (
        np.array([1.05, 1.1, 1.15, 1.1, 1.25])
        if character.outfit.sleeve > 0.5
        else np.array([1.05, 1.2, 1.2, 1.2, 1.2])
    )
    arm = Limb(
        joints,
        ARM_STOPS,
        bare,
        character.outfit.sleeve,
        bare * loose,
        (np.array(colours[f"{name}_sleeve"]), PART[f"{name}_sleeve"]),
        (np.array(colours[f"{name}_arm"]), PART[f"{name}_arm"]),
    )
    draw_capsules(canvas, _limb_capsules(arm))


FINGER_STARTS = np.array([1, 2, 3, 5, 6, 7, 9, 10, 11, 13, 14, 15, 17, 18, 19])
"""The joint before each bone of the fingers; the bone ends at the next joint."""
FINGER_RADII = np.zeros(21)
FINGER_RADII[1:5] = 0.078, 0.074, 0.066, 0.058
FINGER_RADII[5:17] = np.tile([0.064, 0.058, 0.053, 0.046], 3)
FINGER_RADII[17:] = 0.056, 0.051, 0.046, 0.040
"""Radii at the joints of thumb, index, middle, ring and little finger, in hand lengths."""


def _draw_hand(figure: Figure, side: int) -> None:
    canvas, character, bones, camera = figure
    hand = camera(bones.hands[side])
    size = character.proportions.hand * camera.scale
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


HEAD_AXES = np.array([0.375, 0.40, 0.435])
HEAD_CENTRE = np.array([0.0, 0.10, -0.02])
JAW_AXES = np.array([0.30, 0.36, 0.33])
JAW_CENTRE = np.array([0.0, -0.14, 0.07])
"""Cranium and jaw as ellipsoids, in heights of the head."""

HAIR_SHELLS = {  # swell of the cranium, hairline at the front, its fall to the back, tilt of the parting
    "short": (1.07, 0.50, 0.62, 0.05),
    "side": (1.09, 0.42, 0.62, 0.22),
    "bob": (1.14, 0.38, 1.10, 0.0),
    "long": (1.11, 0.46, 0.95, 0.0),
    "bun": (1.06, 0.48, 0.60, 0.0),
    "ponytail": (1.06, 0.50, 0.60, 0.08),
    "afro": (1.28, 0.34, 0.62, 0.0),
    "crop": (1.035, 0.56, 0.60, 0.0),
}


def _on_head(figure: Figure, points: object) -> np.ndarray:
    """Points of the head's own axes, in head heights, as projected."""
    bones, size = figure.bones, figure.character.proportions.head
    return figure.camera(bones.skull + size * np.asarray(points, float) @ bones.head_turn.T)


def _draw_hair_behind(figure: Figure) -> None:
    """What hangs or stands apart from the head's shell."""
    canvas, character, _, camera = figure
    size, style = character.proportions.head * camera.scale, character.outfit.hair_style
    colour, part = np.array(character.outfit.hair, float) * 0.92, PART["hair"]
    if style == "bun":
        centre = _on_head(figure, [0, 0.56, -0.16])
        draw_capsules(canvas, _capsule(centre, centre + 0.01, 0.19 * size, 0.19 * size, colour, part))
    elif style == "ponytail":
        tail = _on_head(figure, [[0, 0.32, -0.46], [0.04, 0.0, -0.62], [0.06, -0.5, -0.52]])
        draw_capsules(
            canvas,
            _join(
                _capsule(tail[0], tail[1], 0.12 * size, 0.13 * size, colour, part),
                _capsule(tail[1], tail[2], 0.13 * size, 0.06 * size, colour, part),
            ),
        )
    elif style in ("long", "bob"):
        end = -0.92 if style == "long" else -0.40
        ends = _on_head(
            figure, [[(x, 0.0, -0.16), (1.1 * x, end, -0.20)] for x in (-0.27, -0.09, 0.09, 0.27)]
        )
        strands = [_capsule(top, tip, 0.2 * size, 0.15 * size, colour, part) for top, tip in ends]
        draw_capsules(canvas, _join(*strands))


def _draw_head(figure: Figure) -> None:
    canvas, character, bones, camera = figure
    outfit, size = character.outfit, character.proportions.head * camera.scale
    skin = np.array(outfit.skin, np.float32)
    neck = camera(
        np.stack([bones.neck, bones.skull + character.proportions.head * bones.head_turn @ [0, -0.25, -0.08]])
    )
    neck[0, 2] += 0.004 * camera.scale
    draw_capsules(canvas, _capsule(neck[0], neck[1], 0.25 * size, 0.215 * size, skin * 0.86, PART["neck"]))
    ears = _on_head(
        figure, [[0.365, -0.03, -0.03], [0.375, 0.06, -0.05], [-0.365, -0.03, -0.03], [-0.375, 0.06, -0.05]]
    )
    draw_capsules(
        canvas,
        _join(
            *(
                _capsule(ears[i], ears[i + 1], 0.045 * size, 0.065 * size, skin * 0.93, PART["head"])
                for i in (0, 2)
            )
        ),
    )
    jaw = Ellipsoid(_on_head(figure, JAW_CENTRE), JAW_AXES * size, bones.head_turn)
    draw_ellipsoid(canvas, jaw, skin, PART["head"])
    found = ellipsoid_surface(
        canvas, Ellipsoid(_on_head(figure, HEAD_CENTRE), HEAD_AXES * size, bones.head_turn)
    )
    if found is not None:
        box, surface, own = found
        fade = np.clip(own[..., 1] * 1.6 + 1.25, 0, 1)  # cheeks melt into the jaw
        paint(canvas, box, surface._replace(cover=surface.cover * fade), skin, PART["head"])
    draw_face(canvas, outfit, camera(bones.face), size, bones.head_turn)
    swell, front, fall, parting = HAIR_SHELLS[outfit.hair_style]
    shell = Ellipsoid(
        _on_head(figure, HEAD_CENTRE + np.array([0, 0.015, -0.01])),
        HEAD_AXES * (swell - np.array([0.03, -0.01, 0])) * size,
        bones.head_turn,
    )
    found = ellipsoid_surface(canvas, shell)
    if found is None:
        return
    box, surface, own = found
    x, y, z = own[..., 0], own[..., 1], own[..., 2]
    temples = 0.7 * np.maximum(np.abs(x) - 0.6, 0)
    hairline = front + fall * np.minimum(z - 0.92, 0) + parting * x - temples
    cover = surface.cover * np.clip(0.5 + (y - hairline) * 0.36 * size, 0, 1)
    strands = 1 + 0.10 * np.sin(26 * np.arctan2(x, z + 0.3) + 5 * y)[..., None] * min(1.0, size / 40)
    colour = (np.array(outfit.hair) * strands).astype(np.float32)
    paint(canvas, box, surface._replace(cover=cover), colour, PART["hair"])


def draw_figure(canvas: Canvas, character: Character, bones: Skeleton, camera: Camera) -> None:
    """Draw the dancer over what `canvas` holds, far parts first; the depth buffer settles what crosses."""
    figure = Figure(canvas, character, bones, camera)
    legs = [float(camera(np.stack([bones.knees[i], bones.ankles[i]]))[:, 2].mean()) for i in range(2)]
    arms = [float(camera(np.stack([bones.elbows[i], bones.wrists[i]]))[:, 2].mean()) for i in range(2)]
    hands = [float(camera(bones.hands[i])[:, 2].mean()) for i in range(2)]
    trunk = float(camera(np.stack([bones.pelvis, bones.neck]))[:, 2].mean())
    skull = float(camera(bones.skull)[2])
    near = 0.03 * camera.scale
    jobs: list[tuple[float, Callable[[], None]]] = [
        (skull - 3 * near, lambda: _draw_hair_behind(figure)),
        (trunk, lambda: _draw_trunk(figure)),
        (max(skull, trunk) + near, lambda: _draw_head(figure)),
    ]
    for side in range(2):
        jobs.append(
            (
                min(legs[side], trunk - 0.1 * near) if legs[side] < trunk + 3 * near else legs[side],
                lambda side=side: _draw_leg(figure, side),
            )
        )
        jobs.append((arms[side] + near, lambda side=side: _draw_arm(figure, side)))
        jobs.append((hands[side] + 1.5 * near, lambda side=side: _draw_hand(figure, side)))
    if character.outfit.cut == "skirt":
        jobs.append((max(trunk, *legs) + 0.1 * near, lambda: _draw_skirt(figure)))
    for _, job in sorted(jobs, key=lambda item: item[0]):
        job()
