"""Draws head, hair and neck."""

from typing import NamedTuple

import numpy as np

from .character import PARTS, Character
from .drawing import FLIP, Canvas, Ellipsoid, capsule, draw_capsules, ellipsoid_surface, join, paint
from .face import draw_face
from .skeleton import Skeleton

PART = {name: index for index, name in enumerate(PARTS)}


class Figure(NamedTuple):
    """What the drawing functions share: the canvas, who is drawn, bones as the camera sees them.

    `points` holds pixels (px, px, nearness in px) and `bones` rotations in the camera's axes; `scale` is the
    pixels of a character height.
    """

    canvas: Canvas
    character: Character
    bones: Skeleton
    points: Skeleton
    scale: float


HEAD_AXES = np.array([0.375, 0.40, 0.435])
HEAD_CENTRE = np.array([0.0, 0.10, -0.02])
JAW_AXES = np.array([0.312, 0.36, 0.33])
JAW_CENTRE = np.array([0.0, -0.14, 0.07])
"""Cranium and jaw as ellipsoids, in heights of the head."""
EARS = np.array([[0.365, -0.03, -0.03], [0.375, 0.06, -0.05], [-0.365, -0.03, -0.03], [-0.375, 0.06, -0.05]])
"""Lower and upper end of both ears."""

HAIR_SHELLS = {  # swell of the cranium, hairline at the front, its fall to the back, slope of the parting
    "short": (1.07, 0.50, 0.66, 0.05),
    "side": (1.09, 0.42, 0.66, 0.22),
    "bob": (1.15, 0.36, 1.15, 0.0),
    "long": (1.11, 0.46, 1.00, 0.0),
    "bun": (1.06, 0.48, 0.62, 0.0),
    "ponytail": (1.06, 0.50, 0.62, 0.08),
    "afro": (1.28, 0.34, 0.66, 0.0),
    "crop": (1.035, 0.56, 0.66, 0.0),
}


def _size(figure: Figure) -> float:
    """Pixels of the head's height."""
    return figure.character.proportions.head * figure.scale


def _on_head(figure: Figure, points: object) -> np.ndarray:
    """Points of the head's own axes, in head heights, as projected."""
    axes = (FLIP * figure.bones.head_turn).T
    return figure.points.skull + _size(figure) * np.asarray(points, float) @ axes


def draw_hair_behind(figure: Figure) -> None:
    """Draw the hair that hangs or stands apart from the head's shell."""
    size, style = _size(figure), figure.character.outfit.hair_style
    colour, part = np.array(figure.character.outfit.hair) * 0.92, PART["hair"]
    if style == "bun":
        centre = _on_head(figure, [0, 0.56, -0.16])
        strands = [capsule(centre, centre + 0.01, 0.19 * size, 0.19 * size, colour, part)]
    elif style == "ponytail":
        tail = _on_head(figure, [[0, 0.32, -0.46], [0.04, 0.0, -0.62], [0.06, -0.5, -0.52]])
        strands = [
            capsule(tail[0], tail[1], 0.12 * size, 0.13 * size, colour, part),
            capsule(tail[1], tail[2], 0.13 * size, 0.06 * size, colour, part),
        ]
    elif style in ("long", "bob"):
        end = -0.92 if style == "long" else -0.38
        ends = [[(x, 0.0, -0.16), (1.1 * x, end, -0.20)] for x in (-0.27, -0.09, 0.09, 0.27)]
        strands = [
            capsule(top, tip, 0.2 * size, 0.15 * size, colour, part) for top, tip in _on_head(figure, ends)
        ]
    else:
        return
    draw_capsules(figure.canvas, join(*strands))


def _draw_hair_shell(figure: Figure) -> None:
    """Draw the hair on the head: a swollen cranium, cut off in front along the hairline."""
    outfit, size = figure.character.outfit, _size(figure)
    swell, front, fall, parting = HAIR_SHELLS[outfit.hair_style]
    axes = HEAD_AXES * (swell + np.array([-0.03, 0.01, 0.0])) * size
    centre = _on_head(figure, HEAD_CENTRE + np.array([0.0, 0.015, -0.01]))
    found = ellipsoid_surface(figure.canvas, Ellipsoid(centre, axes, figure.bones.head_turn))
    if found is None:
        return
    surface, (x, y, z) = found
    temples = 0.7 * np.maximum(np.abs(x) - 0.6, 0)
    hairline = front + fall * np.minimum(z - 0.92, 0) + parting * x - temples
    cover = surface.cover * np.clip(0.5 + (y - hairline) * 0.36 * size, 0, 1)
    strands = 1 + 0.10 * min(1.0, size / 40) * np.sin(26 * np.arctan2(x, z + 0.3) + 5 * y)
    colour = np.array(outfit.hair, np.float32) * strands[:, None].astype(np.float32)
    paint(figure.canvas, surface._replace(cover=cover), colour, PART["hair"])


def draw_head(figure: Figure) -> None:
    """Draw neck, ears, jaw, cranium, the face and the hair on the head."""
    canvas, character, bones, points, _ = figure
    outfit, size = character.outfit, _size(figure)
    skin = np.array(outfit.skin, np.float32)
    neck = points.neck + np.array([0.0, 0.0, 0.004 * figure.scale])
    throat = _on_head(figure, [0.0, -0.25, -0.08])
    solids = [capsule(neck, throat, 0.25 * size, 0.215 * size, skin * 0.86, PART["neck"])]
    if outfit.hair_style not in ("bob", "long"):
        ears = _on_head(figure, EARS)
        for lower, upper in (ears[:2], ears[2:]):
            solids.append(capsule(lower, upper, 0.045 * size, 0.065 * size, skin * 0.93, PART["head"]))
    draw_capsules(canvas, join(*solids))
    jaw = ellipsoid_surface(canvas, Ellipsoid(_on_head(figure, JAW_CENTRE), JAW_AXES * size, bones.head_turn))
    if jaw is not None:
        paint(canvas, jaw[0], skin, PART["head"])
    cranium = ellipsoid_surface(
        canvas, Ellipsoid(_on_head(figure, HEAD_CENTRE), HEAD_AXES * size, bones.head_turn)
    )
    if cranium is not None:
        surface, own = cranium
        fade = np.clip(1.6 * own[1] + 1.25, 0, 1)  # cheeks melt into the jaw
        paint(canvas, surface._replace(cover=surface.cover * fade), skin, PART["head"])
    draw_face(canvas, outfit, points.face, size, bones.head_turn)
    _draw_hair_shell(figure)
