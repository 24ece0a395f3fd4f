"""What a config asks for of the user's driving video or pose file."""

import re
from pathlib import Path

from ...stages.errors import ConfigError
from ...stages.media.audio import AudioSource
from ...stages.media.numbered import PATTERN
from ...stages.media.video import Clip, clip_start, probe
from ...stages.pose.follow.person import Person, person_of_text
from ..config import AnimateConfig, ClipConfig
from ..job.masking import masked
from ..job.storage import is_file, is_folder, localize, url_of


def clip_of(config: ClipConfig) -> Clip:
    """The part of the driving video that a config asks for."""
    return Clip(config.start, config.duration, config.stride, config.fps, config.max_pixels)


def driving_audio(config: ClipConfig) -> AudioSource | None:
    """The driving video's sound from where the clip starts, unless it is not wanted or there is none."""
    if config.driving is None or not config.encode.audio:
        return None
    info = probe(config.driving, clip_of(config))
    return AudioSource(config.driving, clip_start(info, clip_of(config))) if info.has_audio else None


WIDTH_X_HEIGHT = re.compile(r"[1-9]\d{0,4}x[1-9]\d{0,4}")


def with_pose_size(config: AnimateConfig) -> AnimateConfig:
    """The config with the size of the video in place of the video that --pose-size names.

    Raises ConfigError for what is neither, VideoError for a video that cannot be read.
    """
    given = config.pose_size
    if given is None or config.pose is None or WIDTH_X_HEIGHT.fullmatch(given):
        return config
    video = Path(given)
    if not is_file(video):
        raise ConfigError(f"--pose-size {given} is neither WIDTHxHEIGHT, such as 1280x720, nor a video")
    info = probe(localize(video), Clip(max_pixels=config.max_pixels))
    return config.model_copy(update={"pose_size": f"{info.width}x{info.height}"})


def pose_size_of(config: AnimateConfig) -> tuple[int, int] | None:
    """The size of the pose file's video that a config names, (width, height); after `with_pose_size`."""
    if config.pose_size is None:
        return None
    width, height = config.pose_size.split("x")
    return int(width), int(height)


def person_of(config: ClipConfig) -> Person | None:
    """The person that a config names. Raises PoseError for a box without an inside."""
    return person_of_text(config.person)


def refuse_pictures_at_url(driving: Path | None) -> None:
    """ConfigError for a folder or pattern of pictures at a URL: only files are copied here to be read."""
    if driving is None or (url := url_of(driving)) is None or is_file(driving):
        return
    if is_folder(driving) or PATTERN.search(driving.name):
        raise ConfigError(
            f"{masked(url)} is pictures at a URL: copy them into a folder here, or make them a video"
        )
