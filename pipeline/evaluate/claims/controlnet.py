"""ControlNet on Stable Video Diffusion's UNet, for comparison only: `run.py evaluate claims`.

Zhang et al., "Adding Conditional Control to Text-to-Image Diffusion Models", 2023 (arXiv:2302.05543): a
trainable copy of the encoder sees the control frames, and its features are added, through convolutions that
start as zero, to every skip connection and to the output of the middle block. The UNet is an unmodified
diffusers model; nothing in posedance is animated with this.
"""

import copy
from typing import Any

import torch
from diffusers.models.controlnets.controlnet import ControlNetConditioningEmbedding
from torch import Tensor, nn

from ....stages.control import FrameFeatures, Injection

HINT_CHANNELS = (16, 32, 96, 256)
"""Widths of the small network that makes hints of control frames; each after the first halves the size."""


class EncoderCopy(nn.Module):
    """Copies of all layers of `unet` up to its middle block, and one zero convolution for each result."""

    def __init__(self, unet: Any) -> None:
        super().__init__()
        names = ("conv_in", "time_proj", "time_embedding", "add_time_proj", "add_embedding")
        for name in (*names, "down_blocks", "mid_block"):
            self.add_module(name, copy.deepcopy(getattr(unet, name)))
        levels: list[Any] = list(unet.down_blocks)
        widths = [unet.conv_in.out_channels]
        for level in levels:
            skips = len(level.resnets) + (level.downsamplers is not None)
            widths += [level.resnets[0].spatial_res_block.out_channels] * skips
        self.zero_convs = nn.ModuleList(zero_conv(width) for width in [*widths, widths[-1]])

    def forward(
        self,
        sample: Tensor,
        timestep: Tensor,
        encoder_hidden_states: Tensor,
        added_time_ids: Tensor,
        hint: Tensor,
    ) -> list[Tensor]:
        """What is added to each skip connection and, last, to the middle block's output.

        The arguments are the UNet's: sample [B, F, C, h, w], timestep [B], one context [B, 1, D] and numbers
        [B, 3] for each video; `hint` [B * F, width, h, w] joins the output of the first convolution.
        """
        layers: Any = self
        batch, num_frames = sample.shape[:2]
        emb = layers.time_embedding(layers.time_proj(timestep.expand(batch)).to(sample.dtype))
        ids = layers.add_time_proj(added_time_ids.flatten()).reshape(batch, -1)
        emb = emb + layers.add_embedding(ids.to(sample.dtype))
        call = {
            "temb": emb.repeat_interleave(num_frames, dim=0),
            "image_only_indicator": sample.new_zeros(batch, num_frames),
        }
        context = {"encoder_hidden_states": encoder_hidden_states.repeat_interleave(num_frames, dim=0)}
        hidden = layers.conv_in(sample.flatten(0, 1)) + hint
        results = [hidden]
        for level in layers.down_blocks:
            attends = getattr(level, "has_cross_attention", False)
            hidden, skips = level(hidden, **call, **(context if attends else {}))
            results += skips
        results.append(layers.mid_block(hidden, **call, **context))
        return [conv(result) for conv, result in zip(self.zero_convs, results, strict=True)]


class ControlNet(nn.Module):
    """Control frames -> hints, which pass through the copied encoder at every call of the UNet.

    It is a `ControlModule`, so the same denoiser takes it.

    Args:
        unet: `UNetSpatioTemporalConditionModel`, trained; it is copied and not changed.
        hint_channels: of the network that makes hints: one halving for each after the first.
    """

    def __init__(self, unet: nn.Module, hint_channels: tuple[int, ...] = HINT_CHANNELS) -> None:
        super().__init__()
        self.encoder = EncoderCopy(unet)
        width = self.encoder.get_submodule("conv_in").out_channels
        self.hint = ControlNetConditioningEmbedding(int(width), 3, hint_channels)  # pyright: ignore[reportArgumentType]

    @property
    def device(self) -> torch.device:
        """Where its weights are."""
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """The precision of its weights."""
        return next(self.parameters()).dtype

    def forward(
        self, control_frames: Tensor, timestep: Tensor | float | None = None, chunk: int | None = None
    ) -> Tensor:
        """Hints [B * F, C, h, w] of control frames [B, F, 3, H, W] in 0..1; `timestep` is not used.

        `chunk` frames are run at a time, all at once if None.
        """
        frames = control_frames.flatten(0, 1)
        return torch.cat([self.encode_frames(part)[0] for part in frames.split(chunk or len(frames))])

    def encode_frames(self, frames: Tensor) -> FrameFeatures:
        """Hints [N, C, h, w] of frames [N, 3, H, W] in 0..1."""
        return (self.hint(frames),)

    def embed_time(self, timestep: Tensor | float, batch: int) -> Tensor:
        """[batch, 0]: hints do not depend on time."""
        return torch.empty(batch, 0)

    def apply_time(self, features: FrameFeatures, embedding: Tensor) -> Tensor:
        """The hints as they are."""
        return features[0]

    def attach(self, unet: nn.Module, strength: float = 1.0) -> Injection:
        """See `ControlModule.attach`; how strongly is learned: `strength` changes nothing."""
        return EncoderInjection(unet, self.encoder)


class EncoderInjection(Injection):
    """The copied encoder's features join the skips and the middle of a UNet.

    What `control(...)` is given are hints, one for each of the call's frames.
    """

    def __init__(self, unet: Any, encoder: EncoderCopy) -> None:
        super().__init__()
        self._encoder = encoder
        self._residuals: list[Tensor] = []
        self.hooks.append(unet.register_forward_pre_hook(self._encode, with_kwargs=True))
        self.hooks.append(unet.mid_block.register_forward_hook(self._add_to_middle))
        for level in unet.up_blocks:
            self.hooks.append(level.register_forward_pre_hook(self._add_to_skips, with_kwargs=True))

    def _encode(self, unet: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._residuals = []
        if self.features is None:
            return
        sample, timestep = args
        token, ids = kwargs["encoder_hidden_states"], kwargs["added_time_ids"]
        residuals = self._encoder(
            sample, timestep, encoder_hidden_states=token, added_time_ids=ids, hint=self.features
        )
        self._residuals = [residual * self.scale for residual in residuals]

    def _add_to_middle(self, module: nn.Module, args: object, output: Tensor) -> Tensor | None:
        return output + self._residuals.pop() if self._residuals else None

    def _add_to_skips(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        if not self._residuals:
            return None
        skips = kwargs["res_hidden_states_tuple"]
        added = self._residuals[-len(skips) :]
        del self._residuals[-len(skips) :]
        summed = tuple(skip + residual for skip, residual in zip(skips, added, strict=True))
        return args, kwargs | {"res_hidden_states_tuple": summed}


def zero_conv(width: int) -> nn.Conv2d:
    """A 1 x 1 convolution that starts as zero."""
    conv = nn.Conv2d(width, width, 1)
    nn.init.zeros_(conv.weight)
    nn.init.zeros_(conv.bias)  # pyright: ignore[reportArgumentType]
    return conv
