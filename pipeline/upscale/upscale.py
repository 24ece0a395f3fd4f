"""`upscale`: enlarge a video frame by frame -> OUT/result.mp4, with its sound.

Finished frames wait in OUT/.work, so that a stopped run goes on from there; they go when the video is whole.
"""

import shutil
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from ...stages.errors import ConfigError
from ...stages.image.conditions import low_resolution
from ...stages.media.audio import AudioSource
from ...stages.media.encode import VideoWriter
from ...stages.media.picture import read_picture, write_png
from ...stages.media.video import Clip, count_frames, output_rate, probe, read_frames
from ..character.character import weights_of
from ..character.painter import open_pictures
from ..config import write_yaml
from ..job.job import key_of, open_job, source_digest, write_text
from ..job.output import refuse_video
from ..progress import stage
from .config import UpscaleConfig

PLACES = {"output", "video", "device", "base", "controlnext", "unet", "lora", "vae", "base_config"}
"""Options that say where things are: their content counts."""


def upscale(config: UpscaleConfig) -> Path:
    """Enlarge the video that `config` names; returns the result. Raises ConfigError for what is missing."""
    refuse_video(config.output)
    video = config.video
    if video is None:
        raise ConfigError("--video is missing: name the video to enlarge")
    if config.method == "controlnext" and config.base is None:
        raise ConfigError("--base is missing: name a base for pictures, or --method lanczos")
    if config.encode.bit_depth != 8 or config.encode.lossless:
        raise ConfigError("upscale writes 8 bits and mp4: leave out --encode.bit-depth and --encode.lossless")
    key = key_of(
        "upscale",
        1,
        decided_by=config.model_dump(mode="json", exclude=PLACES),
        video=source_digest(video),
        weights=weights_of(config) if config.method == "controlnext" else {},
    )
    result = config.output / "result.mp4"
    with open_job(config.output) as job:
        write_text(job.folder / "config.yaml", write_yaml(config))
        kept = job.work / f"frames-{key[:16]}"
        job.run("upscale", key, [result], lambda: make(config, video, kept, result))
        for folder in job.work.glob("frames-*"):
            shutil.rmtree(folder)
    return result


def make(config: UpscaleConfig, video: Path, kept: Path, result: Path) -> dict[str, Any]:
    """Enlarge the frames that are not in `kept` yet, and write the video."""
    clip = Clip(stride=1)
    info = probe(video, clip)
    audio = AudioSource(video) if info.has_audio and config.encode.audio else None
    size = info.width * config.factor, info.height * config.factor
    kept.mkdir(parents=True, exist_ok=True)
    enlarge = enlarger(config)
    rate: Fraction = output_rate(info, clip)
    encode = config.encode.model_dump(include={"crf", "preset"})
    with (
        stage("upscale", count_frames(info, clip)) as advance,
        VideoWriter(result, *size, rate, audio, **encode) as writer,
    ):
        for number, frame in enumerate(read_frames(video, clip)):
            path = kept / f"{number:06d}.png"
            if not path.exists():
                write_png(path, enlarge(frame))
            writer.write(read_picture(path))
            advance(1)
    return {}


def enlarger(config: UpscaleConfig) -> Callable[[np.ndarray], np.ndarray]:
    """What makes a large frame of a small one, uint8 [H, W, 3]; a base is opened at the first."""
    opened: list[tuple[Any, Any]] = []

    def enlarge(frame: np.ndarray) -> np.ndarray:
        if config.method == "lanczos":
            return low_resolution(frame, frame.shape[1] * config.factor, frame.shape[0] * config.factor)
        from ...stages.image.paint import PaintSettings
        from ...stages.image.upscale import upscale_frame

        if not opened:
            opened.append(open_pictures(config))
        settings = PaintSettings(
            config.prompt,
            config.negative_prompt,
            config.steps,
            config.guidance_scale,
            config.scale,
            config.strength,
        )
        return upscale_frame(
            *opened[0], frame, config.factor, settings, config.seed, config.tile, config.overlap
        )

    return enlarge
