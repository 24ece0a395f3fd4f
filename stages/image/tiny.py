"""The smallest pipelines of the real classes, one of each base: random weights, for tests and for trying."""

from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.transformers.transformer_sd3 import SD3Transformer2DModel
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import StableDiffusionPipeline
from diffusers.pipelines.stable_diffusion_3.pipeline_stable_diffusion_3 import StableDiffusion3Pipeline
from diffusers.pipelines.stable_diffusion_xl.pipeline_stable_diffusion_xl import StableDiffusionXLPipeline
from diffusers.schedulers.scheduling_euler_discrete import EulerDiscreteScheduler
from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler
from diffusers.schedulers.scheduling_pndm import PNDMScheduler
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from ..controlnext.model import ControlNeXt
from ..errors import ConfigError
from .families import new_module
from .tokens import byte_tokenizer

TEXT = 32
"""Width of the text encoders."""
SD_SCHEDULE: dict[str, Any] = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
"""Noise levels of Stable Diffusion."""
BASES = ("sd15", "sdxl", "sd3")
NARROW: dict[str, Any] = {
    "time_embed_dim": 32,
    "time_proj_channels": 16,
    "in_channels": (16, 16),
    "out_channels": (16, 32),
    "stem_channels": 8,
}
"""Sizes of the control module of a tiny base."""


def tiny_pipeline(base: str, seed: int = 0) -> Any:
    """A diffusers pipeline `sd15`, `sdxl` or `sd3` of about a million parameters, the same for the same seed.

    Its latents have an eighth of the picture's size, as those of the real ones.
    """
    if base not in BASES:
        raise ConfigError(f"no tiny base {base!r}: use one of {', '.join(BASES)}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        pipeline = {"sd15": _sd15, "sdxl": _sdxl, "sd3": _sd3}[base]()
    for part in pipeline.components.values():
        if isinstance(part, torch.nn.Module):
            part.eval().requires_grad_(False)
    return pipeline


def tiny_module(network: torch.nn.Module, seed: int = 0) -> ControlNeXt:
    """A control module with random weights for the network of a tiny pipeline, the same for the same seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return new_module(network, **NARROW).eval().requires_grad_(False)


def _sd15() -> StableDiffusionPipeline:
    unet = UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(32, 64),  # pyright: ignore[reportArgumentType]
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),  # pyright: ignore[reportArgumentType]
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),  # pyright: ignore[reportArgumentType]
        layers_per_block=1,
        attention_head_dim=4,
        cross_attention_dim=TEXT,
        norm_num_groups=8,
    )
    return StableDiffusionPipeline(
        vae=_vae(4, scaling_factor=0.18215),
        text_encoder=CLIPTextModel(_text_config()),
        tokenizer=byte_tokenizer(),
        unet=unet,
        scheduler=PNDMScheduler(**SD_SCHEDULE, set_alpha_to_one=False, skip_prk_steps=True, steps_offset=1),  # pyright: ignore[reportArgumentType]
        safety_checker=None,  # pyright: ignore[reportArgumentType]
        feature_extractor=None,  # pyright: ignore[reportArgumentType]
        requires_safety_checker=False,
    )


def _sdxl() -> StableDiffusionXLPipeline:
    unet = UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(32, 64),  # pyright: ignore[reportArgumentType]
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),  # pyright: ignore[reportArgumentType]
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),  # pyright: ignore[reportArgumentType]
        layers_per_block=1,
        attention_head_dim=(2, 4),  # pyright: ignore[reportArgumentType]
        cross_attention_dim=2 * TEXT,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=TEXT + 6 * 8,
        norm_num_groups=8,
    )
    return StableDiffusionXLPipeline(
        vae=_vae(4, scaling_factor=0.13025),
        text_encoder=CLIPTextModel(_text_config()),
        text_encoder_2=CLIPTextModelWithProjection(_text_config()),
        tokenizer=byte_tokenizer(),
        tokenizer_2=byte_tokenizer(),
        unet=unet,
        scheduler=EulerDiscreteScheduler(**SD_SCHEDULE, timestep_spacing="leading", steps_offset=1),  # pyright: ignore[reportArgumentType]
        add_watermarker=False,
    )


def _sd3() -> StableDiffusion3Pipeline:
    transformer = SD3Transformer2DModel(
        sample_size=16,
        in_channels=16,
        out_channels=16,
        num_layers=4,
        attention_head_dim=8,
        num_attention_heads=4,
        joint_attention_dim=2 * TEXT,
        caption_projection_dim=32,
        pooled_projection_dim=2 * TEXT,
        pos_embed_max_size=16,
    )
    return StableDiffusion3Pipeline(
        transformer=transformer,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=_vae(
            16, scaling_factor=1.5305, shift_factor=0.0609, use_quant_conv=False, use_post_quant_conv=False
        ),
        text_encoder=CLIPTextModelWithProjection(_text_config()),
        tokenizer=byte_tokenizer(),
        text_encoder_2=CLIPTextModelWithProjection(_text_config()),
        tokenizer_2=byte_tokenizer(),
        text_encoder_3=None,  # pyright: ignore[reportArgumentType]
        tokenizer_3=None,  # pyright: ignore[reportArgumentType]
    )


def _vae(channels: int, **more: Any) -> AutoencoderKL:
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,  # pyright: ignore[reportArgumentType]
        up_block_types=("UpDecoderBlock2D",) * 4,  # pyright: ignore[reportArgumentType]
        block_out_channels=(8, 8, 16, 16),  # pyright: ignore[reportArgumentType]
        layers_per_block=1,
        latent_channels=channels,
        norm_num_groups=4,
        **more,
    )


def _text_config() -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=514,
        hidden_size=TEXT,
        projection_dim=TEXT,
        intermediate_size=2 * TEXT,
        num_hidden_layers=2,
        num_attention_heads=4,
        bos_token_id=512,
        eos_token_id=513,
        pad_token_id=513,
    )
