"""Painted frames that do not flicker: what was painted is blended with the neighbours' along the motion.

A painted frame is its small self enlarged, and detail on top. Of each neighbour both are moved to where the
enlarged frames say that its pixels went (dense optical flow, Kroeger et al. 2016, arXiv:1603.03590), and
count for less the farther in time the neighbour is and the less the enlarged frames then agree there. The
enlarged frame itself is blended where they all but agree: what changes there is the small frames' rounding
and noise, which enlarging makes larger.
"""

from collections import deque
from collections.abc import Iterable, Iterator

import cv2
import numpy as np

AGREES = 6.0
"""Levels of 255 by which enlarged frames may differ at a place for detail to count by exp(-1/2) (assumed)."""
STANDS = 2.0
"""The same for the enlarged frame itself; 1, 1.5 and 2.5 do much the same (docs/LOG.md)."""
PATCH = 2.0
"""Deviation in pixels of the blur over which they are compared (assumed)."""

Pair = tuple[np.ndarray, np.ndarray]
"""A frame enlarged plainly, and painted: both uint8 [H, W, 3]."""


def steadied(frames: Iterable[Pair], reach: int) -> Iterator[np.ndarray]:
    """The painted frames uint8 [H, W, 3], each blended with those up to `reach` frames before and after it.

    Takes pairs (enlarged, painted), and holds 2 reach + 1 of them.
    """
    if reach == 0:
        yield from (painted for _, painted in frames)
        return
    near: deque[Pair] = deque(maxlen=2 * reach + 1)
    count = 0
    for pair in frames:
        near.append(pair)
        count += 1
        if count > reach:
            yield blended(near, len(near) - 1 - reach, reach)
    for left in range(min(reach, count), 0, -1):
        yield blended(near, len(near) - left, reach)


def blended(near: Iterable[Pair], centre: int, reach: int) -> np.ndarray:
    """The painted frame number `centre` of neighbouring ones, blended with theirs."""
    frames = list(near)
    enlarged, painted = frames[centre]
    plain, detail = enlarged.astype(np.float32), painted.astype(np.float32) - enlarged
    plain_weight, weight = (np.ones((*enlarged.shape[:2], 1), np.float32) for _ in range(2))
    for number in range(max(0, centre - reach), min(len(frames), centre + reach + 1)):
        if number == centre:
            continue
        other, other_painted = frames[number]
        flow = flow_between(enlarged, other)
        moved = warped(other.astype(np.float32), flow)
        apart = cv2.GaussianBlur(np.abs(moved - enlarged).mean(2), (0, 0), PATCH)
        apart, near_in_time = apart[..., None], 1 - abs(number - centre) / (reach + 1)
        share = np.exp(-0.5 * (apart / AGREES) ** 2) * near_in_time
        detail += share * warped(other_painted.astype(np.float32) - other, flow)
        weight += share
        share = np.exp(-0.5 * (apart / STANDS) ** 2) * near_in_time
        plain += share * moved
        plain_weight += share
    return np.clip(np.rint(plain / plain_weight + detail / weight), 0, 255).astype(np.uint8)


def flow_between(frame: np.ndarray, other: np.ndarray) -> np.ndarray:
    """For each pixel of a frame, how far to the right and down it is in the other: float32 [H, W, 2]."""
    gray, other_gray = (cv2.cvtColor(each, cv2.COLOR_RGB2GRAY) for each in (frame, other))
    if min(gray.shape) < 32:  # too small for its patches
        return np.zeros((*gray.shape, 2), np.float32)
    finder = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
    return finder.calc(gray, other_gray, None)  # pyright: ignore[reportCallIssue, reportArgumentType]


def warped(picture: np.ndarray, flow: np.ndarray) -> np.ndarray:
    """A picture float32 [H, W, 3], fetched from where `flow` leads."""
    height, width = flow.shape[:2]
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    across: np.ndarray = columns + flow[..., 0]
    down: np.ndarray = rows + flow[..., 1]
    return cv2.remap(picture, across, down, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
