"""The networks of the original bases on the meta device: their sizes, without their weights."""

from pathlib import Path
from typing import Any

import torch
from diffusers.models.transformers.transformer_sd3 import SD3Transformer2DModel
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import nn

from ..errors import ConfigError
from ..svd.files.record import read_json
from .bases import TINY
from .tiny import tiny_pipeline

SDXL: dict[str, Any] = {
    "block_out_channels": (320, 640, 1280),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "transformer_layers_per_block": (1, 2, 10),
    "attention_head_dim": (5, 10, 20),
    "cross_attention_dim": 2048,
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}
"""Of stabilityai/stable-diffusion-xl-base-1.0."""
SD35_MEDIUM: dict[str, Any] = {
    "num_layers": 24,
    "num_attention_heads": 24,
    "caption_projection_dim": 1536,
    "pos_embed_max_size": 384,
    "qk_norm": "rms_norm",
    "dual_attention_layers": tuple(range(13)),
}
"""Of stabilityai/stable-diffusion-3.5-medium."""


def meta_network(base: str) -> nn.Module:
    """The UNet or the transformer of a base, without weights: sd15, sdxl, sd3, a tiny one, or a folder.

    ConfigError for a base that is not here.
    """
    from .attach import network_of

    if base in TINY:
        return network_of(tiny_pipeline(TINY[base])).to("meta")
    with torch.device("meta"):
        if base == "sd15":
            return UNet2DConditionModel(cross_attention_dim=768)
        if base == "sdxl":
            return UNet2DConditionModel(**SDXL)
        if base == "sd3":
            return SD3Transformer2DModel(**SD35_MEDIUM)
        for part, network in (("unet", UNet2DConditionModel), ("transformer", SD3Transformer2DModel)):
            path = Path(base) / part / "config.json"
            if path.is_file():
                return network.from_config(read_json(path))  # pyright: ignore[reportReturnType]
    raise ConfigError(
        f"{base} is not here to be counted: name a folder in diffusers layout, or sd15, sdxl, sd3"
    )
