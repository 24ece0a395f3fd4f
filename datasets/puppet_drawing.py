"""A small software renderer: shaded solids with smooth edges, a depth buffer and a map of parts.

Solids are tapered capsules, ellipsoids and lofts. Each is evaluated for all pixels of its bounding box at
once; coverage comes from the distance to the outline in pixels, so edges are smooth at every size.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

Box = tuple[int, int, int, int]

AMBIENT, DIFFUSE, RIM = 0.60, 0.40, 0.20
"""Shading: light that is everywhere, light by Lambert's law, darkening towards the outline."""


@dataclass(frozen=True, slots=True)
class Canvas:
    """What is drawn so far: `image` uint8 [H, W, 3], `depth` float32 [H, W] (larger is nearer), `parts`."""

    image: np.ndarray
    depth: np.ndarray
    parts: np.ndarray
    light: tuple[float, float, float]

    def box(self, x0: float, y0: float, x1: float, y1: float) -> Box | None:
        """The pixels that this rectangle touches, with a pixel of margin; None outside the picture."""
        height, width = self.depth.shape
        left, top = max(0, int(x0) - 1), max(0, int(y0) - 1)
        right, bottom = min(width, int(x1) + 2), min(height, int(y1) + 2)
        return (left, top, right, bottom) if left < right and top < bottom else None


class Surface(NamedTuple):
    """A solid over the pixels of a box [h, w]: coverage 0..1, depth, unit normal (x, y, z)."""

    cover: np.ndarray
    depth: np.ndarray
    normal: tuple[np.ndarray, np.ndarray, np.ndarray]


def grid(box: Box) -> tuple[np.ndarray, np.ndarray]:
    """Pixel centres of a box: x [1, w] and y [h, 1]."""
    x0, y0, x1, y1 = box
    return np.arange(x0, x1, dtype=np.float32)[None], np.arange(y0, y1, dtype=np.float32)[:, None]


def paint(canvas: Canvas, box: Box, surface: Surface, colour: np.ndarray, part: np.ndarray | int) -> None:
    """Shade the surface and lay it over what is farther. `colour` [3] or [h, w, 3]; `part` one or [h, w]."""
    x0, y0, x1, y1 = box
    region = slice(y0, y1), slice(x0, x1)
    image, depth = canvas.image[region], canvas.depth[region]
    cover = np.where(surface.depth >= depth, surface.cover, np.float32(0))
    nx, ny, nz = surface.normal
    lx, ly, lz = (np.float32(value) for value in canvas.light)
    light = np.maximum(nx * lx + ny * ly + nz * lz, 0) * np.float32(DIFFUSE) + np.float32(AMBIENT)
    light *= np.float32(1 - RIM) + np.float32(RIM) * nz
    rgb = light[..., None] * np.float32(1.12) * colour
    under = image.astype(np.float32)
    under += cover[..., None] * (np.minimum(rgb, 255) - under)
    image[...] = (under + np.float32(0.5)).astype(np.uint8)
    solid = cover >= 0.5
    np.copyto(depth, surface.depth, where=solid, casting="same_kind")
    np.copyto(canvas.parts[region], np.asarray(part, np.uint8), where=solid)


class Capsules(NamedTuple):
    """N tapered capsules that touch: ends [N, 3] (px, px, depth), radii [N], colours [N, 3], parts [N]."""

    start: np.ndarray
    end: np.ndarray
    start_radius: np.ndarray
    end_radius: np.ndarray
    colours: np.ndarray
    parts: np.ndarray


