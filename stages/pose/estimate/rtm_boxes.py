"""The boxes of people in a YOLOX detector's output, whatever kind of file it comes from.

rtmlib takes every class of an 80-class file for a person, and asks 0.7 of files without suppression and 0.3
of those with it. Here a box is a person's where class 0 scores SCORE, in both kinds.
"""

from collections.abc import Sequence

import numpy as np

from ...errors import PoseError

SCORE = 0.3
"""Boxes that score above this are people's: as DWPose's own code has it."""

OVERLAP = 0.45
"""Of two boxes whose intersection over union is larger, the better one is kept: rtmlib's, and YOLOX's own."""

STRIDES = (8, 16, 32)
"""Pixels from one cell of YOLOX's three grids to the next."""

SUPPRESSED = 5
"""Columns of a file with suppression inside: x0, y0, x1, y1, score."""


def person_boxes(outputs: Sequence[np.ndarray], size: tuple[int, int], ratio: float) -> np.ndarray:
    """The people's boxes float32 [n, 4], x0, y0, x1, y1 in pixels of the frame, best first.

    `outputs` are of one picture: [1, m, 5] in pixels of the input, and [1, m] classes where the file tells
    them; or raw [1, m, 5 + classes], of the grids over an input of `size` (height, width). `ratio` is the
    input's scale over the frame's. Raises PoseError for another number of columns.
    """
    found = outputs[0][0].astype(np.float32)
    columns = found.shape[-1]
    if columns < SUPPRESSED:
        raise PoseError(f"the person detector gives {columns} columns: use a YOLOX file, of 5 or 85 columns")
    if columns == SUPPRESSED:
        people = found[:, 4] > SCORE
        if len(outputs) > 1 and outputs[1].shape[:2] == outputs[0].shape[:2]:
            people &= outputs[1][0].reshape(-1).round() == 0
        boxes, scores = found[people, :4], found[people, 4]
        return boxes[np.argsort(-scores, kind="stable")] / ratio
    return _suppressed(*_decoded(found, size)) / ratio


def _decoded(found: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Boxes [k, 4] in pixels of the input and scores [k] of the people among raw cells [m, 5 + classes].

    YOLOX (Ge et al., 2021): centres are offsets from the cell in strides, sides are exponents of them.
    """
    corners, strides = [], []
    for stride in STRIDES:
        rows, columns = np.mgrid[: size[0] // stride, : size[1] // stride]
        corners.append(np.stack([columns.ravel(), rows.ravel()], 1))
        strides.append(np.full((rows.size, 1), stride))
    corner, stride = np.concatenate(corners), np.concatenate(strides).astype(np.float32)
    if len(corner) != len(found):
        raise PoseError(
            f"the person detector gives {len(found)} cells, expected {len(corner)} of an input of "
            f"{size[1]}x{size[0]}: use a YOLOX file of strides 8, 16 and 32"
        )
    scores = found[:, 4] * found[:, 5]
    people = scores > SCORE
    centres = (found[people, :2] + corner[people]) * stride[people]
    sides = np.exp(found[people, 2:4]) * stride[people]
    return np.concatenate([centres - sides / 2, centres + sides / 2], 1), scores[people]


def _suppressed(boxes: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Of boxes [k, 4] that overlap the best ones, best first."""
    from rtmlib.tools.object_detection.post_processings import nms

    return boxes[nms(boxes, scores, OVERLAP)]
