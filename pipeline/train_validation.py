"""Figures of a training in progress: losses at fixed noise levels, and pictures made in one step."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F

from ..datasets.samples import Clip, to_signed, to_unit
from ..stages.svd.denoiser import Conditioning, denoised, per_video, timestep_of
from ..stages.svd.temporal import without_temporal
from .train_data import seeded
from .train_log import Log
from .train_vae import decoded_by, psnr

if TYPE_CHECKING:
    from .train import VideoTask

VALIDATION_CLIPS = 8
ONE_STEP_SIGMA = 30.0
"""A denoised picture from this noise level shows what the conditioning alone tells."""


@torch.no_grad()
def validate(task: VideoTask, step: int, log: Log) -> dict[str, float]:
    """Losses at three noise levels, and PSNR of pictures denoised in one step from a high one."""
    clips = [task.config.data.held_out(VALIDATION_CLIPS)[i] for i in range(VALIDATION_CLIPS)]
    kept, task.kept = task.kept, {}
    frames = list(range(len(clips[0].frames)))
    pairs = [[(0, frames)] if task.config.video else [(0, [f]) for f in frames[1:3]] for _ in clips]
    figures = {}
    for sigma in (0.5, 2.0, 10.0):
        result = task.denoise_loss(clips, pairs, seeded(1, 0), sigma)
        figures[f"validation_loss_{sigma:g}"] = float(result.value)
    shown = [[frame for _, frames in chosen for frame in frames] for chosen in pairs]
    made = [one_step(task, clip, chosen) for clip, chosen in zip(clips, shown, strict=True)]
    task.kept = kept
    truth = [to_signed(clip.frames[chosen]) for clip, chosen in zip(clips, shown, strict=True)]
    errors = [float(F.mse_loss(a, b)) for a, b in zip(made, truth, strict=True)]
    figures["validation_psnr"] = float(np.mean([psnr(error) for error in errors]))
    rows = []
    for i, clip in enumerate(clips):
        pick = slice(-2, None)
        controls = to_unit(clip.control[shown[i][pick]])
        pictures = (torch.cat([truth[i][pick], made[i][pick]]) + 1) / 2
        rows.append(torch.cat([to_unit(clip.frames[:1]), controls, pictures]))
    log.add_image("validation", rearrange(torch.stack(rows), "r n c h w -> c (r h) (n w)"), step)
    return figures


@torch.no_grad()
def one_step(task: VideoTask, clip: Clip, frames: list[int]) -> Tensor:
    """Frames of a clip denoised in one step from ONE_STEP_SIGMA: [F, 3, H, W] in -1..1."""
    encoded, token = task.encode(clip, 0), task.token(clip, 0)[None]
    scale = float(task.parts.vae.config["scaling_factor"])
    videos = 1 if task.config.video else len(frames)
    shape = (videos, len(frames) // videos, *encoded.shape)
    noise = torch.randn(shape, generator=seeded(2, clip.number))
    sigma = torch.full((videos,), ONE_STEP_SIGMA)
    conditioning = Conditioning(
        token[:, None].expand(videos, -1, -1),
        encoded.expand(videos, -1, -1, -1),
        task.numbers().time_ids().expand(videos, -1),
    )
    pictures = to_unit(clip.control[frames]).reshape(*shape[:2], 3, *clip.control.shape[1:3])
    control = task.parts.controlnext(pictures, timestep_of(sigma))
    if task.config.video:
        v = task.denoiser(noise * ONE_STEP_SIGMA, sigma, conditioning, control)
    else:
        with without_temporal(task.parts.unet):
            v = task.denoiser(noise * ONE_STEP_SIGMA, sigma, conditioning, control)
    x0 = denoised(noise * ONE_STEP_SIGMA, v, per_video(sigma))
    with without_temporal(task.parts.vae):
        decoded = decoded_by(task.parts.vae, x0.flatten(0, 1) / scale)
    return decoded.clamp(-1, 1)
