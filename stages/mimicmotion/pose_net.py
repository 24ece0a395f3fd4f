"""PoseNet: MimicMotion's control module, added to the output of the UNet's `conv_in`.

Zhang et al., "MimicMotion: High-Quality Human Motion Video Generation with Confidence-aware Pose Guidance",
2024 (arXiv:2406.19680). The state-dict names are those of the published weights. It does not look at the
noise level.
"""

from itertools import pairwise

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn

from ..control import FrameFeatures, Injection, OutputInjection

WIDTHS = (3, 3, 16, 16, 32, 32, 64, 64, 128)
"""Channels before, between and after the eight convolutions."""
HALVING = (1, 3, 5)
"""Which of them have stride 2 (and a kernel of 4)."""
FIRST_SCALE = 2.0
"""Of the learned factor on the result, before training."""


class PoseNet(ModelMixin, ConfigMixin):
    """Control frames -> features [N, control_channels, H / 8, W / 8], each frame on its own.

    Args:
        control_channels: those of the UNet's first level (published: 320).
    """

    @register_to_config
    def __init__(self, control_channels: int = 320) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for index, (c_in, c_out) in enumerate(pairwise(WIDTHS)):
            kernel, stride = (4, 2) if index in HALVING else (3, 1)
            layers += [nn.Conv2d(c_in, c_out, kernel, stride, padding=1), nn.SiLU()]
        self.conv_layers = nn.Sequential(*layers)
        self.final_proj = nn.Conv2d(WIDTHS[-1], control_channels, 1)
        self.scale = nn.Parameter(torch.full((1,), FIRST_SCALE))

    def forward(
        self, control_frames: Tensor, timestep: Tensor | float | None = None, chunk: int | None = None
    ) -> Tensor:
        """Features [B * F, C, h, w] of control frames [B, F, 3, H, W] in 0..1; `timestep` is not used.

        `chunk` frames are run at a time, all at once if None.
        """
        frames = control_frames.flatten(0, 1)
        return torch.cat([self.encode_frames(part)[0] for part in frames.split(chunk or len(frames))])

    def embed_time(self, timestep: Tensor | float, batch: int) -> Tensor:
        """[batch, 0]: nothing depends on time."""
        return self.scale.new_empty(batch, 0)

    def encode_frames(self, frames: Tensor) -> FrameFeatures:
        """Features [N, C, H / 8, W / 8] of frames [N, 3, H, W] in 0..1; it was trained to see -1..1."""
        signed = frames.to(self.dtype) * 2 - 1
        return (self.final_proj(self.conv_layers(signed)) * self.scale,)

    def apply_time(self, features: FrameFeatures, embedding: Tensor) -> Tensor:
        """The features as they are, [N, C, h, w]."""
        return features[0]

    def attach(self, unet: nn.Module, strength: float = 1.0) -> Injection:
        """See `ControlModule.attach`; `unet` is a diffusers `UNetSpatioTemporalConditionModel`.

        The features are added to what leaves `conv_in`, so that the first skip connection sees them too. How
        strongly is learned (`scale`): `strength` changes nothing.
        """
        return OutputInjection(unet.get_submodule("conv_in"), add_pose)


def add_pose(hidden: Tensor, control: Tensor, scale: float | Tensor = 1.0) -> Tensor:
    """hidden + scale * control, all [N, C, h, w]; in the dtype of `hidden`."""
    return hidden + (control * scale).to(hidden.dtype)
