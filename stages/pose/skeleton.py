"""The two keypoint layouts, and how to go from one to the other. Data, and two reorderings.

COCO-WholeBody-133 (Jin et al., "Whole-Body Human Pose Estimation in the Wild", ECCV 2020) is what estimators
give and what a PoseSequence holds. OpenPose order (Cao et al., 2019) is what is drawn: a neck is added, the
body is reordered, the other 116 points follow unchanged.
"""

import numpy as np

BODY = slice(0, 17)
FEET = slice(17, 23)
FACE = slice(23, 91)
LEFT_HAND = slice(91, 112)
RIGHT_HAND = slice(112, 133)

LEFT_SHOULDER, RIGHT_SHOULDER = 5, 6

NUM_OPENPOSE = 134
OPENPOSE_BODY = slice(0, 18)
OPENPOSE_FEET = slice(18, 24)
OPENPOSE_FACE = slice(24, 92)
OPENPOSE_LEFT_HAND = slice(92, 113)
OPENPOSE_RIGHT_HAND = slice(113, 134)
NECK = 1

VISIBLE = 0.3
"""A keypoint that scores above this counts as seen (published: DWPose)."""

_BODY_FROM_COCO = (0, -1, 6, 8, 10, 5, 7, 9, 12, 14, 16, 11, 13, 15, 2, 1, 4, 3)
"""COCO index of each of OpenPose's 18 body points; -1 is the neck, which COCO lacks."""

_WITHOUT_NECK = [i for i in range(NUM_OPENPOSE) if i != NECK]
_FROM_COCO = [i for i in _BODY_FROM_COCO if i >= 0] + list(range(BODY.stop, 133))

BODY_LIMBS = (
    (1, 2), (1, 5), (2, 3), (3, 4), (5, 6), (6, 7), (1, 8), (8, 9), (9, 10),
    (1, 11), (11, 12), (12, 13), (1, 0), (0, 14), (14, 16), (0, 15), (15, 17),
)  # fmt: skip
"""The 17 drawn limbs of OpenPose's 18 body points, in drawing order."""

HAND_EDGES = tuple(
    (0 if i == 0 else 4 * finger + i, 4 * finger + i + 1) for finger in range(5) for i in range(4)
)
"""The 20 bones of a hand: wrist to tip, thumb first. Point 0 is the wrist, then four points a finger."""

FOOT_EDGES = ((13, 18), (13, 19), (13, 20), (10, 21), (10, 22), (10, 23))
"""Ankle to big toe, small toe and heel, left and right, in OpenPose order. Never in control frames."""

PALETTE = (
    (255, 0, 0), (255, 85, 0), (255, 170, 0), (255, 255, 0), (170, 255, 0), (85, 255, 0),
    (0, 255, 0), (0, 255, 85), (0, 255, 170), (0, 255, 255), (0, 170, 255), (0, 85, 255),
    (0, 0, 255), (85, 0, 255), (170, 0, 255), (255, 0, 255), (255, 0, 170), (255, 0, 85),
)  # fmt: skip
"""OpenPose's 18 rainbow colours, one a limb and one a joint."""


def to_openpose(keypoints: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """COCO-WholeBody to OpenPose order.

    `[..., 133, 2]`, `[..., 133]` to float64 `[..., 134, 2]`, `[..., 134]`. The neck is the mean of the
    shoulders; its score is 1 where both shoulders score above 0.3, else 0.
    """
    points = np.asarray(keypoints, np.float64)
    values = np.asarray(scores, np.float64)
    shoulders = [LEFT_SHOULDER, RIGHT_SHOULDER]
    out_points = np.empty((*points.shape[:-2], NUM_OPENPOSE, 2))
    out_scores = np.empty((*values.shape[:-1], NUM_OPENPOSE))
    out_points[..., _WITHOUT_NECK, :] = points[..., _FROM_COCO, :]
    out_scores[..., _WITHOUT_NECK] = values[..., _FROM_COCO]
    out_points[..., NECK, :] = points[..., shoulders, :].mean(-2)
    out_scores[..., NECK] = (values[..., shoulders] > VISIBLE).all(-1)
    return out_points, out_scores


def from_openpose(keypoints: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """OpenPose to COCO-WholeBody order, the exact inverse of `to_openpose`: the neck is dropped.

    `[..., 134, 2]`, `[..., 134]` to float64 `[..., 133, 2]`, `[..., 133]`.
    """
    points = np.asarray(keypoints, np.float64)
    values = np.asarray(scores, np.float64)
    out_points = np.empty((*points.shape[:-2], NUM_OPENPOSE - 1, 2))
    out_scores = np.empty((*values.shape[:-1], NUM_OPENPOSE - 1))
    out_points[..., _FROM_COCO, :] = points[..., _WITHOUT_NECK, :]
    out_scores[..., _FROM_COCO] = values[..., _WITHOUT_NECK]
    return out_points, out_scores
