"""Where a picture lies in a frame of another shape: cut at its sides, or padded."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

Size = tuple[int, int]
"""Width and height in pixels."""
Span = tuple[float, float]
"""From where to where something lies along one axis, in pixels."""


@dataclass(frozen=True, slots=True)
class Placement:
    """A picture is scaled as a whole to `scaled`, and laid into a frame of `size`, its corner at `corner`.

    Sizes are (width, height) in pixels; `corner` (x, y) is where the scaled picture's upper left corner lies
    in the frame: negative where the picture is cut, positive where the frame is padded.
    """

    size: Size
    scaled: Size
    corner: tuple[int, int]

    @property
    def inside(self) -> tuple[int, int, int, int]:
        """The part of the frame that the picture fills: left, top, right, bottom (exclusive)."""
        left, top = (max(0, corner) for corner in self.corner)
        right, bottom = (
            min(side, corner + scaled)
            for side, corner, scaled in zip(self.size, self.corner, self.scaled, strict=True)
        )
        return left, top, right, bottom

    @property
    def padded(self) -> bool:
        """Whether there are bars beside the picture."""
        return self.inside != (0, 0, *self.size)


def centre_crop(source: Size, size: Size) -> Placement:
    """The picture covers the frame and its middle stays, as in the published pipelines."""
    scaled = _covering(source, size)
    left, top = (round((long - side) / 2) for long, side in zip(scaled, size, strict=True))
    return Placement(size, scaled, (-left, -top))


def crop_around(source: Size, size: Size, parts: Sequence[tuple[Span, Span]]) -> Placement:
    """The picture covers the frame, and as little off its middle as keeps `parts` in the frame.

    `parts` are boxes in pixels of `source`, each a span of x and one of y, the most important last: where not
    all have room, those win. Without any it is `centre_crop`.
    """
    scaled = _covering(source, size)
    corner = []
    for axis in (0, 1):
        room, zoom = scaled[axis] - size[axis], scaled[axis] / source[axis]
        start = float(round(room / 2))
        for part in parts:
            low, high = (zoom * edge for edge in part[axis])
            least, most = high - size[axis], low
            start = (least + most) / 2 if least > most else min(max(start, least), most)
        corner.append(-min(max(round(start), 0), room))
    return Placement(size, scaled, (corner[0], corner[1]))


def letterbox(source: Size, size: Size) -> Placement:
    """The whole picture, as large as the frame has room for, in its middle between bars.

    Both sides of the picture and of the bars are even numbers where those of the frame are: videos need them.
    """
    zoom = min(side / own for side, own in zip(size, source, strict=True))
    width, height = (
        min(side, max(2, 2 * round(own * zoom / 2))) for side, own in zip(size, source, strict=True)
    )
    left, top = (2 * ((side - own) // 4) for side, own in zip(size, (width, height), strict=True))
    return Placement(size, (width, height), (left, top))


def _covering(source: Size, size: Size) -> Size:
    """The size of a picture that is scaled to cover a frame: equal on one side, larger on the other."""
    if source == size:
        return size  # 88 * (200 / 88) is more than 200: a row would be invented
    (width, height), ratio = size, source[1] / source[0]
    if ratio < height / width:
        return math.ceil(height / ratio), height
    return width, math.ceil(width * ratio)
