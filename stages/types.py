"""The shared vocabulary: what flows between stages."""

from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from .errors import PoseError

NUM_KEYPOINTS = 133
"""COCO-WholeBody: 17 body, 6 feet, 68 face, 21 left hand, 21 right hand."""


LARGEST_FRAME = 8192 * 8192
"""Pixels of the largest frame that is decoded, unless more is asked for: twice those of 8K video."""


@dataclass(frozen=True, slots=True)
class VideoInfo:
    """What a video file holds, on the constant grid of `fps` frames a second.

    `width` and `height` are square pixels after rotation; `fps` is exact; `num_frames` are those in the file,
    also where it is truncated; `duration` is `num_frames / fps` seconds.
    """

    width: int
    height: int
    fps: Fraction
    num_frames: int
    duration: Fraction
    has_audio: bool


@dataclass(frozen=True, slots=True)
class PoseSequence:
    """One person over T frames in COCO-WholeBody order.

    `keypoints` float32 [T, 133, 2], x and y in pixels of `size`; `scores` float32 [T, 133], 0 to 1, where 0
    means not seen; `size` (width, height); `fps` exact. Raises PoseError for another shape or for values
    that are not finite.
    """

    keypoints: np.ndarray
    scores: np.ndarray
    size: tuple[int, int]
    fps: Fraction

    def __post_init__(self) -> None:
        points = np.asarray(self.keypoints, np.float32)
        scores = np.asarray(self.scores, np.float32)
        if points.ndim != 3 or points.shape[1:] != (NUM_KEYPOINTS, 2):
            raise PoseError(
                f"keypoints have shape {list(points.shape)}: expected [frames, {NUM_KEYPOINTS}, 2]"
            )
        if scores.shape != points.shape[:2]:
            raise PoseError(f"scores have shape {list(scores.shape)}: expected {list(points.shape[:2])}")
        if not np.isfinite(points).all() or not np.isfinite(scores).all():
            frame = int(np.argmin(np.isfinite(points).all((1, 2)) & np.isfinite(scores).all(1)))
            raise PoseError(
                f"the pose of frame {frame} holds NaN or infinite values: "
                "set unseen keypoints to 0 with score 0"
            )
        if min(self.size) < 1 or self.fps <= 0:
            raise PoseError(f"size {self.size} and frame rate {self.fps} of a pose sequence must be positive")
        object.__setattr__(self, "keypoints", points)
        object.__setattr__(self, "scores", scores)
        object.__setattr__(self, "size", (int(self.size[0]), int(self.size[1])))
        object.__setattr__(self, "fps", Fraction(self.fps))

    def __len__(self) -> int:
        return len(self.keypoints)

    def __getitem__(self, frames: slice) -> "PoseSequence":
        return PoseSequence(self.keypoints[frames], self.scores[frames], self.size, self.fps)


@dataclass(frozen=True, slots=True)
class Resources:
    """What one worker of a stage needs: CPU cores and GPUs, fractions allowed."""

    cpus: float = 1.0
    gpus: float = 0.0
