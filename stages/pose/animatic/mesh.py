"""A mesh of small triangles over a picture: where each pixel of the bent picture comes from.

Triangles are filled many at a time by their edge functions (Pineda, "A Parallel Algorithm for Polygon
Rasterization", SIGGRAPH 1988): those of like size together, each over a square of pixels that holds it.
"""

import numpy as np

NOWHERE = -1e4
"""Where a pixel comes from that no triangle covers: outside any picture."""
SQUARES = (12, 20, 36, 72)
"""Sides of the squares in pixels; the last are as large as the largest triangle."""
EDGE = 1e-3
"""How far outside its edges a triangle still covers pixels, in parts of its height: no cracks between two."""
THINNEST = 1e-2
"""Twice the area in pixels below which a triangle is a line and not drawn."""
TOGETHER = 1 << 19
"""Pixels of squares that are looked at together."""


def lattice(width: int, height: int, step: int) -> np.ndarray:
    """The points of a mesh of squares over a picture, complex x + iy [rows, columns]; the last lie beyond
    it."""
    x, y = np.meshgrid(np.arange(0, width + step, step), np.arange(0, height + step, step))
    return x + 1j * y


def triangles(points: np.ndarray, cells: np.ndarray) -> np.ndarray:
    """The two triangles of each chosen square, complex [n, 3]: of the lattice `points` [rows, columns].

    `cells` bool [rows - 1, columns - 1] tells which squares are meant.
    """
    row, column = np.nonzero(cells)
    a, b = points[row, column], points[row, column + 1]
    c, d = points[row + 1, column], points[row + 1, column + 1]
    return np.stack([np.stack([a, b, d], 1), np.stack([a, d, c], 1)], 1).reshape(-1, 3)


def fill(source: np.ndarray, now: np.ndarray, before: np.ndarray) -> None:
    """Write into `source` float32 [H, W, 2] where the pixels of triangles come from, as x and y.

    The triangles are given as they lie now and as they lay in the picture, complex [n, 3] each.
    """
    low = np.ceil(np.stack([now.real.min(1), now.imag.min(1)], 1))
    high = np.floor(np.stack([now.real.max(1), now.imag.max(1)], 1))
    size = (high - low).max(1) + 1
    area = np.imag(np.conj(now[:, 1] - now[:, 0]) * (now[:, 2] - now[:, 0]))
    height, width = source.shape[:2]
    shown = (np.abs(area) > THINNEST) & (size > 0)
    shown &= (high >= 0).all(1) & (low[:, 0] < width) & (low[:, 1] < height)
    least = 0
    for side in (*SQUARES, int(max(size.max(), SQUARES[-1] + 1))):
        those = np.nonzero(shown & (size > least) & (size <= side))[0]
        least, most = side, max(1, TOGETHER // side**2)
        for start in range(0, len(those), most):
            part = those[start : start + most]
            _fill_like(source, now[part], before[part], low[part], side)


def _fill_like(source: np.ndarray, now: np.ndarray, before: np.ndarray, low: np.ndarray, side: int) -> None:
    """Fill triangles that fit each in a square of `side` pixels, whose corner is `low` [n, 2]."""
    height, width = source.shape[:2]
    b, c = now[:, 1] - now[:, 0], now[:, 2] - now[:, 0]
    area = np.imag(np.conj(b) * c)
    start = low - np.stack([now[:, 0].real, now[:, 0].imag], 1)
    steps = np.arange(side, dtype=np.float32)

    def over(weight_x: np.ndarray, weight_y: np.ndarray, base: np.ndarray) -> np.ndarray:
        """A linear function over the squares, float32 [n, side, side]."""
        across, down = (weight_x / area).astype(np.float32), (weight_y / area).astype(np.float32)
        rows = ((base + weight_y * start[:, 1] + weight_x * start[:, 0]) / area).astype(np.float32)
        return (rows[:, None] + down[:, None] * steps)[:, :, None] + (across[:, None] * steps)[:, None, :]

    nothing = np.zeros(len(now))
    along_b = over(c.imag, -c.real, nothing)
    along_c = over(-b.imag, b.real, nothing)
    inside = (along_b >= -EDGE) & (along_c >= -EDGE) & (along_b + along_c <= 1 + EDGE)
    one, y, x = np.nonzero(inside)
    first, second = along_b[inside], along_c[inside]
    x, y = x + low[one, 0].astype(int), y + low[one, 1].astype(int)
    within = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    one, x, y, first, second = one[within], x[within], y[within], first[within], second[within]
    corner, to_b, to_c = before[:, 0], before[:, 1] - before[:, 0], before[:, 2] - before[:, 0]
    source[y, x, 0] = corner.real[one] + first * to_b.real[one] + second * to_c.real[one]
    source[y, x, 1] = corner.imag[one] + first * to_b.imag[one] + second * to_c.imag[one]
