"""What a pose estimator is. The table of those there are is in `estimators`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ..types import NUM_KEYPOINTS

FAR_OUTSIDE = 0.5
"""How far outside the frame a keypoint may lie, in longer sides of the frame. Joints that MediaPipe scores
above 0.3 in dancers cut at ankles, knees, hips or chest lay up to 0.30 frame heights below the cut."""


@dataclass(frozen=True, slots=True)
class Detections:
    """The people of one frame, in no particular order: there may be none.

    `keypoints` float32 [n, 133, 2] in pixels of the frame, `scores` float32 [n, 133] from 0 to 1. A keypoint
    just outside the frame keeps its place and score: it says where the visible half of its limb points. One
    that was not found, or that lies outside by more than FAR_OUTSIDE, scores 0 and sits at (0, 0).
    """

    keypoints: np.ndarray
    scores: np.ndarray

    def __len__(self) -> int:
        return len(self.keypoints)


def detections(people: Sequence[tuple[np.ndarray, np.ndarray]], width: int, height: int) -> Detections:
    """Detections of people given as keypoints [133, 2] and scores [133] each, in a frame of this size."""
    margin = FAR_OUTSIDE * max(width, height)
    keypoints = np.zeros((len(people), NUM_KEYPOINTS, 2), np.float32)
    scores = np.zeros((len(people), NUM_KEYPOINTS), np.float32)
    for i, (points, values) in enumerate(people):
        near = (points >= -margin).all(-1) & (points < (width + margin, height + margin)).all(-1)
        seen = near & (np.asarray(values) > 0)  # NaN and infinity are not near
        keypoints[i, seen] = points[seen]
        scores[i, seen] = np.minimum(values[seen], 1)
    return Detections(keypoints, scores)


class PoseEstimator(Protocol):
    """Finds people in frames. Made in the driver (cheap, picklable), set up once in each worker."""

    def missing(self) -> str | None:
        """What keeps it from running here (a package, a model file), and what to do; None when it can run."""
        ...

    def setup(self) -> None:
        """Load the models. Raises PoseError with `missing()`'s words where it cannot."""
        ...

    def start(self, *, static: bool = False) -> None:
        """Begin a new video and forget the last one; with `static`, unrelated pictures."""
        ...

    def __call__(self, frames: Sequence[np.ndarray]) -> list[Detections]:
        """The people of each frame, uint8 RGB [H, W, 3]; frames follow those of the last call."""
        ...

    def close(self) -> None:
        """Release what `setup` took."""
        ...
