"""What the exact savings gain: the published order of work against ours, both sides in one run.

Ratios of processor time on the CPU, measured in turns, medians; the numerical difference stands beside them.
"""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from diffusers.models.unets.unet_spatio_temporal_condition import UNetSpatioTemporalConditionModel
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from ..controlnext.model import ControlNeXt
from .collapse import collapse
from .denoiser import timestep_of
from .generator import SvdGenerator
from .tiny import tiny_random

SVD_UNET = {
    "block_out_channels": (320, 640, 1280, 1280),
    "num_attention_heads": (5, 10, 20, 20),
    "num_frames": 25,
}
"""SVD-XT 1.1 where it differs from the defaults of its class, or where these must not be trusted."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Seconds of the published way and of ours, and the largest difference relative to the largest value."""

    published_s: float
    ours_s: float
    max_rel_diff: float

    @property
    def ratio(self) -> float:
        return self.published_s / self.ours_s


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
    published = replace(settings, schedule="reference")
    return _compare(
        lambda: generator.denoise(pixels[0], pixels, published),
        lambda: generator.denoise(pixels[0], pixels, settings),
        repeats,
    )


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
            cache = type(sampler.control)(generator.controlnext, pixels)
            return torch.cat(
                [cache(step, sigma, w.control) for step, sigma in enumerate(sigmas) for w in windows]
            )

        return _compare(published, ours, repeats)


def forward_tflop(width: int = 576, height: int = 1024, num_frames: int = 24) -> float:
    """TFLOP (2 x MAC) of one sample's forward pass of SVD's UNet as we run it; counted without weights."""
    with torch.device("meta"):
        unet = UNetSpatioTemporalConditionModel(**SVD_UNET)  # pyright: ignore[reportArgumentType]
        sample = torch.empty(1, num_frames, 8, height // 8, width // 8)
        token, ids = torch.empty(1, 1, unet.config["cross_attention_dim"]), torch.empty(1, 3)
        timestep = torch.empty(())
    nn.Module.to(unet, device="meta")  # some scalars ignore the default device
    handle = collapse(unet)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        unet(sample, timestep, token, ids)
    handle.detach()
    return counter.get_total_flops() / 1e12


def _random_frames(num_frames: int, side: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (num_frames, side, side, 3), np.uint8)


def _compare(
    published: Callable[[], torch.Tensor], ours: Callable[[], torch.Tensor], repeats: int
) -> Comparison:
    seconds: tuple[list[float], list[float]] = ([], [])
    results: list[torch.Tensor] = []
    published()
    ours()
    for _ in range(repeats):
        results = []
        for run, times in zip((published, ours), seconds, strict=True):
            started = time.process_time()
            results.append(run())
            times.append(time.process_time() - started)
    expected, result = results
    difference = (expected - result).abs().max() / expected.abs().max()
    return Comparison(statistics.median(seconds[0]), statistics.median(seconds[1]), difference.item())
