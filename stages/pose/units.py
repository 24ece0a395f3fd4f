"""Keypoints of other tools' files in pixels of one picture, from fractions and canvases of other sizes."""

from collections.abc import Sequence

import numpy as np

from ..errors import PoseError
from . import skeleton
from .base import Detections

PARTS = {
    "body": slice(skeleton.BODY.start, skeleton.FEET.stop),
    "face": skeleton.FACE,
    "left hand": skeleton.LEFT_HAND,
    "right hand": skeleton.RIGHT_HAND,
}
"""What is in one unit: tools that find hands or faces by another network may give these in another."""

FRACTIONS_END = 2.0
"""Coordinates up to here may be fractions of the picture: joints outside it reach beyond 1. In pixels hardly
anything lies so near the corner but what was not found."""

BULK = 0.8
"""Share of a part's places that decides its unit (assumed, not measured: files have all or next to none)."""


def in_pixels(
    people: Sequence[Detections], canvases: Sequence[tuple[int, int]], size: tuple[int, int]
) -> list[Detections]:
    """The people of each frame in pixels of a picture of `size`, given in pixels or fractions of `canvases`.

    A canvas, one for each frame, and `size` are (width, height). Of each part the bulk of its places, over
    all frames, decides whether it is in fractions. A canvas of another size is scaled as a whole into the
    middle of the picture. Raises PoseError where a part is neither in pixels nor in fractions.
    """
    points = np.concatenate([each.keypoints for each in people])
    seen = np.concatenate([each.scores for each in people]) > 0
    counts = [len(each) for each in people]
    own = np.repeat(np.array(canvases, np.float32), counts, axis=0)[:, None]
    for name, part in PARTS.items():
        if _are_fractions(points[:, part][seen[:, part]], name):
            points[:, part] *= own
    if any(canvas != size for canvas in canvases):
        zoom = (np.array(size, np.float32) / own).min(axis=-1, keepdims=True)
        moved = points * zoom + (np.array(size, np.float32) - own * zoom) / 2
        points = np.where(seen[..., None], moved, points)
    return [
        Detections(keypoints, each.scores)
        for keypoints, each in zip(np.split(points, np.cumsum(counts)[:-1]), people, strict=True)
    ]


def _are_fractions(places: np.ndarray, name: str) -> bool:
    """Whether most of the distinct places, float32 [n, 2], are fractions; (0, 0) is none.

    Raises PoseError where some are, and others not.
    """
    pairs = np.ascontiguousarray(places[places.any(axis=-1)]).view(np.int64)  # sorted faster than rows
    distinct = np.unique(pairs).view(np.float32).reshape(-1, 2)
    if not len(distinct):
        return False
    share = float((np.abs(distinct).max(axis=-1) <= FRACTIONS_END).mean())
    if 1 - BULK < share < BULK:
        raise PoseError(
            f"{share:.0%} of the points of its {name} look like fractions of the picture, the others like "
            "pixels: write one unit"
        )
    return share >= BULK
