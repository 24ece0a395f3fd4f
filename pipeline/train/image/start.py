"""Small bases for pictures, where they start learning: `train image --base small-sd15` and `small-sd3`.

Their VAE is the shipped demo model's, as one for pictures: its latents are known, and nothing of it has to be
learned again.
"""

from pathlib import Path
from typing import Any, cast

import torch
from diffusers.models.transformers.transformer_sd3 import SD3Transformer2DModel
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import StableDiffusionPipeline
from diffusers.pipelines.stable_diffusion_3.pipeline_stable_diffusion_3 import StableDiffusion3Pipeline
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from ....stages.controlnext.model import ControlNeXt
from ....stages.errors import ConfigError
from ....stages.image.still import refit_time, still_unet, still_vae
from ....stages.image.tiny import SD_SCHEDULE, byte_tokenizer
from ....stages.models import load_decoder, load_generator

WIDTH = 64
"""Channels of the small transformer."""
SIDE = 32
"""Tokens along the largest side that it sees at once: 128 pixels. Its table of positions has SIDE squared."""
WORDS, TOKENS = 16, 8
"""Width of its text encoders, and how many tokens they read: it is never asked for anything in words."""


def small_sd3() -> StableDiffusion3Pipeline:
    """A transformer of two joint blocks, whose tokens are 4x4 pixels, that changes nothing yet.

    Its table of positions is zero: what is small looks the same everywhere, and squares of any place and size
    are alike. It says nothing at the start, so that sampling in one step returns what it began from.
    """
    latents = 8
    transformer = SD3Transformer2DModel(
        sample_size=SIDE,
        patch_size=1,
        in_channels=latents,
        out_channels=latents,
        num_layers=2,
        attention_head_dim=32,
        num_attention_heads=WIDTH // 32,
        joint_attention_dim=2 * WORDS,
        caption_projection_dim=WIDTH,
        pooled_projection_dim=2 * WORDS,
        pos_embed_max_size=SIDE,
    )
    cast(torch.Tensor, transformer.pos_embed.pos_embed).zero_()
    nn.init.zeros_(transformer.proj_out.weight)
    nn.init.zeros_(transformer.proj_out.bias)
    encoders = [CLIPTextModelWithProjection(_text_config()) for _ in range(2)]
    tokenizers = [_short_tokenizer() for _ in range(2)]
    return StableDiffusion3Pipeline(
        transformer=transformer,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=still_vae(load_decoder("demo", dtype=torch.float32).vae),
        text_encoder=encoders[0],
        tokenizer=tokenizers[0],
        text_encoder_2=encoders[1],
        tokenizer_2=tokenizers[1],
        text_encoder_3=None,  # pyright: ignore[reportArgumentType]
        tokenizer_3=None,  # pyright: ignore[reportArgumentType]
    )


def _text_config() -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=514,
        hidden_size=WORDS,
        projection_dim=WORDS,
        intermediate_size=2 * WORDS,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=TOKENS,
        bos_token_id=512,
        eos_token_id=513,
        pad_token_id=513,
    )


def _short_tokenizer() -> CLIPTokenizer:
    tokenizer = byte_tokenizer()
    tokenizer.model_max_length = TOKENS
    return tokenizer


def small_sd15(words: Path | None) -> tuple[StableDiffusionPipeline, ControlNeXt]:
    """The still half of the demo model, with a text encoder in place of its image encoder, and its module.

    It stands as it is asked to from the start, and has no colours yet: they are what is learned. Noise goes
    to no signal at all (Lin et al. 2023, arXiv:2305.08891), or a wall's colour could not be chosen.
    `words` is a folder that `train words` wrote.
    """
    if words is None:
        raise ConfigError("small-sd15 begins with a text encoder: name the folder that train words wrote")
    scheduler = DDIMScheduler(
        **SD_SCHEDULE,
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,  # diffusers wants it of SD1.5; trailing steps have none
    )
    kept = scheduler.alphas_cumprod
    sigmas = ((1 - kept) / kept).sqrt()
    demo = load_generator("demo", dtype=torch.float32)
    module = cast(ControlNeXt, demo.controlnext)
    refit_time(module.time_embedding, module.time_proj, sigmas)
    pipeline = StableDiffusionPipeline(
        vae=still_vae(demo.vae),
        text_encoder=CLIPTextModel.from_pretrained(words / "text_encoder"),
        tokenizer=CLIPTokenizer.from_pretrained(words / "tokenizer"),
        unet=still_unet(demo.unet, demo.numbers.time_ids(), sigmas),
        scheduler=scheduler,  # pyright: ignore[reportArgumentType]
        safety_checker=None,  # pyright: ignore[reportArgumentType]
        feature_extractor=None,  # pyright: ignore[reportArgumentType]
        requires_safety_checker=False,
    )
    return pipeline, module


SMALL = ("small-sd15", "small-sd3")
"""Bases that start here, by name."""


def small_base(base: str, words: Path | None = None) -> tuple[Any, ControlNeXt | None]:
    """A small base where it starts, and the module that it starts with if it has one."""
    return small_sd15(words) if base == "small-sd15" else (small_sd3(), None)
