"""`pose`: only the pose step of `animate`, on a driving video."""

from contextlib import closing
from dataclasses import replace
from pathlib import Path

from ...stages.errors import ConfigError
from ...stages.media.picture import read_picture
from ...stages.pose.files import load_poses, save_poses
from ..config import AnimateConfig, EncodeConfig, PoseConfig, write_yaml
from ..config_base import ALL
from ..job.job import open_job, write_text
from ..job.output import refuse_video
from ..job.storage import localize
from . import decided
from .accept import table
from .dance import clip_of, driving_audio
from .everybody import OVERLAY, PEOPLE, pose_everybody
from .graph import STEPS, Step, run, step_keys
from .paper import animatic, decided_by
from .pose_steps import load_report
from .report import write_overlay
from .tools import Tools
from .video import Facts, Video


def pose(config: PoseConfig) -> list[Path]:
    """Write the poses of a driving video (.npz and .json) and a video that shows them; returns the paths.

    Of all people, where the config asks for them: a file (.npz) each.
    With a reference image, also what becomes of them there: the fitted skeleton, and the figure of paper.
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
    if video.reference is None and video.align != AnimateConfig.model_fields["align"].default:
        raise ConfigError(f"--align {video.align} without --reference: name the character that is to dance")
    if video.reference is not None and everybody:
        raise ConfigError("--reference with --person all: name the one person who is to dance in its place")
    if video.reference is not None:
        read_picture(localize(video.reference))
    graph = [step for step in POSE_GRAPH if step.asked(video)]
    keys = step_keys(video, graph)
    with open_job(config.output) as job, closing(Tools()) as tools:
        write_text(job.folder / "config.yaml", write_yaml(config))
        for step in POSE_GRAPH:  # what another question was answered with
            if (everybody or step not in graph) and step.is_result:
                job.drop(step.name)
        if everybody:
            return pose_everybody(video, job, tools)
        for name in (PEOPLE, OVERLAY):
            job.drop(name)
        for step in graph:
            run(job, step, video, keys, tools)
    return [path for step in graph if step.is_result for path in step.files(config.output, video)]


def verdict(config: PoseConfig) -> str:
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


def has_reference(config: AnimateConfig) -> bool:
    """Whether a picture is named of the character that is to dance."""
    return config.reference is not None


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
        version=2,
    ),
    replace(STEPS["reference"], asked=has_reference),
    Step(
        "animatic",
        "compare",
        ("reference", "poses"),
        ("driving", "reference"),
        ("animatic.mp4", "fitted.mp4", "fitted_sheet.png"),
        decided_by,
        animatic,
        asked=has_reference,
    ),
)
"""The steps of `pose`."""
