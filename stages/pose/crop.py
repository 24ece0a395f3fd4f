"""Crop the reference picture so that its character stays, and tell how much of a person a frame shows."""

import numpy as np

from ..media.placement import Placement, Size, centre_crop, crop_around
from ..types import PoseSequence
from .skeleton import BODY, VISIBLE

MARGIN = 0.1
"""Room around the pose in a crop, in the pose's longer sides: hair and shoes reach beyond the joints."""

HEAD = [*range(5), *range(23, 91)]
TRUNK = [*HEAD, 5, 6, 11, 12]
"""COCO-WholeBody points that a crop keeps first: nose, eyes, ears and face, then shoulders and hips."""


def place_around_pose(pose: PoseSequence, size: Size) -> Placement:
    """The crop of a picture to `size` that keeps the character whose pose is the first of `pose`.

    All of the pose with MARGIN around it where that has room, else the pose; of a pose too large for that its
    trunk, and of the trunk the head. What else could stay is decided by the picture's middle; without a pose
    that alone counts.
    """
    points, seen = pose.keypoints[0].astype(np.float64), (pose.scores > VISIBLE)[0] & in_frame(pose)[0]
    if not seen.any():
        return centre_crop(pose.size, size)
    low, high = points[seen].min(0), points[seen].max(0)
    margin = MARGIN * (high - low).max()
    boxes = [(low - margin, high + margin), (low, high)]
    for part in (TRUNK, HEAD):
        shown = points[part][seen[part]]
        if len(shown):
            boxes.append((shown.min(0), shown.max(0)))
    parts = [((low[0], high[0]), (low[1], high[1])) for low, high in boxes]
    return crop_around(pose.size, size, parts)


def share_inside(poses: PoseSequence) -> float:
    """The share of the visible body joints that lie in the frame, over all frames: 0 to 1, 0 without any."""
    seen, inside = poses.scores[:, BODY] > VISIBLE, in_frame(poses)[:, BODY]
    return float((seen & inside).sum() / seen.sum()) if seen.any() else 0.0


def in_frame(poses: PoseSequence) -> np.ndarray:
    """Which keypoints lie in the frame, bool [T, 133]."""
    return ((poses.keypoints >= 0) & (poses.keypoints < poses.size)).all(-1)
