"""Latents to frames, a few at a time.

The decoder mixes neighbouring frames, but only inside a call: cut into calls, a video jumps at the cuts.
Overlapping chunks with a cross-fade remove the joint.
"""

import logging
from collections.abc import Iterator
from functools import partial
from itertools import islice

import numpy as np
import torch
from diffusers.models.autoencoders.autoencoder_kl_temporal_decoder import AutoencoderKLTemporalDecoder
from torch import Tensor

from ..errors import ConfigError
from ..generate import Settings
from ..pixels import to_integers
from ..windows import faded
from .levers.fast import CompiledRegions, flatten_convolutions
from .memory.retry import explain_out_of_memory, is_out_of_memory, out_of_memory

logger = logging.getLogger(__name__)


def decode_frames(
    vae: AutoencoderKLTemporalDecoder,
    latents: Tensor,
    settings: Settings,
    chunk: int,
    bit_depth: int = 8,
    *,
    compiled: CompiledRegions | None = None,
) -> Iterator[np.ndarray]:
    """Frames 1 to N - 1 of a video, [H, W, 3], `chunk` together: see `Generator.decode`.

    The reference's own frame helps to decode the others only in the published plans: its pose is not next to
    the dancer's first.
    """
    decoder = partial(decode, vae, compiled=compiled)
    if settings.is_recipe:
        frames = islice(decoder(latents, chunk, overlap=0), 1, None)
    else:
        overlap = min(settings.decode_overlap, max(0, chunk - 1))
        frames = decoder(latents[1:], chunk, overlap)
    yield from (to_integers(frame, bit_depth) for frame in frames)


def decode(
    vae: AutoencoderKLTemporalDecoder,
    latents: Tensor,
    chunk: int = 8,
    overlap: int = 2,
    *,
    compiled: CompiledRegions | None = None,
) -> Iterator[Tensor]:
    """Frames [3, H, W] around -1..1, float32, of latents [N, 4, h, w] times the scaling factor, in order.

    Chunks of `chunk` frames share at least `overlap` with the next, and fade over all they share. Overlap 0
    is the published way: consecutive chunks of which the last is short. Where the device runs out of memory,
    what is left is decoded in chunks of half the size; DeviceMemoryError if that fails too. Blocks of the
    decoder that are `compiled` serve whole chunks: each other length would be compiled anew.
    """
    if chunk < 1 or not 0 <= overlap < chunk:
        raise ConfigError(
            f"decoding {chunk} frames at a time with overlap {overlap}: use 0 <= overlap < chunk"
        )
    done = 0
    try:
        for frame in _chunks(vae, latents, chunk, overlap, compiled):
            yield frame
            done += 1
        return
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        if chunk == 1:
            raise out_of_memory("decoding one frame") from error
    smaller = chunk // 2
    logger.warning("out of memory decoding %d frames: from frame %d on %d at a time", chunk, done, smaller)
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    overlap = min(overlap, smaller - 1)
    start = max(0, done - overlap)  # these are decoded again, to help their neighbours
    with explain_out_of_memory(f"decoding {smaller} frames"):
        yield from islice(_chunks(vae, latents[start:], smaller, overlap, compiled), done - start, None)


def _chunks(
    vae: AutoencoderKLTemporalDecoder,
    latents: Tensor,
    chunk: int,
    overlap: int,
    compiled: CompiledRegions | None,
) -> Iterator[Tensor]:
    def decoded(part: Tensor) -> Tensor:
        call = partial(_decode, vae, part)
        if compiled is None:
            return call()
        compiled.enabled = len(part) == chunk
        if not compiled.enabled:
            count = len(part)
            logger.info(
                "%d frames are fewer than the %d of a chunk: no blocks are compiled for them", count, chunk
            )
        return compiled.run(call)

    if overlap == 0:
        for part in latents.split(chunk):
            yield from decoded(part)
        return
    parts = faded(len(latents), chunk, overlap)
    waiting: dict[int, Tensor] = {}
    for i, (start, weights) in enumerate(parts):
        frames = decoded(latents[start : start + len(weights)])
        for frame, (image, weight) in enumerate(zip(frames, weights, strict=True), start):
            waiting[frame] = waiting.get(frame, 0) + image * weight
        done = parts[i + 1][0] if i + 1 < len(parts) else len(latents)
        for frame in [frame for frame in waiting if frame < done]:
            yield waiting.pop(frame)


@torch.no_grad()
def _decode(vae: AutoencoderKLTemporalDecoder, latents: Tensor) -> Tensor:
    """[n, 3, H, W] float32 on the CPU, of one call of the decoder."""
    scaled = latents.to(vae.device) / vae.config["scaling_factor"]
    dtype = next(vae.decoder.parameters()).dtype
    with flatten_convolutions(vae):
        frames = vae.decode(scaled.to(dtype), num_frames=len(latents), return_dict=False)[0]
    return frames.float().cpu()
