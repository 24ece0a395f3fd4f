"""ControlNeXt: the light convolutional module that turns control frames into features for the UNet.

Peng et al., "ControlNeXt: Powerful and Efficient Control for Image and Video Generation", 2024
(arXiv:2408.06070). The layers and the state-dict names are those of the published ControlNeXt-SVD-v2
weights, so `controlnet.bin` loads strictly.
"""

from functools import partial
from typing import cast

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.downsampling import Downsample2D
from diffusers.models.embeddings import TimestepEmbedding, Timesteps
from diffusers.models.modeling_utils import ModelMixin
from diffusers.models.resnet import ResnetBlock2D
from torch import Tensor, nn

from ..control import FrameFeatures, Injection, OutputInjection
from .inject import POSE_STRENGTH, add_control


class ControlNeXt(ModelMixin, ConfigMixin):
    """Control frames and a noise level -> control features, each frame on its own.

    The published weights have the defaults. `stem_padding` is 0 in the published inference code and 1 in its
    training code; the state dicts are the same and the numbers are not. Small models shrink the widths.

    Args:
        time_embed_dim: width of the time embedding.
        in_channels, out_channels, groups: of each residual block (published: 128->128 with 4 groups,
            128->256 with 8 groups), each followed by a convolution of stride 2.
        stem_channels: width of the first two stem convolutions.
        stem_groups, mid_groups: groups of the norms in the stem and in the middle.
        control_channels: channels of the result, those of the UNet's first level.
        time_proj_channels: width of the sinusoidal projection of the timestep.
        stem_padding: padding of the second and third stem convolution.
    """

    @register_to_config
    def __init__(
        self,
        time_embed_dim: int = 256,
        in_channels: tuple[int, ...] = (128, 128),
        out_channels: tuple[int, ...] = (128, 256),
        groups: tuple[int, ...] = (4, 8),
        stem_channels: int = 64,
        stem_groups: int = 2,
        mid_groups: int = 8,
        control_channels: int = 320,
        time_proj_channels: int = 128,
        stem_padding: int = 0,
    ) -> None:
        super().__init__()
        self.time_proj = Timesteps(time_proj_channels, flip_sin_to_cos=True, downscale_freq_shift=0)
        self.time_embedding = TimestepEmbedding(time_proj_channels, time_embed_dim)
        self.embedding = nn.Sequential(
            nn.Conv2d(3, stem_channels, 3, stride=2, padding=1),
            nn.GroupNorm(stem_groups, stem_channels),
            nn.ReLU(),
            nn.Conv2d(stem_channels, stem_channels, 3, padding=stem_padding),
            nn.GroupNorm(stem_groups, stem_channels),
            nn.ReLU(),
            nn.Conv2d(stem_channels, in_channels[0], 3, padding=stem_padding),
            nn.GroupNorm(stem_groups, in_channels[0]),
            nn.ReLU(),
        )
        self.down_res = nn.ModuleList(
            ResnetBlock2D(in_channels=c_in, out_channels=c_out, temb_channels=time_embed_dim, groups=group)
            for c_in, c_out, group in zip(in_channels, out_channels, groups, strict=True)
        )
        self.down_sample = nn.ModuleList(
            Downsample2D(channels, use_conv=True, out_channels=channels, padding=1, name="op")
            for channels in out_channels
        )
        width = out_channels[-1]
        self.mid_convs = nn.ModuleList(
            (
                nn.Sequential(
                    nn.Conv2d(width, width, 3, padding=1),
                    nn.ReLU(),
                    nn.GroupNorm(mid_groups, width),
                    nn.Conv2d(width, width, 3, padding=1),
                    nn.GroupNorm(mid_groups, width),
                ),
                nn.Conv2d(width, control_channels, 1),
            )
        )

    def forward(self, control_frames: Tensor, timestep: Tensor | float, chunk: int | None = None) -> Tensor:
        """Control features of a batch of videos.

        Args:
            control_frames: [B, F, 3, H, W], RGB in 0..1.
            timestep: 0.25 ln sigma, one for all or one for each video [B].
            chunk: run this many frames at a time, to bound the stem's large activations; all at once if None.

        Returns:
            [B * F, control_channels, h, w]; about H / 8 by W / 8 (one less with `stem_padding` 0).
        """
        batch, num_frames = control_frames.shape[:2]
        frames = control_frames.flatten(0, 1)
        embedding = self.embed_time(timestep, batch).repeat_interleave(num_frames, dim=0)
        chunk = chunk or len(frames)
        parts = [
            self.apply_time(self.encode_frames(part), part_embedding)
            for part, part_embedding in zip(frames.split(chunk), embedding.split(chunk), strict=True)
        ]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def embed_time(self, timestep: Tensor | float, batch: int) -> Tensor:
        """Time embedding [batch, time_embed_dim] of `timestep` (0.25 ln sigma), a scalar or [batch]."""
        weight = self.time_embedding.linear_1.weight
        timesteps = (
            torch.as_tensor(timestep, dtype=torch.float32, device=weight.device).reshape(-1).expand(batch)
        )
        return self.time_embedding(self.time_proj(timesteps).to(weight.dtype))

    def encode_frames(self, frames: Tensor) -> FrameFeatures:
        """The part that does not depend on time, of frames [N, 3, H, W] in 0..1.

        It is the larger part of the work (the stem runs at half the frames' size), so a sampler keeps it for
        all its steps. Two features, each [N, C, h, w]: `residual` enters the first residual block's addition,
        `hidden` is the output of that block's first convolution, to which the time embedding is then added.
        """
        stem = self.embedding(frames.to(self.dtype))
        block = cast(ResnetBlock2D, self.down_res[0])
        hidden = block.conv1(block.nonlinearity(block.norm1(stem)))
        return (stem if block.conv_shortcut is None else block.conv_shortcut(stem)), hidden

    def apply_time(self, features: FrameFeatures, embedding: Tensor) -> Tensor:
        """The rest: features of N frames, time embeddings [N or 1, D] -> [N, control_channels, h, w]."""
        block = cast(ResnetBlock2D, self.down_res[0])
        project = cast(nn.Linear, block.time_emb_proj)
        residual, hidden = features
        hidden = hidden + project(block.nonlinearity(embedding))[:, :, None, None]
        hidden = block.conv2(block.nonlinearity(block.norm2(hidden)))
        hidden = self.down_sample[0](residual + hidden)
        for block, downsample in zip(self.down_res[1:], self.down_sample[1:], strict=True):
            hidden = downsample(block(hidden, embedding.expand(len(hidden), -1)))
        hidden = hidden + self.mid_convs[0](hidden)
        return self.mid_convs[1](hidden)

    def attach(self, unet: nn.Module, strength: float = POSE_STRENGTH) -> Injection:
        """See `ControlModule.attach`; `unet` is a diffusers `UNetSpatioTemporalConditionModel`.

        The features join the output of `down_blocks[0]`, and not the skip connections.
        """
        return OutputInjection(unet.get_submodule("down_blocks.0"), partial(add_control, strength=strength))
