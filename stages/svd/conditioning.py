"""What the network is told of the reference image: a CLIP token, a VAE latent, and three numbers.

Stable Video Diffusion (arXiv:2311.15127), as the published ControlNeXt-SVD-v2 sampler feeds it.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from diffusers.models.autoencoders.autoencoder_kl_temporal_decoder import AutoencoderKLTemporalDecoder
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from ..generate import Settings
from ..pixels import to_signed
from .denoiser import Conditioning

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
"""Of the RGB channels of CLIP's training images (arXiv:2103.00020)."""

IMAGE_NOISE, LATENT_NOISE, STEP_NOISE = 0, 1, 2
"""Streams of random numbers under one seed."""


@dataclass(frozen=True, slots=True)
class MicroConditioning:
    """Numbers that SVD was trained to be told. The defaults are what the published sampler really uses."""

    fps: float = 6
    """Frames per second."""
    motion_bucket: float = 128
    """How much motion: 1 to 255."""
    noise_aug: float = 0.02
    """Deviation of the noise added to the reference image in -1..1."""

    def time_ids(self) -> Tensor:
        """float32 [1, 3]."""
        return torch.tensor([[self.fps, self.motion_bucket, self.noise_aug]], dtype=torch.float32)


def clip_pixels(image: np.ndarray, size: int = 224) -> Tensor:
    """Pixel values [1, 3, size, size] for CLIP of an image uint8 [H, W, 3].

    Blurred by a Gaussian of (factor - 1) / 2 pixels where it shrinks, resized bicubically with aligned
    corners, normalized. The aspect ratio is not kept.
    """
    signed = to_signed(image)[None]
    for axis, length in ((2, image.shape[0]), (3, image.shape[1])):
        signed = _blur(signed, axis, sigma=max((length / size - 1) / 2, 0.001))
    resized = F.interpolate(signed, (size, size), mode="bicubic", align_corners=True)
    mean, std = (torch.tensor(values).reshape(1, 3, 1, 1) for values in (CLIP_MEAN, CLIP_STD))
    return ((resized + 1) / 2 - mean) / std


def _blur(image: Tensor, axis: int, sigma: float) -> Tensor:
    """Gaussian blur of [1, 3, H, W] along `axis` over about 2 sigma to each side, reflected at the border."""
    taps = int(max(4 * sigma, 3)) | 1
    offsets = torch.arange(taps) - taps // 2
    kernel = torch.exp(-(offsets**2) / (2 * sigma**2))
    kernel = kernel / kernel.sum()
    shape = (1, 1, taps, 1) if axis == 2 else (1, 1, 1, taps)
    half = taps // 2
    padding = (0, 0, half, half) if axis == 2 else (half, half, 0, 0)
    padded = F.pad(image, padding, mode="reflect")
    return F.conv2d(padded.transpose(0, 1), kernel.reshape(shape)).transpose(0, 1)


def image_token(encoder: nn.Module, image: np.ndarray) -> Tensor:
    """CLIP embedding [1, 1, D], float32, of an image uint8 [H, W, 3] by a CLIPVisionModelWithProjection."""
    config: Any = encoder.config
    pixels = clip_pixels(image, config.image_size).to(next(encoder.parameters()).device)
    with in_float32(encoder):
        return encoder(pixels).image_embeds[:, None]


def image_noise(height: int, width: int, seed: int) -> Tensor:
    """The noise [1, 3, height, width] added to the reference image, of a seed alone."""
    generator = np.random.default_rng((seed, IMAGE_NOISE))
    return torch.from_numpy(generator.standard_normal((1, 3, height, width), dtype=np.float32))


def initial_noise(frames: range, shape: tuple[int, int, int], seed: int) -> Tensor:
    """Unit noise [len(frames), *shape] of the frames, each of (seed, frame index) alone.

    Whatever part of the video is asked for, and by whom, a frame gets the same noise.
    """
    return _noise_of([(seed, LATENT_NOISE, frame) for frame in frames], shape)


