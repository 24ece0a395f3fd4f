"""A small software renderer: shaded solids with smooth edges, a depth buffer and a map of parts.

Solids are tapered capsules, ellipsoids and lofts. Coverage comes from the distance to the outline in pixels,
so edges are smooth at every size; all further work is done for covered pixels only.
"""

from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np

AMBIENT, DIFFUSE, RIM = 0.67, 0.45, 0.20
"""Shading: light that is everywhere, light by Lambert's law, darkening towards the outline."""


@dataclass(frozen=True, slots=True)
class Canvas:
    """What is drawn so far: `image` uint8 [H, W, 3], `depth` float32 [H, W] (larger is nearer), `parts`."""

    image: np.ndarray
    depth: np.ndarray
    parts: np.ndarray
    light: tuple[float, float, float]

    def box(self, x0: float, y0: float, x1: float, y1: float) -> tuple[int, int, int, int] | None:
        """The pixels that this rectangle touches, with a pixel of margin; None outside the picture."""
        height, width = self.depth.shape
        left, top = max(0, int(x0) - 1), max(0, int(y0) - 1)
        right, bottom = min(width, int(x1) + 2), min(height, int(y1) + 2)
        return (left, top, right, bottom) if left < right and top < bottom else None


class Surface(NamedTuple):
    """The visible side of a solid at P pixels: flat index `where`, coverage, depth, unit normal [3, P]."""

    where: np.ndarray
    cover: np.ndarray
    depth: np.ndarray
    normal: np.ndarray


