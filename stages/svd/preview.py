"""Cheap pictures of latents: a linear map from a latent's channels to the mean colour of its block of pixels.

That a VAE's latents are nearly a linear picture was observed by K. Turner, "Decoding latents to RGB without
upscaling" (discuss.huggingface.co/t/23204), who fitted the map to one VAE by least squares. Here it is fitted
to the VAE at hand, for other VAEs have other channels.
"""

import numpy as np
import torch
from diffusers.models.autoencoders.autoencoder_kl_temporal_decoder import AutoencoderKLTemporalDecoder
from torch import Tensor
from torch.nn import functional as F

from ..pixels import to_signed
from .conditioning import image_latents

FITTED_SIDE = 256
"""Short side, in pixels, of the pictures that the map is fitted on: colours need no more."""


@torch.no_grad()
def fit_colours(vae: AutoencoderKLTemporalDecoder, picture: np.ndarray, downscale: int) -> Tensor:
    """Least-squares map float32 [C + 1, 3], the last row an offset: latents (not scaled) -> colours in -1..1.

    `picture`, uint8 [H, W, 3], is encoded as it is, with its channels exchanged in turn, and all these as
    negatives, so that a colourless one serves too. `downscale` is pixels per latent, along each side.
    """
    signed = to_signed(picture)[None]
    scale = min(1.0, FITTED_SIDE / min(signed.shape[-2:]))
    height, width = (max(1, round(side * scale / downscale)) for side in signed.shape[-2:])
    size = (height * downscale, width * downscale)
    signed = F.interpolate(signed, size, mode="bilinear", antialias=True, align_corners=False)
    inputs, colours = [], []
    for turn in range(3):
        for sign in (1, -1):
            pixels = sign * signed.roll(turn, dims=1)
            inputs.append(image_latents(vae, pixels).float().cpu()[0].flatten(1).T)
            colours.append(F.adaptive_avg_pool2d(pixels, (height, width))[0].flatten(1).T)
    known = torch.cat(inputs)
    known = torch.cat([known, torch.ones(len(known), 1)], dim=1)
    return torch.linalg.lstsq(known.double(), torch.cat(colours).double(), driver="gelsd").solution.float()


def preview(latents: Tensor, colours: Tensor, scaling_factor: float) -> np.ndarray:
    """uint8 [N, h, w, 3], one pixel for each latent, of latents [N, C, h, w] times the scaling factor."""
    values = (latents.float().cpu() / scaling_factor).movedim(1, -1) @ colours[:-1] + colours[-1]
    return ((values / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8).numpy()
