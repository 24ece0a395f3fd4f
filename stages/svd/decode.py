"""Latents to frames, a few at a time.

The decoder mixes neighbouring frames, but only inside a call: cut into calls, a video jumps at the cuts.
Overlapping chunks with a cross-fade remove the joint.
"""

from collections.abc import Iterator

import numpy as np
import torch
from diffusers.models.autoencoders.autoencoder_kl_temporal_decoder import AutoencoderKLTemporalDecoder
from torch import Tensor

from ..errors import ConfigError
from ..windows import faded


def decode(
    vae: AutoencoderKLTemporalDecoder, latents: Tensor, chunk: int = 8, overlap: int = 2
) -> Iterator[Tensor]:
    """Frames [3, H, W] around -1..1, float32, of latents [N, 4, h, w] times the scaling factor, in order.

    Chunks of `chunk` frames share at least `overlap` with the next, and fade over all they share. Overlap 0
    is the published way: consecutive chunks of which the last is short.
    """
    if chunk < 1 or not 0 <= overlap < chunk:
        raise ConfigError(
            f"decoding {chunk} frames at a time with overlap {overlap}: use 0 <= overlap < chunk"
        )
    if overlap == 0:
        for part in latents.split(chunk):
            yield from _decode(vae, part)
        return
    parts = faded(len(latents), chunk, overlap)
    waiting: dict[int, Tensor] = {}
    for i, (start, weights) in enumerate(parts):
        frames = _decode(vae, latents[start : start + len(weights)])
        for frame, (image, weight) in enumerate(zip(frames, weights, strict=True), start):
            waiting[frame] = waiting.get(frame, 0) + image * weight
        done = parts[i + 1][0] if i + 1 < len(parts) else len(latents)
        for frame in [frame for frame in waiting if frame < done]:
            yield waiting.pop(frame)


@torch.no_grad()
def _decode(vae: AutoencoderKLTemporalDecoder, latents: Tensor) -> Tensor:
    """[n, 3, H, W] float32 on the CPU, of one call of the decoder."""
    scaled = latents.to(vae.device) / vae.config["scaling_factor"]
    frames = vae.decode(scaled.to(vae.dtype), num_frames=len(latents), return_dict=False)[0]
    return frames.float().cpu()


def to_uint8(frame: Tensor) -> np.ndarray:
    """[3, H, W] around -1..1 -> uint8 [H, W, 3], clipped and rounded."""
    scaled = (frame / 2 + 0.5).clamp(0, 1) * 255
    return scaled.round().to(torch.uint8).permute(1, 2, 0).contiguous().numpy()
