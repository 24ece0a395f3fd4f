"""Figures of a training in progress: losses at fixed noise levels, and pictures made in one step."""

from fractions import Fraction

import numpy as np
import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F

from ...datasets.clips import Clip
from ...stages.pixels import to_signed, to_uint8, to_unit
from ...stages.quality import decibels
from ...stages.svd.denoiser import Conditioning, denoised, per_video, timestep_of
from ...stages.svd.denoising import denoise
from ...stages.svd.guidance import Guidance
from ...stages.svd.levers.temporal import without_temporal
from ...stages.svd.sampling import ControlCache, Sampler
from ...stages.svd.schedule import initial_deviation, sampling_sigmas
from ...stages.windows import even
from .data import held_out_clips, seeded
from .latents import LatentCache
from .log import Log
from .task import VideoTask
from .vae import decoded_by

VALIDATION_CLIPS = 8
VALIDATION_VIDEOS = 2
VALIDATION_SIGMAS = (0.5, 2.0, 10.0)
"""Noise levels at which losses are compared: details, parts, the whole figure."""
VIDEO_FPS = Fraction(8)
"""Frame rate of the videos that validation makes, whatever their clips had."""
ONE_STEP_SIGMA = 30.0
"""A denoised picture from this noise level shows what the conditioning alone tells."""


@torch.no_grad()
def validate(task: VideoTask, step: int, log: Log) -> dict[str, float]:
    """Losses at three noise levels, and PSNR of pictures denoised in one step from a high one.

    Where clips are learned, videos of some are sampled too, as `animate` does it: reference, control, truth
    and result side by side.
    """
    config = task.config
    clips = held_out_clips(config.data, VALIDATION_CLIPS)
    cache, task.cache = task.cache, LatentCache()
    frames = list(range(len(clips[0].frames)))
    pairs = [[(0, frames)] if config.video else [(0, [f]) for f in frames[1:3]] for _ in clips]
    figures = {}
    for sigma in VALIDATION_SIGMAS:
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
    task.cache = cache
    return figures


def conditioning_of(task: VideoTask, clip: Clip, videos: int) -> Conditioning:
    """The conditioning of `videos` videos on a clip's reference."""
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
    """All frames of a clip, sampled in one window with the model's steps: [F, 3, H, W] in -1..1.

    The loop, the sampler and the guidance are those of `animate`; the noise is the clip's own.
    """
    model, count = task.config.model, len(clip.frames)
    sigmas = sampling_sigmas(model.scheduler(), model.steps)
    conditioning = conditioning_of(task, clip, 1)
    noise = torch.randn(count, *conditioning.image_latents.shape[1:], generator=seeded(3, clip.number))
    sampler = Sampler(
        task.denoiser,
        conditioning,
        ControlCache(task.parts.controlnext, clip.control),
        even(count, count, 0),
        sigmas,
        Guidance(model.guidance_scale, model.guidance_scale, model.steps),
    )
    start = noise * initial_deviation(model.scheduler(), sigmas)
    return pictures_of(task, denoise(start, sigmas, sampler.windows, sampler.predict))


def pictures_of(task: VideoTask, latents: Tensor) -> Tensor:
    """Decode scaled latents [N, C, h, w], each by itself: pictures [N, 3, H, W] in -1..1, on the CPU."""
    scale = float(task.parts.vae.config["scaling_factor"])
    with without_temporal(task.parts.vae):
        decoded = [decoded_by(task.parts.vae, one[None] / scale) for one in latents]
    return torch.cat(decoded).clamp(-1, 1).cpu()


def beside(clip: Clip, made: Tensor) -> np.ndarray:
    """Put reference, control, truth and result of each frame side by side, uint8 [F, H, 4 W, 3].

    The reference's own frame is left out.
    """
    result = [to_uint8(frame) for frame in made[1:]]
    rows = zip(clip.control[1:], clip.frames[1:], result, strict=True)
    return np.stack([np.concatenate([clip.frames[0], *row], axis=1) for row in rows])
