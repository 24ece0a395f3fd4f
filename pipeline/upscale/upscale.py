"""`upscale`: enlarge a video frame by frame -> OUT/result.mp4, with its sound."""

import shutil
from contextlib import closing
from functools import partial
from pathlib import Path

from ...stages.errors import ConfigError
from ...stages.media.audio import AudioSource
from ...stages.media.video import Clip, probe
from ..animate.tools import Tools
from ..config import write_yaml
from ..job.job import key_of, open_job, source_digest, write_text
from ..job.output import refuse_video
from .config import UpscaleConfig
from .enlarge import Enlarging, Paint, enlarge_video, paint_here
from .spread import paint_on_ray


def upscale(config: UpscaleConfig, workers: int | None = None, ray_address: str | None = None) -> Path:
    """Enlarge the video that `config` names; returns the result. Raises ConfigError for what is missing.

    With `workers` the frames are spread over so many Ray actors, to the same bytes.
    """
    refuse_video(config.output)
    video = config.video
    if video is None:
        raise ConfigError("--video is missing: name the video to enlarge")
    if ray_address is not None and workers is None:
        raise ConfigError(f"--ray-address {ray_address} without --workers: say how many share the video")
    if config.encode.bit_depth != 8:
        raise ConfigError("upscale paints 8 bits: leave out --encode.bit-depth")
    how = Enlarging(config, config.factor, config.device, config.precision)
    encode = config.encode
    key = key_of(
        "upscale",
        2,
        decided_by=how.decided_by(),
        encode=encode.model_dump(mode="json"),
        video=source_digest(video),
    )
    result = config.output / ("result.mkv" if encode.lossless else "result.mp4")
    with open_job(config.output) as job, closing(Tools()) as tools:
        write_text(job.folder / "config.yaml", write_yaml(config))
        here: Paint = partial(paint_here, tools.painter)
        paint = here if workers is None else partial(paint_on_ray, workers, ray_address)
        kept = job.work / f"frames-{key[:16]}"

        def make() -> None:
            has_audio = encode.audio and probe(video, Clip()).has_audio
            audio = AudioSource(video) if has_audio else None
            options = encode.model_dump(exclude={"audio"})
            enlarge_video(video, result, how, kept, paint, audio, options)

        job.run("upscale", key, [result], make)
        for folder in job.work.glob("frames-*"):
            shutil.rmtree(folder)
    return result
