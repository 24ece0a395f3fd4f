"""What a config asks for of the user's driving video or pose file."""

from ...stages.media.video import Clip
from ...stages.pose.track import Person
from ..config import AnimateConfig, ClipConfig


def clip_of(config: ClipConfig) -> Clip:
    """The part of the driving video that a config asks for."""
    return Clip(config.start, config.duration, config.stride, config.fps, config.max_pixels)


def pose_size_of(config: AnimateConfig) -> tuple[int, int] | None:
    """The size of the pose file's video that a config names, (width, height)."""
    if config.pose_size is None:
        return None
    width, height = config.pose_size.split("x")
    return int(width), int(height)


def person_of(config: ClipConfig) -> Person | None:
    """The person that a config names: by number from the left, or by a point in pixels."""
    if config.person is None:
        return None
    if "," not in config.person:
        return int(config.person)
    x, y = config.person.split(",")
    return float(x), float(y)
