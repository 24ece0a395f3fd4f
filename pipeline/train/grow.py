"""Take a trained model over to pictures of twice the size, on the same grid of latents.

The finer VAE's latents are turned so that the first of them are those that the model knows. The UNet gets
inputs and outputs for the others that start as nothing, and ControlNeXt one more halving: so the grown model
starts where the smaller one was, and learns the details.
"""

from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl_temporal_decoder import AutoencoderKLTemporalDecoder
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.unets.unet_spatio_temporal_condition import UNetSpatioTemporalConditionModel
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from ...stages.controlnext.model import ControlNeXt
from ...stages.errors import ConfigError
from ...stages.svd.files.norms import set_norm_groups
from .start import BILINEAR


def turn_towards(fine: Tensor, known: Tensor) -> Tensor:
    """The linear map [C, C] after which the first channels of `fine` [C, N] are most like `known` [K, N].

    Those are the least squares' fit; the other C - K are what is left of `fine`, uncorrelated with them,
    along its principal axes and scaled as a whole to the mean square of `known`.
    """
    moments = fine @ fine.T / fine.shape[1]
    first = torch.linalg.solve(moments, fine @ known.T / fine.shape[1]).T
    told = moments @ first.T @ torch.linalg.inv(first @ moments @ first.T) @ first
    left = torch.eye(len(fine), dtype=fine.dtype) - told  # what the first channels do not tell of `fine`
    _, axes = torch.linalg.eigh(left @ moments @ left.T)
    rest = axes[:, len(known) :].T.flip(0) @ left
    scale = known.square().mean() / (rest @ moments @ rest.T).diagonal().mean()
    return torch.cat([first, scale.sqrt() * rest])


@torch.no_grad()
def turn_latents(
    vae: AutoencoderKLTemporalDecoder, known: AutoencoderKLTemporalDecoder, images: Tensor
) -> float:
    """Turn the latents of `vae`, in place, towards those that `known` has of the same pictures at half size.

    `images` [N, 3, H, W] in -1..1. What it decodes stays the same. It takes over the scaling factor. Returns
    which share of the variance of the known latents it has. ConfigError where it has too few channels.
    """
    count, wanted = vae.config["latent_channels"], known.config["latent_channels"]
    if count < wanted:
        raise ConfigError(f"{count} latent channels cannot hold {wanted} others: give more latent_channels")
    halves = F.interpolate(images, scale_factor=0.5, mode="area")
    fine, coarse = (
        torch.cat([_modes(one, picture[None]) for picture in pictures], 1).double()
        for one, pictures in ((vae, images), (known, halves))
    )
    turn = turn_towards(fine, coarse)
    quant: Any = vae.quant_conv
    entry: Any = vae.decoder.conv_in
    mean = quant.weight[:count, :, 0, 0].double()
    quant.weight[:count, :, 0, 0] = (turn @ mean).to(quant.weight)
    quant.bias[:count] = (turn @ quant.bias[:count].double()).to(quant.bias)
    back = torch.linalg.inv(turn)
    entry.weight.copy_(torch.einsum("oiyx,ij->ojyx", entry.weight.double(), back))
    vae.register_to_config(scaling_factor=known.config["scaling_factor"])
    missed = (turn[:wanted] @ fine - coarse).square().mean() / coarse.square().mean()
    return 1 - float(missed)


def _modes(vae: AutoencoderKLTemporalDecoder, pictures: Tensor) -> Tensor:
    """Latents [C, N h w] of pictures, each in turn."""
    return rearrange(vae.encode(pictures, return_dict=False)[0].mode(), "n c h w -> c (n h w)")


@torch.no_grad()
def widened_unet(
    unet: UNetSpatioTemporalConditionModel, latents: int, norm_groups: int
) -> UNetSpatioTemporalConditionModel:
    """The same UNet for `latents` channels, of which the first are those that it knows; it tells nothing of
    the others yet."""
    known: int = unet.config["out_channels"]
    if latents == known:
        return unet
    config = dict(unet.config) | {"in_channels": 2 * latents, "out_channels": latents}
    grown: Any = UNetSpatioTemporalConditionModel.from_config(config)
    set_norm_groups(grown, norm_groups)
    state = dict(unet.state_dict())
    entry, leave = torch.zeros_like(grown.conv_in.weight), torch.zeros_like(grown.conv_out.weight)
    entry[:, :known] = state["conv_in.weight"][:, :known]
    entry[:, latents : latents + known] = state["conv_in.weight"][:, known:]
    leave[:known] = state["conv_out.weight"]
    bias = torch.zeros(latents)
    bias[:known] = state["conv_out.bias"]
    grown.load_state_dict(
        state | {"conv_in.weight": entry, "conv_out.weight": leave, "conv_out.bias": bias}, strict=True
    )
    return grown.eval()


@torch.no_grad()
def deepened_controlnext(module: ControlNeXt) -> ControlNeXt:
    """The same ControlNeXt for control frames of twice the size.

    Between its stem and its first block come a residual block that starts as nothing, and a halving that
    starts as an average.
    """
    width: int = module.config["in_channels"][0]
    groups: int = module.config["groups"][0]
    config = dict(module.config)
    for name, first in (("in_channels", width), ("out_channels", width), ("groups", groups)):
        config[name] = (first, *config[name])
    grown: Any = ControlNeXt.from_config(config)
    state = dict(grown.state_dict())
    for name, value in module.state_dict().items():
        room, _, rest = name.partition(".")
        index, _, inner = rest.partition(".")
        moved = f"{room}.{int(index) + 1}.{inner}" if room in ("down_res", "down_sample") else name
        state[moved] = value
    grown.load_state_dict(state, strict=True)
    block: ResnetBlock2D = grown.down_res[0]
    nn.init.zeros_(block.conv2.weight)
    nn.init.zeros_(block.conv2.bias)  # pyright: ignore[reportArgumentType]
    halving = grown.down_sample[0].conv
    nn.init.zeros_(halving.weight)
    nn.init.zeros_(halving.bias)
    for channel in range(width):
        halving.weight[channel, channel] = torch.outer(BILINEAR, BILINEAR)
    return grown.eval()
