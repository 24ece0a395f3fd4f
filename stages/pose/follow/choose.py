"""Which frame of a dance shows the dancer best, and how far a pose that was found is from the asked one."""

import numpy as np

from ...errors import PoseError
from ...types import PoseSequence
from ..crop import in_frame
from ..skeleton import BODY, LEFT_HAND, RIGHT_HAND, VISIBLE

SHOULDERS, HIPS = (5, 6), (11, 12)
"""Body joints, left and right."""
FRONTAL = 0.9
"""Shoulders' width over the trunk's length of somebody who faces the viewer; more does not count more."""


def best_frame(poses: PoseSequence) -> int:
    """The frame with the most of body and both hands in sight, and the dancer facing the viewer.

    Shares of seen joints (0..1) and frontality count alike; the first of equal ones. PoseError where
    nobody is in any frame.
    """
    seen = (poses.scores > VISIBLE) & in_frame(poses)
    if not seen[:, BODY].any():
        raise PoseError("nobody is in any frame of the dance: use a video that shows a person")
    hands = np.minimum(seen[:, LEFT_HAND].mean(1), seen[:, RIGHT_HAND].mean(1))
    return int((seen[:, BODY].mean(1) + hands + frontality(poses)).argmax())


def first_frame(poses: PoseSequence) -> int:
    """The first frame with somebody in it. PoseError where there is none."""
    there = (poses.scores[:, BODY] > VISIBLE).any(1)
    if not there.any():
        raise PoseError("nobody is in any frame of the dance: use a video that shows a person")
    return int(there.argmax())


def frontality(poses: PoseSequence) -> np.ndarray:
    """How much each frame's dancer faces the viewer [T], 0 to 1; 0 from behind, or with the trunk unseen."""
    points = poses.keypoints
    known = (poses.scores[:, [*SHOULDERS, *HIPS]] > VISIBLE).all(1)
    across = points[:, SHOULDERS[0], 0] - points[:, SHOULDERS[1], 0]  # the left one is right of the viewer
    middle = [points[:, list(pair)].mean(1) for pair in (SHOULDERS, HIPS)]
    trunk = np.linalg.norm(middle[0] - middle[1], axis=1)
    return np.where(known, np.clip(across / np.maximum(FRONTAL * trunk, 1e-6), 0, 1), 0)


def pose_error(found: PoseSequence, asked: PoseSequence) -> float | None:
    """Mean distance of the body joints that both first frames show, in picture heights; None without any.

    Sizes of the two may differ: joints are compared as fractions of each picture's height.
    """
    both = (found.scores[0, BODY] > VISIBLE) & (asked.scores[0, BODY] > VISIBLE) & in_frame(asked)[0, BODY]
    if not both.any():
        return None
    first, second = (poses.keypoints[0, BODY][both] / poses.size[1] for poses in (found, asked))
    return float(np.linalg.norm(first - second, axis=1).mean())
