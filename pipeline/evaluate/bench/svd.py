"""What the exact savings gain: the published order of work against ours, both sides in one run.

Ratios of processor time on the CPU, measured in turns, medians; the numerical difference stands beside them.
"""

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from diffusers.models.autoencoders.autoencoder_kl_temporal_decoder import AutoencoderKLTemporalDecoder
from diffusers.models.unets.unet_spatio_temporal_condition import UNetSpatioTemporalConditionModel
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from ....stages.controlnext.model import ControlNeXt
from ....stages.generate import Settings
from ....stages.pixels import to_signed
from ....stages.svd.conditioning import image_latents
from ....stages.svd.decode import decode
from ....stages.svd.denoiser import timestep_of
from ....stages.svd.files.folder import SVD_DEFAULTS
from ....stages.svd.files.tiny import tiny_random
from ....stages.svd.generator import SvdGenerator
from ....stages.svd.levers.collapse import collapse
from ....stages.svd.preview import preview
from ....stages.svd.published import step_windows
from ....stages.svd.sampling import ControlCache
from ....stages.svd.schedule import can_align, euler_step
from ....stages.svd.sizes import SVD_IMAGE_ENCODER, SVD_UNET, SVD_VAE
from .compare import Comparison, in_turns


def small_generator() -> SvdGenerator:
    """`tiny-random` with 320 channels in its first level and the control module at its published size."""
    tiny = tiny_random()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = dict(tiny.unet.config) | {"block_out_channels": (320, 64), "num_attention_heads": (5, 2)}
        unet = UNetSpatioTemporalConditionModel.from_config(config)
        return replace(tiny, unet=unet, controlnext=ControlNeXt())


def compare_schedules(
    num_frames: int = 20, side: int = 64, steps: int = 3, window: int = 8, overlap: int = 2, repeats: int = 3
) -> Comparison:
    """The whole denoising loop, published order of work against ours, on the same windows."""
    generator = small_generator()
    pixels = _random_frames(num_frames, side)
    settings = replace(
        generator.settings(), steps=steps, window_size=window, window_overlap=overlap, guidance_scale=3.0
    )
    published = replace(settings, schedule="published")
    return _compare(generator, pixels, published, settings, repeats)


def compare_control(
    num_frames: int = 20, side: int = 64, steps: int = 3, window: int = 8, overlap: int = 2, repeats: int = 3
) -> Comparison:
    """The control module alone: all it does for one video."""
    generator = small_generator()
    pixels = _random_frames(num_frames, side)
    settings = replace(generator.settings(), steps=steps, window_size=window, window_overlap=overlap)
    with generator.sampler(pixels[0], pixels, settings) as sampler, torch.no_grad():
        windows, sigmas = sampler.windows, sampler.sigmas[:-1]

        def published() -> torch.Tensor:
            results = []
            for sigma in sigmas:
                for w in windows:
                    frames = torch.from_numpy(pixels[list(w.control)]).permute(0, 3, 1, 2) / 255
                    both = frames.repeat(2, 1, 1, 1, 1)
                    results.append(generator.controlnext(both, timestep_of(sigma))[len(w) :])
            return torch.cat(results)

        def ours() -> torch.Tensor:
            cache = ControlCache(generator.controlnext, pixels)
            return torch.cat(
                [cache(step, sigma, w.control) for step, sigma in enumerate(sigmas) for w in windows]
            )

        return in_turns(published, ours, _difference, repeats)


APPROXIMATIONS: dict[str, dict[str, Any]] = {
    "Align Your Steps, 10 for 25 steps": {"align_your_steps": True, "steps": 10},
    "guidance on steps 0.2 to 0.8": {"guidance_interval": (0.2, 0.8)},
    "deep features every 2nd step": {"cache_interval": 2},
    "deep features every 3rd step": {"cache_interval": 3},
    "consistency, 4 for 25 steps, unguided": {"consistency": True, "steps": 4, "guidance_scale": 1.0},
}
"""Levers that change the result, as changes of settings."""


def compare_approximations(
    generator: SvdGenerator, *, side: int = 32, steps: int = 25, repeats: int = 1
) -> dict[str, Comparison]:
    """Each approximate lever against our exact sampling of one window of square frames, by its name.

    Levers that do not fit the generator are left out. The pictures are noise, so the difference tells how
    strongly a lever acts, and not how a dance looks with it.
    """
    settings = replace(generator.settings(), steps=steps)
    pixels = _random_frames(settings.window_size, side)
    results = {}
    for name, changes in APPROXIMATIONS.items():
        unguided = settings.guidance_scale == 1 and "guidance_interval" in changes
        if unguided or ("align_your_steps" in changes and not can_align(generator.scheduler)):
            continue
        results[name] = _compare(generator, pixels, settings, replace(settings, **changes), repeats)
    return results


