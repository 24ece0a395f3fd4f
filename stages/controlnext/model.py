"""ControlNeXt: the light convolutional module that turns control frames into features for the UNet.

Peng et al., "ControlNeXt: Powerful and Efficient Control for Image and Video Generation", 2024
(arXiv:2408.06070). The layers and the state-dict names are those of the published weights (SVD-v2, SDXL,
SD1.5), so `controlnet.bin` loads strictly.
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

    The published SVD weights have the defaults. `stem_padding` is 0 in their inference code and 1 in their
    training code and for pictures; the state dicts are the same and the numbers are not. Small models shrink
    the widths. `stages/image/` has the settings of the published modules for pictures.

    Args:
        time_embed_dim: width of the time embedding.
        in_channels, out_channels, groups: of each residual block (published: 128->128 with 4 groups,
            128->256 with 8 groups), each followed by a convolution of stride 2.
        stem_channels: width of the first two stem convolutions; None leaves the stem out.
        stem_groups: groups of the norms in the stem.
        mid_groups: groups of the norms in the middle; None leaves out norms and shortcut there.
        control_channels: channels of the result, those of the hidden state that it joins.
        time_proj_channels: width of the sinusoidal projection of the timestep.
        stem_padding: padding of the second and third stem convolution.
        learned_scale: whether a scale on what joins the network is learned.
        patch_size: side of the squares that the last convolution makes one vector of each: of a transformer
            for pictures its own, 1 of a UNet.
    """

    @register_to_config
    def __init__(
        self,
        time_embed_dim: int = 256,
        in_channels: tuple[int, ...] = (128, 128),
        out_channels: tuple[int, ...] = (128, 256),
        groups: tuple[int, ...] = (4, 8),
        stem_channels: int | None = 64,
        stem_groups: int = 2,
        mid_groups: int | None = 8,
        control_channels: int = 320,
        time_proj_channels: int = 128,
        stem_padding: int = 0,
        learned_scale: bool = False,
        patch_size: int = 1,
    ) -> None:
        super().__init__()
        if learned_scale:
            self.scale = nn.Parameter(torch.tensor(1.0))
        self.time_proj = Timesteps(time_proj_channels, flip_sin_to_cos=True, downscale_freq_shift=0)
        self.time_embedding = TimestepEmbedding(time_proj_channels, time_embed_dim)
        if stem_channels is not None:
            self.embedding = stem(stem_channels, in_channels[0], stem_groups, stem_padding)
        self.down_res = nn.ModuleList(
            ResnetBlock2D(in_channels=c_in, out_channels=c_out, temb_channels=time_embed_dim, groups=group)
            for c_in, c_out, group in zip(in_channels, out_channels, groups, strict=True)
        )
        self.down_sample = nn.ModuleList(
            Downsample2D(channels, use_conv=True, out_channels=channels, padding=1, name="op")
            for channels in out_channels
        )
        width = out_channels[-1]
        norms = [[] if mid_groups is None else [nn.GroupNorm(mid_groups, width)] for _ in range(2)]
        convolutions = [nn.Conv2d(width, width, 3, padding=1) for _ in range(2)]
        self.mid_convs = nn.ModuleList(
            (
                nn.Sequential(convolutions[0], nn.ReLU(), *norms[0], convolutions[1], *norms[1]),
                nn.Conv2d(width, control_channels, patch_size, stride=patch_size),
            )
        )

    def forward(self, control_frames: Tensor, timestep: Tensor | float, chunk: int | None = None) -> Tensor:
        """Control features of a batch of videos.

        Args:
            control_frames: [B, F, 3, H, W], RGB in 0..1.
            timestep: the UNet's own (0.25 ln sigma for SVD), one for all or one for each video [B].
            chunk: run this many frames at a time, to bound the stem's large activations; all at once if None.

        Returns:
            [B * F, control_channels, h, w]; about H / 8 by W / 8 (one less with `stem_padding` 0), of which
            `patch_size` squared make one.
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
        """Time embedding [batch, time_embed_dim] of `timestep`, a scalar or [batch]."""
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
        # in channels_last, GroupNorm over few channels is 60 times less exact on a CPU
        frames = frames.to(self.dtype).contiguous()
        stem = frames if self.config["stem_channels"] is None else self.embedding(frames)
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
        middle = self.mid_convs[0](hidden)
        return self.mid_convs[1](middle if self.config["mid_groups"] is None else hidden + middle)

    def attach(self, unet: nn.Module, strength: float = POSE_STRENGTH) -> Injection:
        """See `ControlModule.attach`; `unet` is a diffusers `UNetSpatioTemporalConditionModel`.

        The features join the output of `down_blocks[0]`, and not the skip connections.
        """
        return OutputInjection(unet.get_submodule("down_blocks.0"), partial(add_control, strength=strength))


def stem(width: int, out_channels: int, groups: int, padding: int) -> nn.Sequential:
    """Pictures [N, 3, H, W] -> [N, out_channels, h, w] at about half the size."""
    return nn.Sequential(
        nn.Conv2d(3, width, 3, stride=2, padding=1),
        nn.GroupNorm(groups, width),
        nn.ReLU(),
        nn.Conv2d(width, width, 3, padding=padding),
        nn.GroupNorm(groups, width),
        nn.ReLU(),
        nn.Conv2d(width, out_channels, 3, padding=padding),
        nn.GroupNorm(groups, out_channels),
        nn.ReLU(),
    )