def step_noise(step: int, frames: Sequence[int], shape: tuple[int, int, int], seed: int) -> Tensor:
    """Unit noise [len(frames), *shape] that frames get after `step`: of (seed, step, frame index) alone."""
    return _noise_of([(seed, STEP_NOISE, step, frame) for frame in frames], shape)


def _noise_of(streams: Sequence[tuple[int, ...]], shape: tuple[int, int, int]) -> Tensor:
    noise = np.empty((len(streams), *shape), np.float32)
    for stream, out in zip(streams, noise, strict=True):
        np.random.default_rng(stream).standard_normal(out=out, dtype=np.float32)
    return torch.from_numpy(noise)


def published_noise(
    num_frames: int, shape: tuple[int, int, int], image_size: tuple[int, int], seed: int
) -> tuple[Tensor, Tensor]:
    """Image noise [1, 3, H, W] and then unit latents [num_frames, *shape] from one CPU generator.

    The order in which the published code draws them; `image_size` is (height, width).
    """
    generator = torch.Generator().manual_seed(seed)
    image = torch.randn(1, 3, *image_size, generator=generator)
    return image, torch.randn(1, num_frames, *shape, generator=generator)[0]


def draw_noise(
    settings: Settings, num_frames: int, shape: tuple[int, int, int], image_size: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """Image noise [1, 3, H, W] and unit latents [num_frames, *shape], as the window plan's recipe has them.

    MimicMotion draws latents for one window and repeats them over the video. `image_size` is (height, width).
    """
    match settings.window_plan:
        case "even":
            latents = initial_noise(range(num_frames), shape, settings.seed)
            return image_noise(*image_size, settings.seed), latents
        case "published":
            return published_noise(num_frames, shape, image_size, settings.seed)
        case "mimicmotion":
            image, latents = published_noise(settings.window_size, shape, image_size, settings.seed)
            return image, latents[torch.arange(num_frames) % settings.window_size]


def vae_input(image: np.ndarray, width: int, height: int, noise: Tensor, noise_aug: float) -> Tensor:
    """[1, 3, height, width] around -1..1: the reference image uint8 [H, W, 3] with noise for the VAE.

    An image of another size is resized by Lanczos without regard to its aspect ratio; fit it first.
    """
    if image.shape[:2] != (height, width):
        resized = Image.fromarray(image).resize((width, height), Image.Resampling.LANCZOS)
        image = np.asarray(resized)
    return to_signed(image)[None] + noise_aug * noise


def image_latents(vae: AutoencoderKLTemporalDecoder, pixels: Tensor) -> Tensor:
    """Mode of the posterior [1, 4, h, w], float32, of `pixels` [1, 3, H, W]; not times the scaling factor."""
    with in_float32(vae.encoder, vae.quant_conv):
        return vae.encode(pixels.to(vae.device), return_dict=False)[0].mode()


@contextmanager
def in_float32(*modules: nn.Module) -> Iterator[None]:
    """Let modules compute in float32 while this is open, whatever their weights are kept in.

    The picture is encoded once and guides every step: in float16 its latents would be off by 0.07 %, in
    bfloat16 by 0.8 % (the demo model). SVD's VAE overflows in float16 besides (`force_upcast`).
    """
    kept = [next(module.parameters()).dtype for module in modules]
    try:
        for module in modules:
            nn.Module.to(module, dtype=torch.float32)
        yield
    finally:
        for module, dtype in zip(modules, kept, strict=True):
            nn.Module.to(module, dtype=dtype)


def condition(
    image: np.ndarray,
    noise: Tensor,
    encoder: nn.Module,
    vae: AutoencoderKLTemporalDecoder,
    numbers: MicroConditioning,
    dtype: torch.dtype = torch.float32,
) -> Conditioning:
    """Conditioning of one video by a reference image uint8 [H, W, 3] and image noise [1, 3, height, width].

    `height` and `width` are the result's. Token and latents come in `dtype`, the UNet's, on the VAE's device.
    """
    height, width = noise.shape[-2:]
    pixels = vae_input(image, width, height, noise, numbers.noise_aug)
    return Conditioning(
        image_token(encoder, image).to(vae.device, dtype),
        image_latents(vae, pixels).to(dtype),
        numbers.time_ids().to(vae.device),
    )
