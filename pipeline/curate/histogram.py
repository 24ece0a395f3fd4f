"""A histogram as a small drawing for a page."""

import numpy as np

BINS = 32
WIDTH, HEIGHT, FOOT = 320, 110, 16
"""Pixels of the drawing, and of the room below the bars for numbers."""
LABEL = 45
"""Pixels from the middle of a number within which no other has room."""


def draw_histogram(values: np.ndarray, at_least: float | None, at_most: float | None) -> str:
    """SVG of how often values [N] occur, with lines at the bounds.

    The axis goes from the first to the last hundredth of the values and holds the bounds; what lies beyond is
    in the outermost bars.
    """
    bounds = [bound for bound in (at_least, at_most) if bound is not None]
    finite = values[np.isfinite(values)]
    if not len(finite):
        return "<p>no number</p>"
    low, high = np.quantile(finite, (0.01, 0.99)).tolist()
    low, high = min(low, *bounds, high), max(high, *bounds, low)
    if low == high:
        low, high = low - 0.5, high + 0.5
    counts, edges = np.histogram(np.clip(finite, low, high), BINS, (low, high))
    scale, step = (HEIGHT - FOOT) / max(counts.max(), 1), WIDTH / BINS

    def across(value: float) -> float:
        return (value - low) / (high - low) * WIDTH

    bars = "".join(
        f'<rect x="{across(edge):.1f}" y="{HEIGHT - FOOT - count * scale:.1f}" width="{step - 1:.1f}" '
        f'height="{count * scale:.1f}" fill="#48c"/>'
        for edge, count in zip(edges[:-1].tolist(), counts.tolist(), strict=True)
        if count
    )
    lines = "".join(
        f'<line x1="{across(bound):.1f}" x2="{across(bound):.1f}" y1="0" y2="{HEIGHT - FOOT}" stroke="#d22" '
        f'stroke-width="2"/><text x="{min(max(across(bound), 14), WIDTH - 14):.1f}" y="{HEIGHT - 3}" '
        f'text-anchor="middle" fill="#d22" font-size="11">{bound:.3g}</text>'
        for bound in bounds
    )
    ends = "".join(
        f'<text x="{across(end):.1f}" y="{HEIGHT - 3}" text-anchor="{anchor}" font-size="11">{end:.3g}</text>'
        for end, anchor in ((low, "start"), (high, "end"))
        if all(abs(across(bound) - across(end)) > LABEL for bound in bounds)
    )
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img">{bars}{lines}{ends}</svg>'
