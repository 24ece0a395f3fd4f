"""The smallest generator of the real classes: random weights, for tests and for trying the pipeline."""

import torch
from diffusers.models.autoencoders.autoencoder_kl_temporal_decoder import AutoencoderKLTemporalDecoder
from diffusers.models.unets.unet_spatio_temporal_condition import UNetSpatioTemporalConditionModel
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from ...controlnext.model import ControlNeXt
from ...generate import Defaults
from ..generator import SvdGenerator

TOKEN_WIDTH = 32


def tiny_random(seed: int = 0) -> SvdGenerator:
    """About 2 million parameters, the same for the same seed; latents at an eighth of the size, as SVD."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        unet = UNetSpatioTemporalConditionModel(
            sample_size=16,
            in_channels=8,
            out_channels=4,
            down_block_types=("CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"),
            up_block_types=("UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"),
            block_out_channels=(32, 64),
            addition_time_embed_dim=32,
            projection_class_embeddings_input_dim=96,
            layers_per_block=1,
            cross_attention_dim=TOKEN_WIDTH,
            num_attention_heads=(2, 4),
            num_frames=8,
        )
        controlnext = ControlNeXt(
            time_embed_dim=32,
            in_channels=(16, 16),
            out_channels=(16, 32),
            stem_channels=8,
            control_channels=32,
            time_proj_channels=16,
            stem_padding=1,
        )
        vae = AutoencoderKLTemporalDecoder(
            down_block_types=("DownEncoderBlock2D",) * 4,  # pyright: ignore[reportArgumentType]
            block_out_channels=(32, 32, 32, 32),  # pyright: ignore[reportArgumentType]
            layers_per_block=1,
            latent_channels=4,
            sample_size=64,
        )
        image_encoder = CLIPVisionModelWithProjection(
            CLIPVisionConfig(
                hidden_size=32,
                intermediate_size=64,
                projection_dim=TOKEN_WIDTH,
                num_hidden_layers=2,
                num_attention_heads=4,
                image_size=64,
                patch_size=16,
            )
        )
    defaults = Defaults(64, 96, window_size=8, window_overlap=2, steps=2, guidance_scale=2.0)
    return SvdGenerator("tiny-random", unet, controlnext, vae, image_encoder, defaults)
