"""The steps that paint pictures: the character in the dancer's pose, and each frame of the result, larger."""

import shutil
from functools import partial

from ...stages.pose.files import load_poses
from ..character.painting import paint_reference
from ..job.job import Job
from ..upscale.enlarge import enlarge_video, paint_here
from . import decided
from .dance import driving_audio
from .pose_steps import accepted_poses
from .recorded import record_of
from .steps import load_size
from .tools import Tools
from .video import Facts, Video

PAINTED = ".work/painted"
"""Folder of frames that are painted, until the video of them is whole."""


def character(video: Video, tools: Tools) -> Facts:
    """Paint who is asked for in the dancer's pose, at the size of the video -> picture, sheet, record.

    Refuses poses that are too poor: `control` says what it takes all the same.
    """
    accepted_poses(video)
    size = load_size(video.read("size"))
    wanted = decided.character_wanted(video.config, size.width, size.height)
    return paint_reference(Job(video.folder), wanted, load_poses(video.read("poses")), tools)


def upscale(video: Video, tools: Tools) -> Facts:
    """Enlarge the result -> mp4 or mkv, with the driving video's sound."""
    config, kept = video.config, video.folder / PAINTED / video.key[:16]
    for other in kept.parent.glob("*"):
        if other != kept:
            shutil.rmtree(other)  # of another key
    enlarge_video(
        video.read("result"),
        video.output,
        decided.enlarging(config),
        kept,
        tools.paint or partial(paint_here, tools.painter),
        driving_audio(config),
        {**config.encode.model_dump(exclude={"audio"}), "comment": record_of(config, enlarged=True)},
    )
    shutil.rmtree(kept.parent, ignore_errors=True)
    return {}
