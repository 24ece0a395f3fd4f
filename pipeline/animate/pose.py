"""`pose`: only the pose step of `animate`, on a driving video."""

from contextlib import closing
from pathlib import Path

from ...stages.errors import ConfigError
from ...stages.pose.files import load_poses, save_poses
from ..config import AnimateConfig, ClipConfig, EncodeConfig, write_yaml
from ..config_base import ALL
from ..job.job import open_job, write_text
from ..job.output import refuse_video
from . import decided
from .accept import table
from .dance import clip_of, driving_audio
from .everybody import PEOPLE, pose_everybody
from .graph import STEPS, Step, run, step_keys
from .pose_steps import load_report
from .report import write_overlay
from .tools import Tools
from .video import Facts, Video


def pose(config: ClipConfig) -> list[Path]:
    """Write the poses of a driving video (.npz and .json) and a video that shows them; returns the paths.

    Of all people, where the config asks for them: a file (.npz) each.
    """
    if config.driving is None:
        raise ConfigError("--driving is missing: name a video")
    refuse_video(config.output)
    for name in ("bit_depth", "lossless"):
        if getattr(config.encode, name) != EncodeConfig.model_fields[name].default:
            option = name.replace("_", "-")
            raise ConfigError(f"--encode.{option} is of what animate makes: leave it out with pose")
    everybody = config.person == ALL
    config_of_one = config.model_copy(update={"person": None}) if everybody else config
    video = AnimateConfig.model_validate({**dict(config_of_one), "accept_poses": True})  # it only tells
    keys = step_keys(video, POSE_GRAPH)
    with open_job(config.output) as job, closing(Tools()) as tools:
        write_text(job.folder / "config.yaml", write_yaml(config))
        if everybody:
            return pose_everybody(video, job, tools)
        job.drop(PEOPLE)
        for step in POSE_GRAPH:
            run(job, step, video, keys, tools)
    return [path for step in POSE_GRAPH for path in step.files(config.output, video)]


def verdict(config: ClipConfig) -> str:
    """The figures of the poses that `pose` found, as a table with their limits and a verdict.

    Of all people there is none: `pose` has told how many frames show each.
    """
    if config.person == ALL:
        return ""
    return table(load_report(config.output / STEPS["poses"].writes[1]), config.accept)


def as_json(video: Video, tools: Tools) -> Facts:
    """The poses -> OpenPose's JSON."""
    save_poses(video.output, load_poses(video.read("poses")))
    return {}


def overlay(video: Video, tools: Tools) -> Facts:
    """The poses drawn on the driving video -> overlay.mp4 and contact_sheet.png."""
    config = video.config
    assert config.driving is not None
    audio = driving_audio(config)
    write_overlay(config.driving, clip_of(config), video.read("poses"), video.folder, audio, config.encode)
    return {}


POSE_GRAPH = (
    STEPS["poses"],
    Step("json", "draw", ("poses",), (), ("poses.json",), decided.nothing, as_json),
    Step(
        "overlay",
        "compare",
        ("poses",),
        ("driving",),
        ("overlay.mp4", "contact_sheet.png"),
        decided.result,
        overlay,
    ),
)
"""The steps of `pose`."""
