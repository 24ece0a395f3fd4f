"""The temporal half of Stable Video Diffusion's networks: named, silenced at the start, or left out.

Every spatial block is followed by a temporal one (arXiv:2304.08818, section 3). A small model learns pictures
first, without the temporal blocks, and motion afterwards.
"""

from typing import Any

import torch
from diffusers.models.resnet import AlphaBlender, SpatioTemporalResBlock
from diffusers.models.transformers.transformer_temporal import TransformerSpatioTemporalModel
from torch import Tensor, nn

from .patch import Lever

TEMPORAL_NAMES = ("temporal", "time_mixer", "time_pos_embed", "time_conv_out")
"""What the names of parameters that see more than one frame contain."""


def is_temporal(name: str) -> bool:
    """Whether a parameter of this name belongs to a temporal block."""
    return any(part in name for part in TEMPORAL_NAMES)


@torch.no_grad()
def silence_temporal(model: nn.Module) -> None:
    """Make every temporal block the identity, so that learning starts from the spatial model.

    The last layers of its residual branches become zero; the frame embedding too.
    """
    module: Any
    for module in model.modules():
        if isinstance(module, SpatioTemporalResBlock):
            _zero(module.temporal_res_block.conv2)
        elif isinstance(module, TransformerSpatioTemporalModel):
            _zero(module.time_pos_embed.linear_2)
            block: Any
            for block in module.temporal_transformer_blocks:
                _zero(block.ff_in.net[2])
                _zero(block.attn1.to_out[0])
                _zero(block.attn2.to_out[0])
                _zero(block.ff.net[2])


def _zero(layer: nn.Module) -> None:
    for parameter in layer.parameters():
        parameter.zero_()


def _first(hidden: Tensor, *_: Any, **__: Any) -> Tensor:
    return hidden


def _spatial(x_spatial: Tensor, x_temporal: Tensor, image_only_indicator: Tensor | None = None) -> Tensor:
    return x_spatial


def without_temporal(model: nn.Module) -> Lever:
    """Neither compute the temporal blocks of `model` nor mix them in, until `detach`."""
    lever = Lever()
    for module in model.modules():
        if isinstance(module, SpatioTemporalResBlock):
            lever.patch(module.temporal_res_block, lambda forward: _first)
        elif isinstance(module, TransformerSpatioTemporalModel):
            for block in module.temporal_transformer_blocks:
                lever.patch(block, lambda forward: _first)
        elif isinstance(module, AlphaBlender):
            lever.patch(module, lambda forward: _spatial)
    return lever
