"""What was found of a dancer, in figures: before gaps are filled, and after."""

from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np

from ...types import PoseSequence
from ..crop import in_frame
from ..skeleton import BODY, FACE, LEFT_HAND, RIGHT_HAND, VISIBLE
from .steady import body_height

SLOW = 0.2
"""Joints are slow that get on by less than this many of the body's heights a second (assumed)."""
SLOW_OVER_S = 0.1
"""Seconds before and after a frame over which that is told: of neighbours noise alone would make speed."""


@dataclass(frozen=True, slots=True)
class PoseReport:
    """What was found of a dancer. Shares are 0 to 1, of all frames where nothing else is said.

    None is what nobody can tell: of a pose file how many people there were, and the hands or faces that its
    layout lacks; the jitter of a dancer who is never slow.
    """

    frames: int
    missing: int
    """Frames that show nobody, after filling."""
    filled: int
    """Frames without anybody that were interpolated."""
    people: int | None
    """The most that were seen in one frame."""
    body: float
    """Share of the 17 body joints that score above `VISIBLE`, before filling."""
    left_hand: float | None
    """Share of the frames with that hand, before filling."""
    right_hand: float | None
    left_hand_filled: float | None
    """The same after filling."""
    right_hand_filled: float | None
    face: float | None
    """Share of the frames with a face, before filling."""
    cut_off: float
    """Share of the visible body joints that lie outside the picture, after filling."""
    jitter: float | None
    """See `jitter`; after filling."""

    @property
    def seen(self) -> float:
        """Share of the frames that show the dancer, after filling."""
        return 1 - self.missing / self.frames

    @property
    def hands(self) -> float | None:
        """Share of the hands that are found, two in each frame; None where nobody can tell."""
        known = [hand for hand in (self.left_hand, self.right_hand) if hand is not None]
        return sum(known) / 2 if known else None


def report(found: np.ndarray, poses: PoseSequence, people: int) -> PoseReport:
    """The figures of a dancer: the scores `found` [T, 133], and `poses`, the same with gaps filled."""
    before, after = found.any(1), poses.scores.any(1)
    visible = poses.scores[:, BODY] > VISIBLE
    outside = visible & ~in_frame(poses)[:, BODY]
    return PoseReport(
        frames=len(found),
        missing=int((~after).sum()),
        filled=int((after & ~before).sum()),
        people=people,
        body=float((found[:, BODY] > VISIBLE).mean()),
        left_hand=_share(found, LEFT_HAND),
        right_hand=_share(found, RIGHT_HAND),
        left_hand_filled=_share(poses.scores, LEFT_HAND),
        right_hand_filled=_share(poses.scores, RIGHT_HAND),
        face=_share(found, FACE),
        cut_off=float(outside.sum() / max(visible.sum(), 1)),
        jitter=jitter(poses),
    )


def report_of_file(poses: PoseSequence) -> PoseReport:
    """The figures of a pose file, of which nobody knows what was filled, nor what its layout lacks.

    Hands, or a face, that no frame has are taken to be no part of the layout.
    """
    told = replace(report(poses.scores, poses, 1), people=None)
    if not (told.left_hand or told.right_hand):
        told = replace(told, left_hand=None, right_hand=None, left_hand_filled=None, right_hand_filled=None)
    return told if told.face else replace(told, face=None)


def jitter(poses: PoseSequence) -> float | None:
    """How much body joints shake while they are slow: the mean size of their second difference from frame to
    frame, in per cent of the body's height.

    The second difference is what pose estimation calls acceleration error where the truth stands still
    (Kanazawa et al., "Learning 3D Human Dynamics from Video", CVPR 2019; Zeng et al., "SmoothNet", ECCV
    2022). Frames count in which the joint, its neighbours and both frames SLOW_OVER_S away are visible. None
    where no joint ever is slow.
    """
    reach = max(1, round(poses.fps * Fraction(SLOW_OVER_S)))
    frames = len(poses)
    if frames <= 2 * reach:
        return None
    points = poses.keypoints[:, BODY].astype(np.float64) / body_height(poses)
    seen = poses.scores[:, BODY] > VISIBLE

    def shifted(values: np.ndarray, by: int) -> np.ndarray:
        return values[reach + by : frames - reach + by]

    shaken = np.linalg.norm(shifted(points, -1) - 2 * shifted(points, 0) + shifted(points, 1), axis=-1)
    moved = np.linalg.norm(shifted(points, reach) - shifted(points, -reach), axis=-1)
    slow = np.logical_and.reduce([shifted(seen, by) for by in {-reach, -1, 0, 1, reach}])
    slow &= moved < SLOW * 2 * reach / float(poses.fps)
    return 100 * float(shaken[slow].mean()) if slow.any() else None


def _share(scores: np.ndarray, part: slice) -> float:
    """Share of the frames in which any keypoint of `part` scores."""
    return float(scores[:, part].any(1).mean())
