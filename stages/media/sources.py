"""Where frames come from: a video file, numbered pictures, or an animated picture."""

import os
from collections.abc import Generator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Protocol

from av.video.frame import VideoFrame

from ..errors import ConfigError
from .container import Scan, scan
from .decoding import decoded_frames
from .moving_pictures import Animation, NumberedPictures, is_animated, scan_animation, scan_pictures
from .numbered import numbered_pictures


class FrameSource(Protocol):
    """Frames with time stamps."""

    @property
    def scan(self) -> Scan:
        """What is known of them before any is decoded."""
        ...

    def frames(self, target: int) -> Generator[tuple[int, VideoFrame], None, None]:
        """(time stamp in ticks of the timeline, frame) from the one numbered `target`, or some before, on."""
        ...


@dataclass(frozen=True, slots=True)
class VideoFile:
    """A file that FFmpeg reads."""

    path: str | os.PathLike[str]
    scan: Scan
    max_pixels: int

    def frames(self, target: int) -> Generator[tuple[int, VideoFrame], None, None]:
        """As FrameSource has it."""
        return decoded_frames(self.path, self.scan, target, self.max_pixels)


def open_source(path: str | os.PathLike[str], fps: Fraction | None, max_pixels: int) -> FrameSource:
    """The frames of a video file, of a folder or pattern of pictures at `fps`, or of an animation.

    Raises VideoError where there are none or they are larger than `max_pixels`, and ConfigError for pictures
    without `fps`, or `fps` for what has times of its own.
    """
    path = Path(path)
    if (pictures := numbered_pictures(path)) is not None:
        if fps is None:
            raise ConfigError(f"{path} is pictures, which name no frame rate: give --fps")
        return NumberedPictures(pictures, scan_pictures(path, pictures, fps, max_pixels), max_pixels)
    if fps is not None:
        raise ConfigError(f"{path} has times of its own: leave --fps out")
    if is_animated(path):
        return Animation(path, scan_animation(path, max_pixels))
    return VideoFile(path, scan(path, max_pixels), max_pixels)
