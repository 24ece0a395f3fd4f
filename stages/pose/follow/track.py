"""Poses of one person through a video: estimate, follow, count."""

from collections.abc import Callable, Iterable
from fractions import Fraction

import numpy as np

from ...errors import PoseError
from ...media.read_ahead import batches_ahead
from ...types import PoseSequence
from ..base import Detections, PoseEstimator
from .people import person_score, without_doubles
from .person import Person, follow, follow_all
from .report import PoseReport, report
from .steady import steady

BATCH, BATCH_BYTES = 32, 128 * 2**20
"""Frames that an estimator gets at once, and the bytes that they may take; twice that is held. At the end of
each batch its threads wait for each other."""


def estimate_poses(
    frames: Iterable[np.ndarray],
    estimator: PoseEstimator,
    *,
    fps: Fraction,
    min_score: float,
    max_gap: int,
    name: str,
    smooth: float = 1.0,
    person: Person | None = None,
    on_frame: Callable[[int], None] | None = None,
) -> tuple[PoseSequence, PoseReport]:
    """The poses of one person in a video's frames (uint8 RGB [H, W, 3]): `follow` tells which.

    People who score below `min_score` (see `person_score`) do not count. Gaps of up to `max_gap` frames are
    filled, longer ones score 0, and what trembles is filtered with the strength `smooth`: see `steady`.
    `estimator` is set up; `name` is the video's, for the error;
    `on_frame(n)` is called after n frames are done. Frames are taken a few at a time. Raises PoseError when
    there is no frame, no person in any, or not the one that is named.
    """
    seen, size = _find(frames, estimator, min_score, name, on_frame)
    try:
        one = follow(seen, person, size[0])
    except PoseError as error:
        raise PoseError(f"{name}: {error}") from None
    most = max(len(people) for people in seen)
    return _finished(PoseSequence(*one, size, fps), max_gap, smooth, most)


def estimate_everybody(
    frames: Iterable[np.ndarray],
    estimator: PoseEstimator,
    *,
    fps: Fraction,
    min_score: float,
    max_gap: int,
    name: str,
    smooth: float = 1.0,
    on_frame: Callable[[int], None] | None = None,
) -> tuple[list[tuple[PoseSequence, PoseReport]], int]:
    """The poses of each person in a video's frames, from the left to the right; the rest as `estimate_poses`.

    Also how many people are left out, since they are seen in few frames only (see `follow_all`).
    """
    seen, size = _find(frames, estimator, min_score, name, on_frame)
    everybody, few = follow_all(seen)
    most = max(len(people) for people in seen)
    found = [PoseSequence(*one, size, fps) for one in everybody]
    return [_finished(one, max_gap, smooth, most) for one in found], few


def _find(
    frames: Iterable[np.ndarray],
    estimator: PoseEstimator,
    min_score: float,
    name: str,
    on_frame: Callable[[int], None] | None,
) -> tuple[list[Detections], tuple[int, int]]:
    """The people of each frame, each once, and the frames' size (width, height). PoseError for nobody."""
    estimator.start()
    found: list[Detections] = []
    size = (0, 0)
    for batch in batches_ahead(frames, BATCH, BATCH_BYTES):
        size = (batch[0].shape[1], batch[0].shape[0])
        for people in estimator(batch):
            found.append(people)
            if on_frame is not None:
                on_frame(len(found))
    if not found:
        raise PoseError(f"driving video {name} has no frames: check start and duration")
    seen = [without_doubles(_above(people, min_score)) for people in found]
    if not any(len(people) for people in seen):
        raise PoseError(
            f"no person found in any of the {len(found)} frames of driving video {name} (best score "
            f"{_best_score(found):.2f}): use a video that shows a person, or lower estimator.min_score"
        )
    return seen, size


def _finished(
    found: PoseSequence, max_gap: int, smooth: float, people: int
) -> tuple[PoseSequence, PoseReport]:
    """One person's poses with short gaps filled and without trembling, and what was found."""
    poses = steady(found, max_gap, smooth)
    return poses, report(found.scores, poses, people)


def estimate_picture(
    image: np.ndarray, estimator: PoseEstimator, *, min_score: float, name: str
) -> tuple[PoseSequence, PoseReport]:
    """The pose of the largest person in the reference image (uint8 RGB [H, W, 3]): a sequence of one frame.

    Raises PoseError when nobody scores `min_score`.
    """
    estimator.start(static=True)
    found = estimator([image])[0]
    seen = without_doubles(_above(found, min_score))
    if not len(seen):
        raise PoseError(
            f"no person found in reference image {name} (best score {_best_score([found]):.2f}): use a "
            "full-body photo, lower estimator.min_score, choose --align none, or put a keypoint file beside "
            "the picture (NAME.npz)"
        )
    keypoints, scores = follow([seen])
    size = (image.shape[1], image.shape[0])
    poses = PoseSequence(keypoints, scores, size, Fraction(1))
    return poses, report(scores, poses, len(seen))


def _above(people: Detections, min_score: float) -> Detections:
    keep = [i for i, scores in enumerate(people.scores) if person_score(scores) >= min_score]
    return Detections(people.keypoints[keep], people.scores[keep])


def _best_score(found: list[Detections]) -> float:
    return max((person_score(scores) for people in found for scores in people.scores), default=0.0)
