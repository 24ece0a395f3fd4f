"""What a picture of the character follows: the drawn pose of a dance's frame, or the edges of a picture."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from ...stages.errors import ConfigError, PoseError
from ...stages.media.picture import place, read_picture
from ...stages.media.placement import Size, centre_crop
from ...stages.media.video import Clip, read_frames
from ...stages.pose.base import PoseEstimator
from ...stages.pose.crop import place_around_pose
from ...stages.pose.fit.affine import placed_alignment
from ...stages.pose.follow.choose import best_frame, first_frame, pose_error
from ...stages.pose.follow.track import estimate_picture
from ...stages.pose.render import draw_control_frames
from ...stages.types import PoseSequence
from ..config import EstimatorConfig
from ..job.storage import localize
from .options import CharacterOptions

OpensEstimator = Callable[[EstimatorConfig], AbstractContextManager[PoseEstimator]]


@dataclass(frozen=True, slots=True)
class Dance:
    """The driving video of a dance, and the part of it whose frames have the poses."""

    video: Path
    clip: Clip


@dataclass(frozen=True, slots=True)
class Followed:
    """`drawn` uint8 [H, W, 3], as the control module sees it, and the pose that it shows, of edges none."""

    drawn: np.ndarray
    pose: PoseSequence | None = None


def followed_pose(
    options: CharacterOptions, canvas: int, size: Size, poses: PoseSequence
) -> tuple[Followed, int]:
    """The pose of a dance's frame, drawn; and that frame's number."""
    pose, frame = asked_pose(options.frame, poses, size)
    return Followed(next(iter(draw_control_frames(pose, *size, canvas))), pose), frame


def followed_edges(
    options: CharacterOptions, size: Size, poses: PoseSequence | None, dance: Dance | None
) -> Followed:
    """The edges of the picture that the options name, or of the dance's frame, cut out as its pose would be.

    A picture that is white on black alone is taken for edges.
    """
    from ...stages.image.conditions import canny, is_edges

    if options.control is not None:
        given = read_picture(localize(options.control))
        placed = place(given, centre_crop((given.shape[1], given.shape[0]), size))
        return Followed(placed if is_edges(given) else canny(placed))
    assert poses is not None and dance is not None
    frame = frame_of(options.frame, poses)
    around = place_around_pose(poses[frame : frame + 1], size)
    (picture,) = islice(read_frames(localize(dance.video), dance.clip), frame, frame + 1)
    return Followed(canny(place(picture, around)))


def asked_pose(asked: str | int, poses: PoseSequence, size: Size) -> tuple[PoseSequence, int]:
    """The pose to take from a dance, one frame, in pixels of the picture to be; and that frame's number."""
    frame = frame_of(asked, poses)
    pose = poses[frame : frame + 1]
    return placed_alignment(place_around_pose(pose, size)).apply(pose), frame


def frame_of(asked: str | int, poses: PoseSequence) -> int:
    """The number of the asked frame. ConfigError for one that there is not, PoseError for nobody."""
    if not isinstance(asked, int):
        return best_frame(poses) if asked == "best" else first_frame(poses)
    if asked >= len(poses):
        raise ConfigError(f"--frame {asked}: the dance has frames 0 to {len(poses) - 1}, choose one of them")
    if not poses.scores[asked].any():
        raise PoseError(f"nobody is in frame {asked} of the dance: choose another with --frame")
    return asked


def errors_of(
    followed: Followed, pictures: dict[str, np.ndarray], options: EstimatorConfig, opened: OpensEstimator
) -> list[float | None]:
    """How far each picture, by its name, is from what it was to follow; None where nobody is found in it.

    Of a pose its distance in picture heights; of edges the share that does not agree, 1 - F1.
    """
    if followed.pose is None:
        from ...stages.image.conditions import canny, edges_agree

        return [1 - edges_agree(canny(picture), followed.drawn) for picture in pictures.values()]
    errors: list[float | None] = []
    with opened(options) as estimator:
        for name, picture in pictures.items():
            try:
                found, _ = estimate_picture(picture, estimator, min_score=options.min_score, name=name)
                errors.append(pose_error(found, followed.pose))
            except PoseError:
                errors.append(None)
    return errors
