"""The published order of work, step by step as ControlNeXt-SVD-v2's script does it, kept for comparison.

The control module runs on both guidance halves of each window at each step; each window takes its own
scheduler step; the latents are averaged.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from ..generate import OnStep, OnWindow
from ..windows import blend
from .denoiser import Conditioning, timestep_of
from .guidance import guide
from .sampling import Sampler
from .schedule import euler_step


@torch.no_grad()
def denoise_as_published(
    sampler: Sampler,
    latents: Tensor,
    *,
    start: int = 0,
    on_window: OnWindow | None = None,
    on_step: OnStep | None = None,
) -> Tensor:
    """What `sampling.denoise` computes with `sampler`, in the published order of work; [N, 4, h, w]."""
    for step in range(start, len(sampler.sigmas) - 1):
        stepped = step_windows(sampler, step, latents, on_window)
        latents = blend(sampler.windows, stepped, len(latents))
        if on_step is not None:
            on_step(step + 1, latents)
    return latents


def step_windows(
    sampler: Sampler, step: int, latents: Tensor, on_window: OnWindow | None = None
) -> Iterator[Tensor]:
    """Latents [F, 4, h, w] of each window after its own step, from those of all frames before it."""
    sigma, next_sigma = sampler.sigmas[step], sampler.sigmas[step + 1]
    for index, window in enumerate(sampler.windows):
        part = latents[list(window.frames)]
        yield euler_step(part, _predict(sampler, step, index, part), sigma, next_sigma)
        if on_window is not None:
            on_window(step, index)


def _predict(sampler: Sampler, step: int, index: int, latents: Tensor) -> Tensor:
    conditioning, window = sampler.conditioning, sampler.windows[index]
    device = conditioning.token.device
    sigma = sampler.sigmas[step].to(device)
    guidance = sampler.guidance.scale(step, len(window))
    halves = 1 if guidance is None else 2
    pixels = sampler.control.pixels(window.control)
    control = sampler.control.controlnext(pixels.repeat(halves, 1, 1, 1, 1), timestep_of(sigma))
    scale = torch.ones(halves * len(window), 1, 1, 1, device=device)
    scale[: (halves - 1) * len(window)] = 0

    def with_zeros(value: Tensor) -> Tensor:
        return torch.cat([torch.zeros_like(value), value]) if halves == 2 else value

    both = Conditioning(
        with_zeros(conditioning.token),
        with_zeros(conditioning.image_latents),
        conditioning.time_ids.repeat(halves, 1),
    )
    noisy = latents[None].to(device).repeat(halves, 1, 1, 1, 1)
    v = sampler.denoiser(noisy, sigma.expand(halves), both, control, scale)
    if guidance is not None:
        uncond, cond = v.chunk(2)
        v = guide(uncond, cond, guidance.to(device))
    return v[0].cpu()