def draw_capsules(canvas: Canvas, capsules: Capsules) -> None:
    """Draw a chain or bundle of capsules as one solid: at each pixel the nearest one shows."""
    start, end, r0, r1, colours, parts = capsules
    reach = np.maximum(r0, r1)[:, None]
    low = np.minimum(start[:, :2], end[:, :2]) - reach
    high = np.maximum(start[:, :2], end[:, :2]) + reach
    box = canvas.box(*low.min(0), *high.max(0))
    if box is None:
        return
    start, end, r0, r1 = (np.asarray(a, np.float32) for a in (start, end, r0, r1))
    x, y = grid(box)
    column = slice(None), None, None
    px, py = x[None] - start[:, 0][column], y[None] - start[:, 1][column]  # [N, 1, w], [N, h, 1]
    axis = end - start
    length2 = np.maximum((axis[:, :2] ** 2).sum(1), 1e-6)
    ax, ay = (axis[:, 0] / length2)[column], (axis[:, 1] / length2)[column]
    share = np.clip(px * ax + py * ay, 0, 1)  # [N, h, w]
    dx, dy = px - share * axis[:, 0][column], py - share * axis[:, 1][column]
    radius = r0[column] + share * (r1 - r0)[column]
    distance = np.sqrt(dx * dx + dy * dy)
    outside = distance - radius
    ratio = np.minimum(distance / radius, 1)
    nz = np.sqrt(1 - ratio * ratio)
    axial = start[:, 2][column] + share * axis[:, 2][column]
    bulge = radius * nz  # counts double in the choice: joints of a chain stay smooth
    front = np.where(outside < 0, axial + 2 * bulge, np.float32(-1e6) - outside).argmax(0)
    picked = (front * front.size + np.arange(front.size).reshape(front.shape)).ravel()

    def pick(values: np.ndarray) -> np.ndarray:
        return values.ravel().take(picked).reshape(front.shape)

    wide = pick(radius)
    cover = np.clip(0.5 - outside.min(0), 0, 1)
    cover *= np.minimum(1, 2 * wide)  # thinner than a pixel: fainter
    scale = 1 / np.maximum(pick(distance), wide)
    normal = pick(dx) * scale, pick(dy) * scale, pick(nz)
    surface = Surface(cover, pick(axial) + pick(bulge), normal)
    paint(canvas, box, surface, colours.astype(np.float32)[front], parts[front])


class Ellipsoid(NamedTuple):
    """Centre [3] (px, px, depth), half-axes [3] in px, rotation [3, 3] in space (y up)."""

    centre: np.ndarray
    axes: np.ndarray
    rotation: np.ndarray


FLIP = np.diag([1.0, -1.0, 1.0])
"""Space has y up, pictures have y down."""


def ellipsoid_surface(canvas: Canvas, solid: Ellipsoid) -> tuple[Box, Surface, np.ndarray] | None:
    """The visible half of an ellipsoid, and the point of the unit sphere [h, w, 3] in its own axes (y up)."""
    turned = FLIP @ solid.rotation
    shape = (turned / solid.axes**2) @ turned.T  # p' shape p = 1 on the surface
    outline = np.linalg.inv(np.linalg.inv(shape)[:2, :2])
    half = np.sqrt(np.diag(np.linalg.inv(shape))[:2])
    box = canvas.box(*(solid.centre[:2] - half), *(solid.centre[:2] + half))
    if box is None:
        return None
    x, y = grid(box)
    x, y = x - np.float32(solid.centre[0]), y - np.float32(solid.centre[1])
    a, b, c = (np.float32(v) for v in (outline[0, 0], outline[0, 1], outline[1, 1]))
    gx, gy = a * x + b * y, b * x + c * y
    inside = 1 - (x * gx + y * gy)
    cover = np.clip(0.5 + inside / (2 * np.sqrt(gx * gx + gy * gy) + 1e-6), 0, 1)
    s = shape.astype(np.float32)
    z = (np.sqrt(np.maximum(inside, 0) * s[2, 2]) - (s[0, 2] * x + s[1, 2] * y)) / s[2, 2]
    x, y = np.broadcast_to(x, z.shape), np.broadcast_to(y, z.shape)
    normal = [s[i, 0] * x + s[i, 1] * y + s[i, 2] * z for i in range(3)]
    scale = 1 / np.sqrt(normal[0] ** 2 + normal[1] ** 2 + normal[2] ** 2 + 1e-12)
    own = np.stack([x, y, z], -1) @ (turned / solid.axes).astype(np.float32)
    surface = Surface(cover, z + np.float32(solid.centre[2]), tuple(n * scale for n in normal))
    return box, surface, own


