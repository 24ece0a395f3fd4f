"""`pose`: only the pose steps of `animate`, on a driving video."""

from pathlib import Path

from ...stages.errors import ConfigError
from ...stages.media.encode import AudioSource
from ...stages.media.video import clip_start, probe
from ...stages.pose.files import load_poses, save_poses
from ..config import ClipConfig, write_yaml
from ..job.job import Key, key_of, open_job, source_digest, write_text
from ..job.storage import with_local_inputs
from . import steps
from .report import write_overlay


def pose(config: ClipConfig) -> list[Path]:
    """Write the poses of a driving video (.npz and .json) and a video that shows them; returns the paths."""
    if config.driving is None:
        raise ConfigError("--driving is missing: name a video")
    asked, config = config, with_local_inputs(config)
    driving = config.driving
    assert driving is not None
    clip = steps.clip_of(config)
    audio = driving_audio(config)
    with open_job(config.output) as job:
        write_text(job.folder / "config.yaml", write_yaml(asked))
        names = ("poses.npz", "poses.json", "overlay.mp4", "contact_sheet.png")
        poses, as_json, overlay, sheet = files = [job.folder / name for name in names]
        key = poses_key(config)
        job.run("poses", key, [poses], lambda: steps.driving_poses(driving, clip, config.estimator, poses))
        job.run("json", key_of("json", poses=key), [as_json], lambda: save_poses(as_json, load_poses(poses)))
        job.run(
            "overlay",
            key_of("overlay", poses=key, encode=config.encode.model_dump()),
            [overlay, sheet],
            lambda: write_overlay(driving, clip, poses, job.folder, audio, config.encode),
        )
    return files


def poses_key(config: ClipConfig) -> Key:
    """Key of the step that finds the poses of the driving video."""
    assert config.driving is not None
    models = [path for path in (config.estimator.model, config.estimator.detector) if path is not None]
    return key_of(
        "poses",
        video=source_digest(config.driving),
        clip=[config.start, config.duration, config.stride],
        estimator=config.estimator.model_dump(mode="json"),
        models=[source_digest(path) for path in models],
    )


def driving_audio(config: ClipConfig) -> AudioSource | None:
    """The driving video's sound from where the clip starts, unless it is not wanted or there is none."""
    if config.driving is None or not config.encode.audio:
        return None
    info = probe(config.driving)
    return AudioSource(config.driving, clip_start(info, steps.clip_of(config))) if info.has_audio else None
