"""The networks of one model: where they work, how they get there, and what their sizes ask of a video."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Self

import torch
from diffusers.models.autoencoders.autoencoder_kl_temporal_decoder import AutoencoderKLTemporalDecoder
from diffusers.models.unets.unet_spatio_temporal_condition import UNetSpatioTemporalConditionModel
from torch import nn

from ..control import ControlModule
from .levers.fast import convolve_channels_last


@dataclass
class SvdNetworks:
    """The four networks of a model, in eval mode without gradients, and what they may take of a device."""

    name: str
    unet: UNetSpatioTemporalConditionModel
    controlnext: ControlModule
    vae: AutoencoderKLTemporalDecoder
    image_encoder: nn.Module
    """CLIPVisionModelWithProjection."""
    device: torch.device = field(default_factory=lambda: torch.device("cpu"), kw_only=True)
    """Where the networks work; see `to`."""
    memory_limit: int | None = field(default=None, kw_only=True)
    """Bytes of the device that may be taken, weights included; None for all that is free."""
    keep_control_bytes: int = field(default=1 << 30, kw_only=True)
    """How much of the control module's work may be kept between steps."""
    keep_frame_bytes: int = field(default=512 << 20, kw_only=True)
    """How many control frames may stay in the machine's memory between steps, for those whose features do
    not: 303 of 576x1024."""
    keep_deep_bytes: int = field(default=4 << 30, kw_only=True)
    """How much of the UNet's work may be kept between steps where `cache_interval` is above 1."""

    def __post_init__(self) -> None:
        for module in self.named_networks().values():
            module.eval().requires_grad_(False)

    def named_networks(self) -> dict[str, nn.Module]:
        """The four networks by name."""
        names = ("unet", "controlnext", "vae", "image_encoder")
        return {name: getattr(self, name) for name in names}

    def to(self, device: str | torch.device, dtype: torch.dtype) -> Self:
        """Name the device, and cast all networks, in place; returns self.

        Networks wait on the CPU until they are needed: the memory plan of a video decides which are on the
        device together. What encodes the picture is kept in float16 at least, which holds published weights
        to the bit: bfloat16 would cost its latents 0.6 % (the demo model), whatever they are computed in.
        """
        self.device = torch.device(device)
        exact = torch.float16 if dtype == torch.bfloat16 else dtype
        for module in (self.image_encoder, self.vae.encoder, self.vae.quant_conv):
            nn.Module.to(module, device="cpu", dtype=exact)
        networks = self.named_networks()
        for module in (networks["unet"], networks["controlnext"], self.vae.decoder):
            nn.Module.to(module, device="cpu", dtype=dtype)
        if self.device.type == "cuda":
            for module in networks.values():
                convolve_channels_last(module)
        return self

    def bring(self, *names: str, offload: bool) -> None:
        """Put networks on the device; the others go there too, or with `offload` back to the CPU."""
        networks = self.named_networks()
        for name, module in networks.items():
            if offload and name not in names:
                nn.Module.to(module, device="cpu")
        for name, module in networks.items():
            if name in names or not offload:
                nn.Module.to(module, device=self.device)

    @property
    def downscale(self) -> int:
        """Pixels per latent, along each side."""
        return 2 ** (len(self.vae.config["block_out_channels"]) - 1)

    @property
    def size_multiple(self) -> int:
        """Where every level of the UNet halves evenly: 64 for SVD."""
        return self.downscale * 2 ** (len(self.unet.config["block_out_channels"]) - 1)
