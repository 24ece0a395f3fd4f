"""Measure how frames are enlarged: `run.py evaluate upscale`, beside plain Lanczos.

Drawn dancers that no training has seen are made small by averaging, enlarged by each way, and compared with
what they were. The frames go through the very functions of `upscale`.
"""

from contextlib import closing
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import cv2
import numpy as np
from pydantic import Field

from ...datasets.clips import HELD_OUT
from ...datasets.puppets.render import make_character, make_motion, render
from ...stages import quality
from ...stages.errors import ConfigError
from ...stages.image.steady import steadied
from ...stages.media.picture import write_png
from ..animate.tools import Tools
from ..config import JsonFile
from ..config_base import Rare
from ..progress import stage
from ..upscale.enlarge import Enlarging, Paint, paint_here, resize
from ..upscale.options import UpscaleOptions
from .figures import log_figures, write_figures

FPS = Fraction(15)
LANCZOS, ALONE, WITH_NEIGHBOURS = "lanczos", "each_frame_alone", "with_neighbours"
"""What is compared: plain resizing, painted frames as they are, and blended with their neighbours."""


class EvaluateUpscaleConfig(UpscaleOptions):
    """What is measured: how frames are enlarged, and of which videos."""

    factor: Annotated[int, Field(ge=2, le=4)] = 2
    """How much wider and higher the frames become."""
    width: Annotated[int, Field(ge=16)] = 216
    """Width of the true frames in pixels, a multiple of the factor."""
    height: Annotated[int, Field(ge=16)] = 384
    """Height of the true frames in pixels, a multiple of the factor."""
    clips: Annotated[int, Field(ge=1)] = 4
    """Characters, each with one dance."""
    frames: Annotated[int, Field(ge=3)] = 12
    """Frames of each clip."""
    held_out: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """Decides characters and dances."""
    device: Annotated[str, Rare] = "auto"
    """auto, cpu, cuda or cuda:N."""
    json_file: JsonFile = None
    """File that gets the figures."""
    sheet: Path | None = None
    """Where to write the picture sheet (PNG): truth, Lanczos, painted alone, painted with neighbours."""


def evaluate_upscale(config: EvaluateUpscaleConfig) -> dict[str, Any]:
    """The figures of each way; says them as a table, writes JSON and sheet if asked.

    `psnr` in dB; `detail` is the size of the second differences within frames over the truth's, 1 is as
    sharp; `change` that of the difference between successive frames over the truth's, `flicker` that of the
    second one; `unsteady` how much the fault changes from frame to frame, in levels of 255.
    """
    if config.width % config.factor or config.height % config.factor:
        raise ConfigError(
            f"{config.width}x{config.height} is no multiple of the factor {config.factor}: name another size"
        )
    how = Enlarging(config, config.factor, config.device, None)
    found: dict[str, list[dict[str, float]]] = {}
    rows = []
    with closing(Tools()) as tools, stage("evaluate", config.clips, "clip") as done:
        for number in range(config.clips):
            truth = dance(config, number)
            made = enlarged(how, shrunk(truth, config.factor), partial(paint_here, tools.painter))
            for way, frames in made.items():
                found.setdefault(way, []).append(measured(frames, truth))
            middle = len(truth) // 2
            rows.append(np.concatenate([truth[middle], *(frames[middle] for frames in made.values())], 1))
            done(1)
    figures: dict[str, Any] = {
        f"{way}_{name}": float(np.mean([each[name] for each in clips]))
        for way, clips in found.items()
        for name in clips[0]
    }
    figures["psnr_gain"] = figures[f"{WITH_NEIGHBOURS}_psnr"] - figures[f"{LANCZOS}_psnr"]
    figures |= {"clips": config.clips, "frames": config.frames, "size": f"{config.width}x{config.height}"}
    log_figures(figures)
    write_figures(config.json_file, figures)
    if config.sheet is not None:
        config.sheet.parent.mkdir(parents=True, exist_ok=True)
        write_png(config.sheet, np.concatenate(rows))
    return figures


def dance(config: EvaluateUpscaleConfig, number: int) -> np.ndarray:
    """A held-out dance uint8 [T, H, W, 3], drawn at twice the size and averaged."""
    rng = np.random.default_rng([config.held_out, number, 13])
    character, motion = (HELD_OUT + int(rng.integers(HELD_OUT)) for _ in range(2))
    drawn = (
        render(
            make_character(character), make_motion(motion, FPS), moment, 2 * config.width, 2 * config.height
        )
        for moment in range(config.frames)
    )
    return shrunk(np.stack([frame.image for frame in drawn]), 2)


def shrunk(frames: np.ndarray, factor: int) -> np.ndarray:
    """Frames uint8 [T, H, W, 3] made smaller by averaging."""
    size = frames.shape[2] // factor, frames.shape[1] // factor
    return np.stack([cv2.resize(frame, size, interpolation=cv2.INTER_AREA) for frame in frames])


def enlarged(
    how: Enlarging,
    small: np.ndarray,
    paint: Paint,
) -> dict[str, np.ndarray]:
    """Small frames uint8 [T, h, w, 3] enlarged in each way, uint8 [T, H, W, 3]."""
    plain = np.stack(list(resize(how, iter(small))))
    painted = np.stack(list(paint(how, iter(small))))
    blended = steadied(zip(plain, painted, strict=True), how.options.neighbours)
    return {LANCZOS: plain, ALONE: painted, WITH_NEIGHBOURS: np.stack(list(blended))}


def measured(frames: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """The figures of enlarged frames against the true ones; see `evaluate_upscale`."""
    fault = frames.astype(np.float32) - truth
    return {
        "psnr": quality.psnr(frames, truth),
        "detail": second_differences(frames) / max(second_differences(truth), 1e-6),
        "change": first_difference(frames) / max(first_difference(truth), 1e-6),
        "flicker": quality.flicker(frames, truth),
        "unsteady": float(np.abs(np.diff(fault, axis=0)).mean()),
    }


def first_difference(frames: np.ndarray) -> float:
    """Mean size of what changes between successive frames uint8 [T, H, W, 3], in levels of 255."""
    return float(np.abs(np.diff(frames.astype(np.float32), axis=0)).mean())


def second_differences(frames: np.ndarray) -> float:
    """Their mean size within frames uint8 [T, H, W, 3], along rows and columns, in levels of 255."""
    wide = frames.astype(np.float32)
    return float(np.mean([np.abs(np.diff(wide, 2, axis=axis)).mean() for axis in (1, 2)]))
