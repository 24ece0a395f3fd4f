"""A video enlarged frame by frame: what `upscale` and the step of that name in a video share.

Painted frames wait on disk until the video is whole, so that a stopped run goes on after them. A frame is
then blended with its neighbours, and written: memory does not grow with the length.
"""

import shutil
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from ...stages.image.steady import steadied
from ...stages.media.audio import AudioSource
from ...stages.media.encode import VideoWriter
from ...stages.media.picture import read_picture, write_png
from ...stages.media.video import Clip, count_frames, output_rate, probe, read_frames
from ..character.painter import PLACES, Painter, settled, weights_of
from ..interrupts import end_here
from ..progress import stage
from .options import UpscaleOptions

OWN = set(UpscaleOptions.model_fields) - PLACES
"""Options that count as they are; of weights the content counts."""


@dataclass(frozen=True, slots=True)
class Enlarging:
    """How frames are enlarged, by which factor and where."""

    options: UpscaleOptions
    factor: int
    device: str
    precision: str | None

    def decided_by(self) -> dict[str, Any]:
        """All that decides the result but for the small video, as plain data."""
        painted = self.options.method == "controlnext"
        return {
            "factor": self.factor,
            "options": settled(self.options, "upscale").model_dump(mode="json", include=OWN),
            "weights": weights_of(self.options, "upscale") if painted else {},
            "where": [self.device, self.precision] if painted else [],
        }


Opens = Callable[[UpscaleOptions, Any, str, str | None], Painter]
"""Opens what paints, or gives what is open: `Tools.painter`."""
Paint = Callable[[Enlarging, Iterator[np.ndarray]], Iterator[np.ndarray]]
"""Paints frames uint8 [H, W, 3] larger, in their order: in this process, or spread over workers."""


def enlarge_video(
    video: Path,
    result: Path,
    how: Enlarging,
    kept: Path,
    paint: Paint,
    audio: AudioSource | None,
    encode: Mapping[str, Any],
) -> None:
    """Write `video` enlarged to `result`; painted frames wait in the folder `kept`, which goes at the end."""
    clip = Clip()
    info = probe(video, clip)
    size = info.width * how.factor, info.height * how.factor
    with ExitStack() as stack:
        frames = resize(how, read_frames(video, clip))
        if how.options.method == "controlnext":
            made = stack.enter_context(closing(painted(video, how, kept, paint)))
            frames = steadied(zip(frames, made, strict=True), how.options.neighbours)
        advance = stack.enter_context(stage("upscale", count_frames(info, clip)))
        writer = VideoWriter(result, *size, output_rate(info, clip), audio, **encode)
        stack.enter_context(writer)
        for frame in frames:
            writer.write(frame)
            advance(1)
            end_here()
    shutil.rmtree(kept, ignore_errors=True)


def painted(video: Path, how: Enlarging, kept: Path, paint: Paint) -> Generator[np.ndarray, None, None]:
    """Each frame of a video, painted: those that wait in `kept` as they are, the others are put there."""
    kept.mkdir(parents=True, exist_ok=True)
    done = 0
    while (path := kept / f"{done:06d}.png").exists():
        yield read_picture(path)
        done += 1
    left = islice(read_frames(video, Clip()), done, None)
    for number, frame in enumerate(paint(how, left), done):
        write_png(kept / f"{number:06d}.png", frame)
        yield frame


def paint_here(open_painter: Opens, how: Enlarging, frames: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    """Paint frames in this process. Nothing is opened before the first."""
    for frame in frames:
        yield enlarge(open_painter(how.options, "upscale", how.device, how.precision), how, frame)


def enlarge(painter: Painter, how: Enlarging, frame: np.ndarray) -> np.ndarray:
    """One frame uint8 [H, W, 3], painted `how.factor` times as large."""
    from ...stages.image.paint import PaintSettings
    from ...stages.image.upscale import upscale_frame

    options = settled(how.options, "upscale")
    assert options.steps and options.guidance_scale is not None and options.strength
    assert options.tile and options.overlap is not None
    settings = PaintSettings(
        options.prompt,
        options.negative_prompt,
        options.steps,
        options.guidance_scale,
        options.scale,
        options.strength,
    )
    overlap = min(options.overlap, options.tile // 2)
    return upscale_frame(
        painter.pipeline, painter.module, frame, how.factor, settings, options.seed, options.tile, overlap
    )


def resize(how: Enlarging, frames: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    """Frames that are only resized, by Lanczos."""
    from ...stages.image.conditions import low_resolution

    for frame in frames:
        height, width = frame.shape[:2]
        yield low_resolution(frame, width * how.factor, height * how.factor)
