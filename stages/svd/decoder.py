"""The decoder of a model alone: for a worker that makes frames of latents while another one denoises."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from diffusers.models.autoencoders.autoencoder_kl_temporal_decoder import AutoencoderKLTemporalDecoder
from torch import Tensor, nn

from ..errors import DeviceMemoryError
from ..generate import Settings
from .decode import decode_frames
from .levers.fast import CompiledRegions, compile_regions, convolve_channels_last
from .memory.plan import (
    WORKSPACE,
    device_dtype,
    frames_decoded,
    gib,
    memory_budget,
    network_bytes,
    usable_bytes,
)
from .memory.retry import explain_out_of_memory


@dataclass
class Decoder:
    """The VAE of a model; makes the frames that the whole generator would. Get one from `load_decoder`."""

    name: str
    vae: AutoencoderKLTemporalDecoder
    device: torch.device
    dtype: torch.dtype | None = None
    """Of its weights; by default that of `device_dtype`."""
    memory_limit: int | None = None
    """Bytes of the device that may be taken, weights included; None for all that is free."""
    compile: bool = False
    """Whether torch.compile fuses the element-wise work."""
    _compiled: CompiledRegions | None = field(default=None, init=False, repr=False)
    _budget: int | None = field(default=None, init=False, repr=False)
    """Bytes of the device that may be taken, as they were measured."""

    def __post_init__(self) -> None:
        self.vae.eval().requires_grad_(False)
        nn.Module.to(self.vae, device=self.device, dtype=self.dtype or device_dtype(self.device))
        if self.device.type == "cuda":
            convolve_channels_last(self.vae)

    def decode(self, latents: Tensor, settings: Settings, bit_depth: int = 8) -> Iterator[np.ndarray]:
        """See `Generator.decode`."""
        if self.compile and self._compiled is None:
            self._compiled = compile_regions(self.vae)
        chunk = self._chunk(min(settings.decode_chunk, len(latents)), *latents.shape[-2:])
        with explain_out_of_memory(self.name):
            yield from decode_frames(self.vae, latents, settings, chunk, bit_depth, compiled=self._compiled)

    def _chunk(self, asked: int, height: int, width: int) -> int:
        """How many of `asked` latents [height, width] fit the device together. DeviceMemoryError for none."""
        budget = self.memory_limit
        if budget is None:
            if self._budget is None or self.device.type == "cpu":  # that memory is others' too: measured anew
                self._budget = memory_budget(self.device, [self.vae])
            budget = self._budget
        taken = network_bytes(self.vae) + (WORKSPACE if self.device.type == "cuda" else 0)
        room = usable_bytes(budget, self.device) - taken
        chunk = frames_decoded(self.vae, asked, room, height, width, self.device)
        if chunk == 0:
            raise DeviceMemoryError(
                f"the decoder of {self.name} does not fit into {gib(budget)} GiB on {self.device}: "
                "lower --width and --height, or allow more with --memory-limit"
            )
        return chunk
