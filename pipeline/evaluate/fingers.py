"""How well fingers can be read off a result: where a hand estimator finds fingertips, and how often."""

from collections.abc import Sequence

import cv2
import numpy as np

from ...stages.pose.base import PoseEstimator
from ...stages.pose.estimators import make_estimator

HEIGHT = 1024
"""Pictures are enlarged to this height first: MediaPipe finds no hands in small ones."""
LEFT, RIGHT = 91, 112
"""Indices of the wrists of the two hands of 21 points among the 133 keypoints."""
TIPS = [hand + tip for hand in (LEFT, RIGHT) for tip in (4, 8, 12, 16, 20)]
"""Indices of the fingertips: the left hand's five, then the right hand's."""


def finger_figures(outputs: Sequence[np.ndarray], truths: Sequence[np.ndarray]) -> dict[str, float]:
    """Figures of outputs against the true frames, uint8 [T, H, W, 3] RGB each.

    `hands_found`: of the hands that MediaPipe finds in the true frames, the share that it finds in the
    output; `finger_error_percent`: how far the fingertips of those are apart, in percent of the height. NaN
    where there is none. Raises PoseError where MediaPipe cannot run.
    """
    estimator = make_estimator("mediapipe")
    estimator.setup()
    try:
        pairs = [
            (fingertips(estimator, a), fingertips(estimator, b)) for a, b in zip(outputs, truths, strict=True)
        ]
    finally:
        estimator.close()
    made, true = (np.concatenate(side).reshape(-1, 5, 2) for side in zip(*pairs, strict=True))
    return compare_fingertips(made, true)


def compare_fingertips(made: np.ndarray, true: np.ndarray) -> dict[str, float]:
    """See `finger_figures`; both [hands, 5, 2] in picture heights, NaN where no hand was found."""
    there = ~np.isnan(true).any((1, 2))
    both = there & ~np.isnan(made).any((1, 2))
    apart = np.linalg.norm(made[both] - true[both], axis=-1)
    return {
        "hands_found": float(both.sum() / there.sum()) if there.any() else float("nan"),
        "finger_error_percent": 100 * float(apart.mean()) if both.any() else float("nan"),
    }


def fingertips(estimator: PoseEstimator, frames: np.ndarray) -> np.ndarray:
    """Fingertips [T, 10, 2] of the first person of each frame, in picture heights; NaN where not found."""
    found = np.full((len(frames), len(TIPS), 2), np.nan, np.float32)
    scale = HEIGHT / frames.shape[1]
    estimator.start(static=True)
    for index, frame in enumerate(frames):
        large = cv2.resize(frame, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
        (people,) = estimator([large])
        if len(people):
            seen = people.scores[0, TIPS] > 0
            found[index, seen] = people.keypoints[0, TIPS][seen] / HEIGHT
    return found