def compare_settings(
    generator: SvdGenerator, exact: Settings, other: Settings, *, side: int = 32, repeats: int = 1
) -> Comparison:
    """Two ways of sampling two windows of square frames; see `compare_approximations`."""
    return _compare(generator, _random_frames(2 * exact.window_size, side), exact, other, repeats)


def compare_preview(generator: SvdGenerator, pictures: np.ndarray, repeats: int = 3) -> Comparison:
    """Colours of latents by the linear map against those of the decoded frames, both one pixel for a latent.

    `pictures` [N, H, W, 3] uint8 are encoded; the map is fitted on the first and tried on the others.
    """
    scaling = generator.vae.config["scaling_factor"]
    colours = generator.colours(pictures[0])
    with torch.no_grad():
        encoded = [image_latents(generator.vae, to_signed(picture)[None]) for picture in pictures[1:]]
    latents = torch.cat(encoded).float().cpu() * scaling
    settings, (height, width) = generator.settings(), latents.shape[-2:]

    def decoded() -> torch.Tensor:
        frames = torch.stack(list(decode(generator.vae, latents, settings.decode_chunk, overlap=0)))
        return F.adaptive_avg_pool2d((frames / 2 + 0.5).clamp(0, 1) * 255, (height, width))

    def mapped() -> torch.Tensor:
        return torch.from_numpy(preview(latents, colours, scaling)).permute(0, 3, 1, 2).float()

    return in_turns(decoded, mapped, _difference, repeats)


def full_generator(device: str | torch.device = "cuda", dtype: torch.dtype = torch.bfloat16) -> SvdGenerator:
    """All networks at their published sizes, with random weights (none on the meta device)."""
    made_on = torch.device(device)
    with made_on:
        unet = UNetSpatioTemporalConditionModel(**SVD_UNET)
        vae = AutoencoderKLTemporalDecoder(**SVD_VAE)
        controlnext = ControlNeXt()
        image_encoder = CLIPVisionModelWithProjection(CLIPVisionConfig(**SVD_IMAGE_ENCODER))
    networks = (unet, controlnext, vae, image_encoder)
    for network in networks:
        nn.Module.to(network, device=made_on, dtype=dtype)  # some scalars ignore the default device
    generator = SvdGenerator("svd-xt-1.1, random weights", *networks, defaults=SVD_DEFAULTS)
    generator.device = made_on
    return generator


def compare_windows(
    generator: SvdGenerator, width: int = 576, height: int = 1024, num_frames: int = 24, repeats: int = 3
) -> Comparison:
    """One window of `num_frames` at one step under guidance, on the generator's device, by the wall clock."""
    pixels = np.random.default_rng(0).integers(0, 256, (num_frames, height, width, 3), np.uint8)
    settings = replace(
        generator.settings(), steps=2, window_size=num_frames, window_overlap=0, guidance_scale=3.0
    )
    latents = generator.initial_latents(num_frames, width, height, settings)

    def clock() -> float:
        if generator.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    with generator.sampler(pixels[0], pixels, settings) as sampler, torch.no_grad():
        sigma, next_sigma = sampler.sigmas[0], sampler.sigmas[1]

        def ours() -> torch.Tensor:
            sampler.control = ControlCache(generator.controlnext, pixels, generator.keep_control_bytes)
            return euler_step(latents, sampler.predict(0, 0, latents), sigma, next_sigma)

        return in_turns(lambda: next(step_windows(sampler, 0, latents)), ours, _difference, repeats, clock)


def forward_tflop(
    width: int = 576,
    height: int = 1024,
    num_frames: int = 24,
    *,
    config: Mapping[str, Any] = SVD_UNET,
    collapsed: bool = True,
) -> float:
    """TFLOP (2 x MAC) of one sample's forward pass of a UNet; counted without weights.

    As we run it, or as diffusers does where the cross-attention over one token is not `collapsed`.
    """
    with torch.device("meta"):
        unet = UNetSpatioTemporalConditionModel(**config)
        sample = torch.empty(1, num_frames, unet.config["in_channels"], height // 8, width // 8)
        token, ids = torch.empty(1, 1, unet.config["cross_attention_dim"]), torch.empty(1, 3)
        timestep = torch.empty(())
    nn.Module.to(unet, device="meta")  # some scalars ignore the default device
    if collapsed:
        collapse(unet)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        unet(sample, timestep, token, ids)
    return counter.get_total_flops() / 1e12


def _random_frames(num_frames: int, side: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (num_frames, side, side, 3), np.uint8)


def _compare(
    generator: SvdGenerator, pixels: np.ndarray, published: Settings, ours: Settings, repeats: int
) -> Comparison:
    return in_turns(
        lambda: generator.denoise(pixels[0], pixels, published),
        lambda: generator.denoise(pixels[0], pixels, ours),
        _difference,
        repeats,
    )


def _difference(expected: torch.Tensor, result: torch.Tensor) -> float:
    return ((expected - result).abs().max() / expected.abs().max()).item()
