"""The camera's motion from one frame to the next, by points of the background."""

import cv2
import numpy as np

CORNERS = 200
"""Points that are followed at most."""
FEWEST = 12
"""Fewer than these are no background to go by: the camera is then taken as still."""
AGREE = 0.5
"""The share of the followed points that must move as one for it to be the camera's motion."""
TOLERANCE = 1.0
"""Pixels by which a point may miss the common motion."""
STILL = np.array([[1, 0, 0], [0, 1, 0]], np.float32)
"""No motion."""


def camera_step(before: np.ndarray, after: np.ndarray, background: np.ndarray | None = None) -> np.ndarray:
    """Where a still point of `before` is in `after`: float32 [2, 3], a turn, a scale and a shift.

    Both are uint8 luma [H, W]; only points where `background` (uint8 [H, W]) is not 0 are followed, by
    pyramids of Lucas and Kanade, and the motion that most share is taken (RANSAC). Where there are few such
    points, or they do not agree, the camera counts as still.
    """
    points = cv2.goodFeaturesToTrack(before, CORNERS, 0.01, 4, mask=background)
    if points is None or len(points) < FEWEST:
        return STILL.copy()
    moved, found, _ = cv2.calcOpticalFlowPyrLK(
        before, after, points, points.copy(), winSize=(15, 15), maxLevel=3
    )
    ok = found[:, 0] == 1
    if ok.sum() < FEWEST:
        return STILL.copy()
    cv2.setRNGSeed(0)
    motion, inliers = cv2.estimateAffinePartial2D(points[ok], moved[ok], ransacReprojThreshold=TOLERANCE)
    if motion is None or inliers.sum() < max(FEWEST, AGREE * len(points)):
        return STILL.copy()
    return motion.astype(np.float32)


def shift_of(motion: np.ndarray, width: int, height: int) -> float:
    """How far the corners of a picture are moved by a motion [2, 3], in pixels: their mean."""
    corners = np.array([[0, 0, 1], [width, 0, 1], [0, height, 1], [width, height, 1]], np.float32)
    return float(np.linalg.norm(corners @ motion.T - corners[:, :2], axis=1).mean())
