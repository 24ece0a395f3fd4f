"""The denoiser: one object that sampling calls and training takes its loss from, so that they cannot drift.

Karras et al., "Elucidating the Design Space of Diffusion-Based Generative Models", 2022 (arXiv:2206.00364),
with v-prediction as in Stable Video Diffusion (arXiv:2311.15127, appendix D):

    c_skip = 1 / (s^2 + 1)   c_out = -s / sqrt(s^2 + 1)   c_in = 1 / sqrt(s^2 + 1)   c_noise = ln(s) / 4
    x0_hat = c_skip x + c_out v(c_in x; c_noise)
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from ..control import Injection
from .noise import LogNormal, SigmaDistribution


@dataclass(frozen=True, slots=True)
class Conditioning:
    """What the network knows of the reference, for B videos.

    `token` [B, 1, D] CLIP embedding; `image_latents` [B, 4, h, w] VAE mode, not scaled; `time_ids` [B, 3]
    (frame rate, motion bucket, noise augmentation).
    """

    token: Tensor
    image_latents: Tensor
    time_ids: Tensor


@dataclass(frozen=True, slots=True)
class Dropout:
    """Which conditioning a training sample loses, by one uniform draw p per sample: low <= p < high.

    The defaults are the published ones: token alone, both, and image latents alone with 0.1 each; the control
    is never dropped. A range of `control` inside both others trains the unconditional half of guidance.
    """

    token: tuple[float, float] = (0.0, 0.2)
    image: tuple[float, float] = (0.1, 0.3)
    control: tuple[float, float] = (0.0, 0.0)


NO_DROPOUT = Dropout((0.0, 0.0), (0.0, 0.0), (0.0, 0.0))


@dataclass(frozen=True, slots=True)
class Loss:
    """`value` is the scalar to minimize; `per_sample` [B] and `sigma` [B], without gradient, are for logs."""

    value: Tensor
    per_sample: Tensor
    sigma: Tensor


def timestep_of(sigma: Tensor) -> Tensor:
    """c_noise = ln(sigma) / 4: what both networks receive as time."""
    return 0.25 * sigma.log()


def denoised(noisy: Tensor, v: Tensor, sigma: Tensor) -> Tensor:
    """x0_hat = c_skip x + c_out v, of the broadcast shape of its arguments (sigma > 0)."""
    return noisy / (sigma**2 + 1) - v * sigma / (sigma**2 + 1).sqrt()


def unconditional(conditioning: Conditioning) -> Conditioning:
    """What the unconditional half of guidance knows: a zero token, zero image latents, and no control."""
    return Conditioning(
        torch.zeros_like(conditioning.token),
        torch.zeros_like(conditioning.image_latents),
        conditioning.time_ids,
    )


def per_video(values: Tensor) -> Tensor:
    """[B] -> [B, 1, 1, 1, 1], to broadcast over [B, F, C, h, w]."""
    return values.reshape(-1, 1, 1, 1, 1)


@dataclass
class Denoiser:
    """The UNet, the control module, and the injection that joins them.

    `unet` maps [B, F, 8, h, w] (4 noisy channels and 4 of the reference) to v [B, F, 4, h, w]; `controlnext`
    is called as a `ControlModule`. Either may be wrapped (DDP, torch.compile), as long as `injection` was
    attached to the UNet inside.
    """

    unet: nn.Module
    controlnext: Callable[..., Tensor]
    injection: Injection
    control_chunk: int | None = field(default=None, kw_only=True)
    """Control frames that `loss` runs at a time; all at once if None."""

    def __call__(
        self,
        noisy: Tensor,
        sigma: Tensor,
        conditioning: Conditioning,
        control: Tensor | None,
        control_scale: float | Tensor = 1.0,
    ) -> Tensor:
        """v-prediction [B, F, 4, h, w] in float32 for `noisy` [B, F, 4, h, w] at `sigma` [B].

        `control` [N, C, h', w'] belongs to the last N of the B * F frames (see `Injection.control`).
        """
        dtype = conditioning.image_latents.dtype
        scaled = noisy / per_video((sigma**2 + 1).sqrt())
        reference = conditioning.image_latents[:, None].expand(-1, noisy.shape[1], -1, -1, -1)
        with self.injection.control(control, control_scale):
            v = self.unet(
                torch.cat([scaled.to(dtype), reference], dim=2),
                timestep_of(sigma),
                encoder_hidden_states=conditioning.token,
                added_time_ids=conditioning.time_ids,
                return_dict=False,
            )[0]
        return v.float()

    def loss(
        self,
        latents: Tensor,
        control_frames: Tensor | None,
        conditioning: Conditioning,
        generator: torch.Generator,
        *,
        sigma: Tensor | None = None,
        distribution: SigmaDistribution | None = None,
        dropout: Dropout = NO_DROPOUT,
        weight: Tensor | None = None,
    ) -> Loss:
        """EDM loss (1 + s^2) / s^2 (x0_hat - x0)^2, averaged, of B training videos.

        Args:
            latents: x0 [B, F, 4, h, w], times the VAE's scaling factor. Frame 0 is the reference's.
            control_frames: [B, F, 3, H, W] in 0..1, frame 0 the reference's own pose; None trains without.
            conditioning: of the B videos.
            generator: on the CPU; sigma, dropout and noise are drawn from it in this order.
            sigma: [B], or drawn from `distribution` (log-normal with its defaults if neither is given).
            weight: [B, F, 1, h, w], how much each place counts (hands, faces); 1 everywhere if None.
        """
        batch, num_frames = latents.shape[:2]
        device = latents.device
        if sigma is None:
            sigma = (distribution or LogNormal()).sample(batch, generator)
        sigma = sigma.to(device, torch.float32)
        conditioning, control_scale = drop(conditioning, dropout, generator)
        latents = latents.float()
        noise = torch.randn(latents.shape, generator=generator).to(device)
        noisy = latents + per_video(sigma) * noise

        control = None
        if control_frames is not None:
            control = self.controlnext(control_frames, timestep_of(sigma), chunk=self.control_chunk)
        scale = control_scale.repeat_interleave(num_frames).reshape(-1, 1, 1, 1)
        v = self(noisy, sigma, conditioning, control, scale)

        error = (denoised(noisy, v, per_video(sigma)) - latents) ** 2
        error = error * (1 + per_video(sigma) ** 2) / per_video(sigma) ** 2
        if weight is not None:
            error = error * weight
        per_sample = error.flatten(1).mean(1)
        return Loss(per_sample.mean(), per_sample.detach(), sigma)


def drop(
    conditioning: Conditioning, dropout: Dropout, generator: torch.Generator
) -> tuple[Conditioning, Tensor]:
    """Zero the conditioning of some samples; the second result [B] is 0 where the control goes, else 1."""
    p = torch.rand(len(conditioning.token), generator=generator).to(conditioning.token.device)

    def kept(bounds: tuple[float, float]) -> Tensor:
        low, high = bounds
        return 1 - ((p >= low) & (p < high)).float()

    token = conditioning.token * kept(dropout.token).reshape(-1, 1, 1).to(conditioning.token.dtype)
    image = conditioning.image_latents * kept(dropout.image).reshape(-1, 1, 1, 1).to(
        conditioning.image_latents.dtype
    )
    return Conditioning(token, image, conditioning.time_ids), kept(dropout.control)
