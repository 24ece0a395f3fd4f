"""MediaPipe's landmarks as COCO-WholeBody keypoints: 33 body + 2 x 21 hands + face mesh -> 133."""

import numpy as np

from ...types import NUM_KEYPOINTS
from ..skeleton import FACE, LEFT_HAND, RIGHT_HAND

BODY_FROM_POSE = (0, 2, 5, 7, 8, 11, 12, 13, 14, 15, 16, 23, 24, 25, 26, 27, 28)
"""BlazePose landmark of each of the 17 COCO body keypoints."""

FEET_FROM_POSE = (31, 31, 29, 32, 32, 30)
"""Of each of the 6 feet keypoints. BlazePose has one toe a foot; it stands for the big and the small one."""

FACE_FROM_MESH = (
    127, 234, 132, 58, 172, 136, 149, 176, 152, 400, 378, 365, 397, 288, 361, 454, 356,  # jaw
    70, 63, 105, 66, 107, 336, 296, 334, 293, 300,  # brows
    168, 6, 195, 4, 98, 97, 2, 326, 327,  # nose
    33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380,  # eyes
    61, 40, 37, 0, 267, 270, 291, 321, 314, 17, 84, 91, 78, 81, 13, 311, 308, 402, 14, 178,  # mouth
)  # fmt: skip
"""Face mesh vertex of each of the 68 points (300-W / iBUG order: the person's right side first).

Of the jaw's second and last but one point, 234 and 454 are nearer to COCO-WholeBody's annotations than 93 and
323: 12 % and 9 % of the distance between the eyes away, not 20 % and 18 %.
"""

LEFT_WRIST, RIGHT_WRIST = 15, 16
"""BlazePose's landmarks."""

NOSE = 0
"""The keypoint, and BlazePose's landmark too."""


def whole_body(
    pose: np.ndarray,
    left_hand: np.ndarray | None,
    right_hand: np.ndarray | None,
    face: np.ndarray | None,
    size: tuple[int, int],
) -> tuple[np.ndarray, np.ndarray]:
    """133 keypoints, float32 [133, 2] in pixels of `size` (width, height), and their scores [133].

    `pose` [33, 3]: x and y as fractions, visibility; `left_hand` and `right_hand` [21, 2] (the person's own
    left and right), `face` [468 or more, 2]: fractions, None where not found. Body and feet score their
    visibility. MediaPipe gives hands and faces no score: having been found counts for one half, the
    visibility of the wrist or the nose for the other. What was not found scores 0.
    """
    keypoints = np.zeros((NUM_KEYPOINTS, 2), np.float32)
    scores = np.zeros(NUM_KEYPOINTS, np.float32)
    body = list(BODY_FROM_POSE + FEET_FROM_POSE)
    keypoints[: len(body)] = pose[body, :2]
    scores[: len(body)] = pose[body, 2]
    for part, points, wrist in ((LEFT_HAND, left_hand, LEFT_WRIST), (RIGHT_HAND, right_hand, RIGHT_WRIST)):
        if points is not None:
            keypoints[part] = points
            scores[part] = (1 + pose[wrist, 2]) / 2
    keypoints *= np.asarray(size, np.float32)
    if face is not None:
        put_face(keypoints, scores, face[list(FACE_FROM_MESH)], size)
    return keypoints, scores


def put_face(keypoints: np.ndarray, scores: np.ndarray, face: np.ndarray, size: tuple[int, int]) -> None:
    """Add the 68 points of a face [68, 2], fractions of `size`, to keypoints [133, 2] and scores [133]."""
    keypoints[FACE] = face * np.asarray(size, np.float32)
    scores[FACE] = (1 + scores[NOSE]) / 2
