"""The still half of Stable Video Diffusion's networks, as networks for pictures: small models start there.

Every spatial block of a video network has the layers of a block for pictures, and a temporal one behind it.
Without the temporal ones a VAE is an `AutoencoderKL`, and a UNet a `UNet2DConditionModel`.
"""

from typing import Any, cast

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.autoencoders.autoencoder_kl_temporal_decoder import AutoencoderKLTemporalDecoder
from diffusers.models.embeddings import TimestepEmbedding, Timesteps
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.models.unets.unet_spatio_temporal_condition import UNetSpatioTemporalConditionModel
from torch import Tensor, nn

from ..svd.files.norms import norm_groups
from ..svd.levers.temporal import is_temporal

RIDGE = 1e-4
"""How strongly weights of a refitted time embedding are held to zero; at 1e-8 bfloat16 breaks them."""
SPATIAL = "spatial_res_block."
"""What the names of a residual block have before them in a video network."""


def still_state(network: nn.Module) -> dict[str, Tensor]:
    """The weights of a video network that see one frame each, by the names of a network for pictures."""
    state = network.state_dict()
    return {name.replace(SPATIAL, ""): value for name, value in state.items() if not is_temporal(name)}


@torch.no_grad()
def still_vae(vae: AutoencoderKLTemporalDecoder) -> AutoencoderKL:
    """The VAE of a video model as one for pictures: it encodes, and decodes without temporal layers, alike.

    The video decoder's middle has one residual block less where its levels have one layer: that block is left
    silent here, and so is the attention before it, which the video decoder does not run.
    """
    config = vae.config
    levels = len(config["block_out_channels"])
    still = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * levels,  # pyright: ignore[reportArgumentType]
        up_block_types=("UpDecoderBlock2D",) * levels,  # pyright: ignore[reportArgumentType]
        block_out_channels=tuple(config["block_out_channels"]),  # pyright: ignore[reportArgumentType]
        layers_per_block=config["layers_per_block"],
        latent_channels=config["latent_channels"],
        norm_num_groups=cast(int, norm_groups(vae)),
        scaling_factor=config["scaling_factor"],
        shift_factor=0.0,  # SD3's pipelines want one
        force_upcast=False,
        use_post_quant_conv=False,
    )
    middle: Any = still.decoder.mid_block
    state = still_state(vae)
    if config["layers_per_block"] == 1:
        for layer in (middle.resnets[1].conv2, middle.attentions[0].to_out[0]):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        own = {f"decoder.mid_block.{name}": value for name, value in middle.state_dict().items()}
        silent = ("decoder.mid_block.resnets.1.", "decoder.mid_block.attentions.0.to_out.0.")
        state |= {name: value for name, value in own.items() if name.startswith(silent)}
    still.load_state_dict(state)
    return still.eval()


KINDS = {
    "DownBlockSpatioTemporal": "DownBlock2D",
    "CrossAttnDownBlockSpatioTemporal": "CrossAttnDownBlock2D",
    "UpBlockSpatioTemporal": "UpBlock2D",
    "CrossAttnUpBlockSpatioTemporal": "CrossAttnUpBlock2D",
}
"""Blocks for pictures by those of a video network."""


@torch.no_grad()
def still_unet(
    unet: UNetSpatioTemporalConditionModel, time_ids: Tensor, sigmas: Tensor
) -> UNet2DConditionModel:
    """The UNet of a video model as one for pictures that is told no reference.

    Its timestep n = 0, 1, ... stands for the noise level `sigmas[n]`, float [N], rising. `time_ids` [1, 3]
    are the numbers that the video model is told (frame rate, motion, noise augmentation): constants now. What
    is lost is the reference's half of the first convolution: appearance comes from the tokens alone.
    """
    config = unet.config
    channels = config["out_channels"]
    still = UNet2DConditionModel(
        in_channels=channels,
        out_channels=channels,
        down_block_types=tuple(KINDS[kind] for kind in config["down_block_types"]),
        up_block_types=tuple(KINDS[kind] for kind in config["up_block_types"]),
        block_out_channels=tuple(config["block_out_channels"]),  # pyright: ignore[reportArgumentType]
        layers_per_block=config["layers_per_block"],
        attention_head_dim=config["num_attention_heads"],  # diffusers takes it for the number of heads
        cross_attention_dim=config["cross_attention_dim"],
        use_linear_projection=True,
        norm_num_groups=cast(int, norm_groups(unet)),
    )
    state = {name: value.float() for name, value in still_state(unet).items()}
    state = {name: value for name, value in state.items() if not name.startswith("add_")}
    state["conv_in.weight"] = state["conv_in.weight"][:, :channels]
    still.load_state_dict(state)
    refit_time(still.time_embedding, unet.time_proj, sigmas)
    told = unet.add_time_proj(time_ids.flatten()).reshape(1, -1).to(unet.dtype)
    still.time_embedding.linear_2.bias += unet.add_embedding(told)[0].float()
    return still.eval()


@torch.no_grad()
def refit_time(embedding: TimestepEmbedding, projection: Timesteps, sigmas: Tensor) -> None:
    """Let an embedding of ln(sigma) / 4 take the numbers of noise levels instead, in place.

    What enters its activation is a smooth function of the number, and so a sum of the projection's sines: by
    least squares over all levels, held small so that 16 bits do for it. It is met to about 3 %.
    """
    levels = projection(0.25 * sigmas.clamp(1e-3, 80.0).log()).double()
    numbers = projection(torch.arange(len(sigmas), dtype=torch.float32)).double()
    first = embedding.linear_1
    wanted = levels @ first.weight.double().T + first.bias.double()
    known = torch.cat([numbers, torch.ones(len(numbers), 1, dtype=torch.float64)], dim=1)
    held = RIDGE * len(sigmas) * torch.eye(known.shape[1], dtype=torch.float64)
    found = torch.linalg.solve(known.T @ known + held, known.T @ wanted)
    first.weight.copy_(found[:-1].T)
    first.bias.copy_(found[-1])