def draw_ellipsoid(canvas: Canvas, solid: Ellipsoid, colour: np.ndarray, part: int) -> None:
    """Draw a whole ellipsoid in one colour."""
    found = ellipsoid_surface(canvas, solid)
    if found is not None:
        paint(canvas, found[0], found[1], np.asarray(colour, np.float32), part)


class Loft(NamedTuple):
    """A tube with elliptical cross-sections along a line, for trunks and skirts.

    `low`, `high` [3] (px, px, depth) are the axis at v = 0 and v = 1; `knots` [K] values of v; `halves` [K]
    and `depths` [K] half-width across the picture and towards the viewer, px; `bend` sideways shift of the
    axis in px at v = 0.5; `tilts` slopes of the cross-sections at v = 0 and 1 (hips' and shoulders' line).
    """

    low: np.ndarray
    high: np.ndarray
    knots: np.ndarray
    halves: np.ndarray
    depths: np.ndarray
    bend: float
    tilts: tuple[float, float]


def loft_surface(canvas: Canvas, loft: Loft) -> tuple[Box, Surface, np.ndarray, np.ndarray] | None:
    """The visible side of a loft with, for every pixel, u (-1..1 across) and v (along)."""
    axis = (loft.high - loft.low)[:2]
    length = float(np.hypot(*axis))
    along = axis / length
    across = np.array([-along[1], along[0]])
    reach = float(loft.halves.max()) * (1.1 + max(abs(t) for t in loft.tilts)) + abs(loft.bend)
    ends = np.stack([loft.low[:2] + along * length * v for v in (loft.knots[0], loft.knots[-1])])
    box = canvas.box(*(ends.min(0) - reach), *(ends.max(0) + reach))
    if box is None:
        return None
    x, y = grid(box)
    x, y = x - np.float32(loft.low[0]), y - np.float32(loft.low[1])
    along32, across32 = along.astype(np.float32), across.astype(np.float32)
    v = (x * along32[0] + y * along32[1]) * np.float32(1 / length)
    s = x * across32[0] + y * across32[1]
    inner = np.clip(v, 0, 1)
    low_tilt, high_tilt = (np.float32(t) for t in loft.tilts)
    v = v - s * (low_tilt + inner * (high_tilt - low_tilt)) * np.float32(1 / length)
    s = s - np.float32(4 * loft.bend) * inner * (1 - inner)
    table = np.linspace(loft.knots[0], loft.knots[-1], 64)
    fine = np.clip((v - np.float32(table[0])) * np.float32(63 / (table[-1] - table[0])), 0, 63)
    index = np.minimum(fine.astype(np.intp), 62)
    share = fine - index
    halves = np.interp(table, loft.knots, loft.halves).astype(np.float32)
    half = halves[index] + share * (halves[index + 1] - halves[index])
    depths = np.interp(table, loft.knots, loft.depths).astype(np.float32)[index]
    u = s / half
    slope = (np.gradient(halves) / ((table[1] - table[0]) * length)).astype(np.float32)[index]
    steep = 1 / np.sqrt(1 + slope * slope)
    cover = np.clip(0.5 - (np.abs(s) - half) * steep, 0, 1)
    edge = np.float32(length)
    cover *= np.clip(0.5 + (v - np.float32(loft.knots[0])) * edge, 0, 1)
    cover *= np.clip(0.5 + (np.float32(loft.knots[-1]) - v) * edge, 0, 1)
    u = np.clip(u, -1, 1)
    round_ = np.sqrt(1 - u * u)
    depth = np.float32(loft.low[2]) + inner * np.float32(loft.high[2] - loft.low[2]) + depths * round_
    nx = u * across32[0] * np.float32(0.95)
    ny = u * across32[1] * np.float32(0.95)
    return box, Surface(cover, depth, (nx, ny, np.sqrt(1 - nx * nx - ny * ny))), u, v
