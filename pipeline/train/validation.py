"""Figures of a training in progress: losses at fixed noise levels, and pictures made in one step."""

from fractions import Fraction
from itertools import pairwise

import numpy as np
import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F

from ...datasets.clips import Clip
from ...stages.pixels import to_signed, to_uint8, to_unit
from ...stages.quality import decibels
from ...stages.svd.denoiser import Conditioning, denoised, per_video, timestep_of
from ...stages.svd.levers.temporal import without_temporal
from ...stages.svd.schedule import SVD_SCHEDULER, euler_step, initial_deviation, sampling_sigmas
from .data import held_out_clips, seeded
from .latents import Kept
from .log import Log
from .task import VideoTask
from .vae import decoded_by

VALIDATION_CLIPS = 8
VALIDATION_VIDEOS = 2
VIDEO_FPS = Fraction(8)
"""Of the videos that validation makes, whatever their clips had."""
ONE_STEP_SIGMA = 30.0
"""A denoised picture from this noise level shows what the conditioning alone tells."""


@torch.no_grad()
def validate(task: VideoTask, step: int, log: Log) -> dict[str, float]:
    """Losses at three noise levels, and PSNR of pictures denoised in one step from a high one.

    Of some clips, where clips are learned, a video is made too, as `animate` makes it: reference, control,
    truth and result side by side.
    """
    config = task.config
    clips = held_out_clips(config.data, VALIDATION_CLIPS)
    kept, task.kept = task.kept, Kept()
    frames = list(range(len(clips[0].frames)))
    pairs = [[(0, frames)] if config.video else [(0, [f]) for f in frames[1:3]] for _ in clips]
    figures = {}
    for sigma in (0.5, 2.0, 10.0):
        result = task.denoise_loss(clips, pairs, seeded(1, 0), sigma)
        figures[f"validation_loss_{sigma:g}"] = float(result.value)
    shown = [[frame for _, frames in chosen for frame in frames] for chosen in pairs]
    made = [one_step(task, clip, chosen) for clip, chosen in zip(clips, shown, strict=True)]
    truth = [to_signed(clip.frames[chosen]) for clip, chosen in zip(clips, shown, strict=True)]
    errors = [float(F.mse_loss(a, b)) for a, b in zip(made, truth, strict=True)]
    figures["validation_psnr"] = float(np.mean([decibels(error, span=2) for error in errors]))
    rows = []
    for i, clip in enumerate(clips):
        pick = slice(-2, None)
        controls = to_unit(clip.control[shown[i][pick]])
        pictures = (torch.cat([truth[i][pick], made[i][pick]]) + 1) / 2
        rows.append(torch.cat([to_unit(clip.frames[:1]), controls, pictures]))
    log.add_image("validation", rearrange(torch.stack(rows), "r n c h w -> c (r h) (n w)"), step)
    if config.video:
        for i, clip in enumerate(clips[:VALIDATION_VIDEOS]):
            log.add_video(f"clip-{i}", beside(clip, sampled(task, clip)), VIDEO_FPS, step)
    task.kept = kept
    return figures


def conditioning_of(task: VideoTask, clip: Clip, videos: int) -> Conditioning:
    """What the network is told of a clip's reference, for `videos` videos."""
    return Conditioning(
        task.token(clip, 0)[None, None].expand(videos, -1, -1),
        task.encode(clip, 0).expand(videos, -1, -1, -1),
        task.numbers().time_ids().to(task.device).expand(videos, -1),
    )


@torch.no_grad()
def one_step(task: VideoTask, clip: Clip, frames: list[int]) -> Tensor:
    """Frames of a clip denoised in one step from ONE_STEP_SIGMA: [F, 3, H, W] in -1..1, on the CPU."""
    videos = 1 if task.config.video else len(frames)
    conditioning = conditioning_of(task, clip, videos)
    shape = (videos, len(frames) // videos, *conditioning.image_latents.shape[1:])
    noise = torch.randn(shape, generator=seeded(2, clip.number)).to(task.device)
    sigma = torch.full((videos,), ONE_STEP_SIGMA, device=task.device)
    pictures = to_unit(clip.control[frames]).reshape(*shape[:2], 3, *clip.control.shape[1:3])
    control = task.parts.controlnext(pictures.to(task.device), timestep_of(sigma))
    if task.config.video:
        v = task.denoiser(noise * ONE_STEP_SIGMA, sigma, conditioning, control)
    else:
        with without_temporal(task.parts.unet):
            v = task.denoiser(noise * ONE_STEP_SIGMA, sigma, conditioning, control)
    x0 = denoised(noise * ONE_STEP_SIGMA, v, per_video(sigma))
    return pictures_of(task, x0.flatten(0, 1))


@torch.no_grad()
def sampled(task: VideoTask, clip: Clip) -> Tensor:
    """All frames of a clip, made from noise in one window with the model's steps: [F, 3, H, W] in -1..1."""
    model = task.config.model
    scheduler = SVD_SCHEDULER | {"sigma_max": model.sigma_max, "sigma_min": model.sigma_min}
    sigmas = sampling_sigmas(scheduler, model.steps).to(task.device)
    conditioning = conditioning_of(task, clip, 1)
    shape = (1, len(clip.frames), *conditioning.image_latents.shape[1:])
    noise = torch.randn(shape, generator=seeded(3, clip.number)).to(task.device)
    latents = noise * initial_deviation(scheduler, sigmas)
    guidance = None
    if model.guidance_scale != 1:
        guidance = torch.full((len(clip.frames),), model.guidance_scale, device=task.device)
    frames = to_unit(clip.control)[None].to(task.device)
    for sigma, following in pairwise(sigmas):
        control = task.parts.controlnext(frames, timestep_of(sigma)[None])
        v = task.denoiser.guided(latents, sigma, conditioning, control, guidance)
        latents = euler_step(latents, v, sigma, following)
    return pictures_of(task, latents[0])


def pictures_of(task: VideoTask, latents: Tensor) -> Tensor:
    """[N, 3, H, W] in -1..1, on the CPU, of scaled latents [N, C, h, w], each decoded by itself."""
    scale = float(task.parts.vae.config["scaling_factor"])
    with without_temporal(task.parts.vae):
        decoded = [decoded_by(task.parts.vae, one[None] / scale) for one in latents]
    return torch.cat(decoded).clamp(-1, 1).cpu()


def beside(clip: Clip, made: Tensor) -> np.ndarray:
    """Reference, control, truth and result of each frame but the reference's, uint8 [F, H, 4 W, 3]."""
    result = [to_uint8(frame) for frame in made[1:]]
    rows = zip(clip.control[1:], clip.frames[1:], result, strict=True)
    return np.stack([np.concatenate([clip.frames[0], *row], axis=1) for row in rows])