class _Grid:
    """Pixel centres of a box relative to `origin`, and the way from box pixels to picture pixels."""

    def __init__(self, canvas: Canvas, box: tuple[int, int, int, int], origin: np.ndarray) -> None:
        self.box, self.stride = box, canvas.depth.shape[1]
        x0, y0, x1, y1 = box
        self.x = np.arange(x0, x1, dtype=np.float32)[None] - np.float32(origin[0])
        self.y = np.arange(y0, y1, dtype=np.float32)[:, None] - np.float32(origin[1])

    def covered(self, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Where `mask` [h, w] holds: index in the box, index in the picture, x and y, each [P]."""
        inner = np.flatnonzero(mask)
        row, column = np.divmod(inner, mask.shape[1])
        index = (row + self.box[1]) * self.stride + column + self.box[0]
        return inner, index, self.x[0].take(column), self.y[:, 0].take(row)


def paint(canvas: Canvas, surface: Surface, colour: np.ndarray, part: np.ndarray | int) -> None:
    """Shade the surface and lay it over what is farther. `colour` [3] or [P, 3]; `part` one or [P]."""
    index, cover, depth, normal = surface
    shown = depth >= canvas.depth.ravel().take(index)
    if not shown.any():
        return
    light = np.maximum(np.asarray(canvas.light, np.float32) @ normal, 0)
    light = (light * np.float32(DIFFUSE) + np.float32(AMBIENT)) * (
        np.float32(1 - RIM) + np.float32(RIM) * normal[2]
    )
    image = canvas.image.reshape(-1, 3)
    under = image[index].astype(np.float32)
    under += (cover * shown)[:, None] * (np.minimum(light[:, None] * colour, 255) - under)
    image[index] = under + np.float32(0.5)
    solid = shown & (cover >= 0.5)
    inside = index[solid]
    canvas.depth.reshape(-1)[inside] = depth[solid]
    canvas.parts.reshape(-1)[inside] = part if isinstance(part, int) else part[solid]


class Capsules(NamedTuple):
    """N tapered capsules that touch: ends [N, 3] (px, px, depth), radii [N], colours [N, 3], parts [N]."""

    start: np.ndarray
    end: np.ndarray
    start_radius: np.ndarray
    end_radius: np.ndarray
    colours: np.ndarray
    parts: np.ndarray


def capsule(
    start: np.ndarray, end: np.ndarray, r0: float, r1: float, colour: np.ndarray, part: int
) -> Capsules:
    """A bundle of one capsule, from `start` with radius `r0` to `end` with radius `r1`."""
    return Capsules(start[None], end[None], np.array([r0]), np.array([r1]), colour[None], np.array([part]))


def join(*bundles: Capsules) -> Capsules:
    """Several bundles as one."""
    return Capsules(*(np.concatenate(values) for values in zip(*bundles, strict=True)))


def draw_capsules(canvas: Canvas, capsules: Capsules, joined: float = 0.0) -> None:
    """Draw a bundle of capsules as one solid: at each pixel the nearest one shows.

    `joined` above 0 favours, in radii of depth, the capsule whose axis is near: the joints of a chain then
    show no rings.
    """
    start, end, r0, r1 = (np.asarray(values, np.float32) for values in capsules[:4])
    reach = np.maximum(r0, r1)[:, None]
    low = (np.minimum(start, end)[:, :2] - reach).min(0)
    high = (np.maximum(start, end)[:, :2] + reach).max(0)
    box = canvas.box(*low, *high)
    if box is None:
        return
    mask = np.zeros((box[3] - box[1], box[2] - box[0]), np.uint8)
    for (sx, sy, _), (ex, ey, _), wide in zip(
        start.tolist(), end.tolist(), reach[:, 0].tolist(), strict=True
    ):
        ends = (int(sx) - box[0], int(sy) - box[1]), (int(ex) - box[0], int(ey) - box[1])
        cv2.line(mask, *ends, (1,), 2 * int(wide + 2.5) + 1)
    inner, index, x, y = _Grid(canvas, box, np.zeros(2)).covered(mask)
    if not len(inner):
        return
    axis = end - start
    step = axis[:, :2] / np.maximum((axis[:, :2] ** 2).sum(1), 1e-6)[:, None]
    dx, dy = x - start[:, :1], y - start[:, 1:2]  # [N, P]
    share = np.clip(dx * step[:, :1] + dy * step[:, 1:], 0, 1)
    dx -= share * axis[:, :1]
    dy -= share * axis[:, 1:2]
    squared = dx * dx + dy * dy
    radius = r0[:, None] + share * (r1 - r0)[:, None]
    distance = np.sqrt(squared)
    outside = distance - radius
    ratio = np.minimum(squared / (radius * radius), 1)
    depth = start[:, 2:] + share * axis[:, 2:] + radius * np.sqrt(1 - ratio)
    nearness = depth - np.float32(joined * float(r0.mean())) * ratio if joined else depth
    front = np.where(outside < 0, nearness, np.float32(-1e6) - outside).argmax(0)
    flat = front * len(inner) + np.arange(len(inner))
    radius = radius.ravel().take(flat)
    cover = np.clip(0.5 - outside.min(0), 0, 1) * np.minimum(1, 2 * radius)  # thinner than a pixel: fainter
    scale = 1 / np.maximum(distance.ravel().take(flat), radius)
    normal = np.stack(
        [dx.ravel().take(flat) * scale, dy.ravel().take(flat) * scale, np.sqrt(1 - ratio.ravel().take(flat))]
    )
    surface = Surface(index, cover, depth.ravel().take(flat), normal)
    paint(canvas, surface, capsules.colours.astype(np.float32)[front], capsules.parts[front])


class Ellipsoid(NamedTuple):
    """Centre [3] (px, px, depth), half-axes [3] in px, rotation [3, 3] in space (y up)."""

    centre: np.ndarray
    axes: np.ndarray
    rotation: np.ndarray


FLIP = np.array([[1.0], [-1.0], [1.0]])
"""Space has y up, pictures have y down."""


def ellipsoid_surface(canvas: Canvas, solid: Ellipsoid) -> tuple[Surface, np.ndarray] | None:
    """The visible half of an ellipsoid, and its points [3, P] on the unit sphere of its own axes (y up)."""
    turned = FLIP * solid.rotation
    spread = (turned * solid.axes**2) @ turned.T
    shape = ((turned / solid.axes**2) @ turned.T).astype(np.float32)  # p' shape p = 1 on the surface
    half = np.sqrt(np.diag(spread)[:2])
    box = canvas.box(*(solid.centre[:2] - half), *(solid.centre[:2] + half))
    if box is None:
        return None
    grid = _Grid(canvas, box, solid.centre)
    a, b, c = spread[1, 1], -spread[0, 1], spread[0, 0]  # the outline's matrix: inverse of spread's corner
    scale = 1 / (a * c - b * b)
    a, b, c = np.float32(a * scale), np.float32(b * scale), np.float32(c * scale)
    gx, gy = a * grid.x + b * grid.y, b * grid.x + c * grid.y
    inside = 1 - (grid.x * gx + grid.y * gy)
    cover = 0.5 + inside / (2 * np.sqrt(gx * gx + gy * gy) + np.float32(1e-6))
    inner, index, x, y = grid.covered(cover > 0)
    cover, inside = np.minimum(cover.ravel().take(inner), 1), np.maximum(inside.ravel().take(inner), 0)
    z = (np.sqrt(inside * shape[2, 2]) - (shape[0, 2] * x + shape[1, 2] * y)) / shape[2, 2]
    points = np.stack([x, y, z])
    normal = shape @ points
    normal *= 1 / np.sqrt((normal * normal).sum(0) + 1e-12)
    own = (turned / solid.axes).T.astype(np.float32) @ points
    return Surface(index, cover, z + np.float32(solid.centre[2]), normal), own


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


def loft_surface(canvas: Canvas, loft: Loft) -> tuple[Surface, np.ndarray, np.ndarray] | None:
    """The visible side of a loft with u (-1..1 across) and v (along), each [P]."""
    axis = (loft.high - loft.low)[:2]
    length = max(float(np.hypot(*axis)), 1e-3)
    along = axis / length
    across = np.array([-along[1], along[0]])
    reach = float(loft.halves.max()) * (1.1 + max(abs(t) for t in loft.tilts)) + abs(loft.bend)
    ends = loft.low[:2] + along * (length * loft.knots[[0, -1], None])
    box = canvas.box(*(ends.min(0) - reach), *(ends.max(0) + reach))
    if box is None:
        return None
    grid = _Grid(canvas, box, loft.low)
    (lx, ly), (cx, cy) = along.astype(np.float32), across.astype(np.float32)
    v = (grid.x * lx + grid.y * ly) * np.float32(1 / length)
    s = grid.x * cx + grid.y * cy
    inner, index, _, _ = grid.covered(np.abs(s) < reach)
    v, s = v.ravel().take(inner), s.ravel().take(inner)
    inside = np.clip(v, 0, 1)
    low_tilt, high_tilt = (np.float32(t / length) for t in loft.tilts)
    v = v - s * (low_tilt + inside * (high_tilt - low_tilt))
    s = s - np.float32(4 * loft.bend) * inside * (1 - inside)
    half = np.interp(v, loft.knots, loft.halves).astype(np.float32)
    knot = np.clip(np.searchsorted(loft.knots, v) - 1, 0, len(loft.knots) - 2)
    slope = (np.diff(loft.halves) / (np.diff(loft.knots) * length)).astype(np.float32)[knot]
    cover = np.clip(0.5 - (np.abs(s) - half) / np.sqrt(1 + slope * slope), 0, 1)
    cover *= np.clip(0.5 + (v - np.float32(loft.knots[0])) * np.float32(length), 0, 1)
    cover *= np.clip(0.5 + (np.float32(loft.knots[-1]) - v) * np.float32(length), 0, 1)
    some = np.flatnonzero(cover)
    index, cover, s, v, half, inside = (a[some] for a in (index, cover, s, v, half, inside))
    u = np.clip(s / half, -1, 1)
    depth = np.interp(v, loft.knots, loft.depths).astype(np.float32) * np.sqrt(1 - u * u)
    depth += np.float32(loft.low[2]) + inside * np.float32(loft.high[2] - loft.low[2])
    lean = u * np.clip(np.float32(0.75) + 2 * v, np.float32(0.35), np.float32(0.95))  # flatter at the low end
    normal = np.stack([lean * cx, lean * cy, np.sqrt(1 - lean * lean)])
    return Surface(index, cover, depth, normal), u, v
