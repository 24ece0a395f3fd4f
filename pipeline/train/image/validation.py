"""Figures of a training for pictures: losses with and without control, and pictures that are made."""

import cv2
import numpy as np
import torch
from einops import rearrange

from ....datasets.pictures import PictureSample
from ....stages.errors import ConfigError
from ....stages.image.attach import attach
from ....stages.image.conditions import low_resolution
from ....stages.image.paint import PaintSettings
from ....stages.image.upscale import upscale_frame
from ....stages.pixels import to_unit
from ....stages.quality import psnr
from ..data import seeded
from ..log import Log
from .config import PictureDataConfig
from .enlarging import EnlargingTask
from .task import PictureTask

VALIDATION_PICTURES = 8
SHOWN = 4
"""Pictures that the pipeline makes of them."""
STEPS = 10
TILE = 128
"""Side of the squares that held-out pictures are enlarged in."""
LEVELS = (0.2, 0.5, 0.9)
"""Timesteps that losses are measured at, as shares of all."""


def held_out_pictures(data: PictureDataConfig, count: int) -> list[PictureSample]:
    """At most `count` held-out pictures, without those that cannot be read. ConfigError where none can."""
    pictures = data.held_out(count)
    found = [pictures[i] for i in range(len(pictures))]
    readable = [sample for sample in found if isinstance(sample, PictureSample)]
    if not readable:
        raise ConfigError("none of the pictures that are held out can be read: mend the data")
    return readable


@torch.no_grad()
def validate(task: PictureTask, step: int, log: Log) -> dict[str, float]:
    """Losses of held-out pictures at three timesteps, and what the control takes off them.

    A sheet of pictures goes to the log: of each the truth, its condition, and what the pipeline makes of the
    condition and the prompt.
    """
    samples = held_out_pictures(task.config.data, VALIDATION_PICTURES)
    latents = task.encode(np.stack([sample.picture for sample in samples]))
    noise = torch.randn(latents.shape, generator=seeded(1, 0)).to(task.device)
    condition = to_unit(np.stack([sample.condition for sample in samples])).to(task.device)
    words = task.words([sample.prompt for sample in samples])
    figures: dict[str, float] = {}
    for share in LEVELS:
        timesteps = torch.full((len(samples),), share * 1000, device=task.device)
        timesteps = timesteps if task.family == "sd3" else timesteps.long()
        with_control = float(task.losses(latents, noise, timesteps, condition, words).mean())
        without = float(task.losses(latents, noise, timesteps, None, words).mean())
        figures[f"validation_loss_{share:g}"] = with_control
        figures[f"validation_gain_{share:g}"] = without - with_control
    task.injection.features = None
    log.add_image("pictures", sheet(task, samples[:SHOWN]), step)
    return figures


@torch.no_grad()
def validate_enlarging(task: EnlargingTask, step: int, log: Log) -> dict[str, float]:
    """Signal-to-noise ratios of held-out pictures that are enlarged, and of Lanczos beside them."""
    task.injection.features = None
    data = task.config.data
    factor = round(data.factor or 2)
    ratios, plain, rows = [], [], []
    for sample in held_out_pictures(data, SHOWN):
        size = data.width // factor, data.height // factor
        small = cv2.resize(sample.picture, size, interpolation=cv2.INTER_AREA)
        made = upscale_frame(task.pipeline, task.module, small, factor, settings_of(task), 0, TILE, TILE // 4)
        ratios.append(psnr(made[None], sample.picture[None]))
        plain.append(psnr(low_resolution(small, data.width, data.height)[None], sample.picture[None]))
        rows.append(to_unit(np.stack([sample.condition, made, sample.picture])))
    log.add_image("enlarged", rearrange(torch.stack(rows), "r n c h w -> c (r h) (n w)"), step)
    return {"psnr": float(np.mean(ratios)), "psnr_lanczos": float(np.mean(plain))}


def settings_of(task: EnlargingTask) -> PaintSettings:
    """One step, the last of the schedule."""
    return PaintSettings("", "", STEPS, 1.0, task.config.scale, 1 / STEPS)


@torch.no_grad()
def sheet(task: PictureTask, samples: list[PictureSample]) -> torch.Tensor:
    """A row for each sample, float [3, H, W] in 0..1: its picture, its condition, what is made of it."""
    data = task.config.data
    rows = []
    task.pipeline.set_progress_bar_config(disable=True)
    for sample in samples:
        condition = to_unit(sample.condition[None]).to(task.device)
        with attach(task.pipeline, task.module, condition, scale=task.config.scale, block=task.config.block):
            made = task.pipeline(
                sample.prompt,
                width=data.width,
                height=data.height,
                num_inference_steps=STEPS,
                generator=seeded(2, sample.number),
                output_type="np",
            ).images
        pictures = [
            *to_unit(np.stack([sample.picture, sample.condition])),
            torch.from_numpy(made[0]).permute(2, 0, 1),
        ]
        rows.append(torch.stack([picture.cpu().float() for picture in pictures]))
    return rearrange(torch.stack(rows), "r n c h w -> c (r h) (n w)")
