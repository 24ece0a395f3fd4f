"""Where small networks start learning: the VAE as a linear codec, the UNet as "return the reference".

Signals pass SiLU as a pair of channels of opposite sign, for silu(x) - silu(-x) = x, and pass a GroupNorm of
one group beside constant channels, whose variance outweighs theirs.
"""

import math
from typing import Any, cast

import torch
from diffusers.models.autoencoders.autoencoder_kl_temporal_decoder import AutoencoderKLTemporalDecoder
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.transformers.transformer_temporal import TransformerSpatioTemporalModel
from diffusers.models.unets.unet_spatio_temporal_condition import UNetSpatioTemporalConditionModel
from einops import rearrange
from torch import Tensor, nn

from ...stages.errors import ConfigError
from ...stages.svd.levers.temporal import silence_temporal

SIGNAL = 1.0
"""How large a signal of unit deviation enters a norm."""
CONSTANT = 8.0
"""Magnitude of the two constant channels beside it. Few and large ones learn slower than many small ones."""
LOG_VARIANCE = -5.0
"""The posterior's at the start."""
BILINEAR = torch.tensor([0.25, 0.5, 0.25])
"""After a nearest upsampling by 2, this makes it a linear interpolation."""


@torch.no_grad()
def silence_residuals(model: nn.Module) -> None:
    """Zero the last convolution of every residual block, and the VAE's attention: each is its shortcut."""
    for name, module in model.named_modules():
        if isinstance(module, ResnetBlock2D):
            nn.init.zeros_(cast(nn.Conv2d, module.conv2).weight)
            nn.init.zeros_(cast(Tensor, cast(nn.Conv2d, module.conv2).bias))
        elif name.endswith("to_out.0") and isinstance(module, nn.Linear):
            nn.init.zeros_(module.weight)
            nn.init.zeros_(module.bias)


def principal_blocks(images: Tensor, factor: int, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """The `count` strongest components of factor x factor blocks of `images` [N, 3, H, W] in -1..1.

    Returns (components [count, 3 * factor * factor], orthonormal; their deviations [count]; the mean block).
    """
    blocks = rearrange(images, "n c (h p) (w q) -> (n h w) (c p q)", p=factor, q=factor)
    mean = blocks.mean(0)
    _, values, vectors = torch.linalg.svd(torch.cov((blocks - mean).T))
    return vectors[:count], values[:count].sqrt(), mean


@torch.no_grad()
def start_vae_as_linear_codec(vae: AutoencoderKLTemporalDecoder, images: Tensor) -> None:
    """Set a VAE to encode the principal components of blocks, in place: of 4 x 4 pixels with three levels, of
    8 x 8 with four.

    The decoder starts with the interpolated mean colours. `images` [N, 3, H, W] in -1..1, of the training
    data. Component i gets deviation d_i / sqrt(d_i d_0), between whitened and natural, so that faint colour
    components are not drowned by noise. Expects GroupNorms of one group.
    """
    widths = vae.config["block_out_channels"]
    count = vae.config["latent_channels"]
    between = [3 * 4**level for level in range(1, len(widths) - 1)]  # what a block holds, as channels
    needed = (*between, 2 * count + 2)
    if len(widths) < 3 or any(width < least for width, least in zip(widths, needed, strict=False)):
        raise ConfigError(
            f"the linear start needs three levels or more, of at least {needed} channels: {widths}"
        )
    silence_temporal(vae)
    silence_residuals(vae)
    components, deviations, mean = principal_blocks(images, 2 ** (len(widths) - 1), count)
    scale = (deviations * deviations[0]).rsqrt()
    _start_encoder(vae, components * scale[:, None], mean)
    block = components / scale[:, None]  # z @ block = blocks - mean
    colour = rearrange(block, "k (c p) -> k c p", c=3).mean(-1)
    _start_decoder(vae, colour, rearrange(mean, "(c p) -> c p", c=3).mean(-1))
    nn.init.zeros_(vae.quant_conv.weight)
    nn.init.zeros_(cast(Tensor, vae.quant_conv.bias))
    vae.quant_conv.weight[:, :, 0, 0] = torch.eye(2 * count)


@torch.no_grad()
def start_unet_as_reference(
    unet: UNetSpatioTemporalConditionModel, latent_channels: int, scale: float
) -> None:
    """Wire the UNet, in place, to predict v = -scale * reference: at high noise it returns the reference.

    They pass conv_in, the outermost skip and the last shortcut as pairs of channels; all residual branches
    and temporal blocks start as nothing. The norm before the output divides by a deviation that is taken as
    1 here and is learned at once. `scale` is the VAE's scaling factor.
    """
    count = latent_channels
    silence_temporal(unet)
    silence_residuals(unet)
    for module in unet.modules():
        if isinstance(module, TransformerSpatioTemporalModel):
            nn.init.zeros_(module.proj_out.weight)
            nn.init.zeros_(module.proj_out.bias)
    nn.init.zeros_(unet.conv_in.weight[: 2 * count])
    assert unet.conv_in.bias is not None and unet.conv_out.bias is not None
    nn.init.zeros_(unet.conv_in.bias[: 2 * count])
    for i in range(count):
        unet.conv_in.weight[i, count + i, 1, 1] = scale
        unet.conv_in.weight[count + i, count + i, 1, 1] = -scale
    blocks = cast(Any, unet.up_blocks[-1])
    shortcut = blocks.resnets[-1].spatial_res_block.conv_shortcut
    width = unet.conv_in.out_channels
    nn.init.zeros_(shortcut.weight[: 2 * count])
    nn.init.zeros_(shortcut.bias[: 2 * count])
    skip = shortcut.in_channels - width
    for i in range(2 * count):
        shortcut.weight[i, skip + i] = 1.0
    _identity_norm(unet.conv_norm_out)
    nn.init.zeros_(unet.conv_out.weight)
    nn.init.zeros_(unet.conv_out.bias)
    for i in range(count):
        unet.conv_out.weight[i, i, 1, 1] = -1.0
        unet.conv_out.weight[i, count + i, 1, 1] = 1.0


def _start_encoder(vae: AutoencoderKLTemporalDecoder, analysis: Tensor, mean: Tensor) -> None:
    encoder: Any = vae.encoder
    count = len(analysis)
    _carry(encoder.conv_in, 3, 1, 1)
    *gathering, last = [block.downsamplers[0].conv for block in encoder.down_blocks[:-1]]
    carried = 3
    for block, conv in zip(encoder.down_blocks, gathering, strict=False):
        for resnet in block.resnets:
            _carry_shortcut(resnet, carried)
        _gather(conv, carried)
        carried *= 4
    for resnet in encoder.down_blocks[-2].resnets:
        _carry_shortcut(resnet, carried)
    for resnet in encoder.down_blocks[-1].resnets:
        _carry_shortcut(resnet, 2 * count + 2)
    # Row 4Y + 2 y1 + y0 of a block lies in channel (.. y0 .. y1 ..), at tap Y of the last halving.
    inner = range(len(gathering))
    rows, columns = (" ".join(f"{axis}{i}" for i in reversed(inner)) for axis in "yx")
    channels = " ".join(f"y{i} x{i}" for i in inner)
    sizes = {f"{axis}{i}": 2 for axis in "yx" for i in inner}
    pattern = f"k (c Y {rows} X {columns}) -> k (c {channels}) Y X"
    taps = rearrange(analysis, pattern, c=3, Y=2, X=2, **sizes)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    for row, sign in ((0, SIGNAL), (count, -SIGNAL)):
        last.weight[row : row + count, :carried, :2, :2] = sign * taps
        last.bias[row : row + count] = -sign * (analysis @ mean)
    spare = len(last.bias) - 2 * count
    last.bias[2 * count :] = _constants(spare)
    gain = _gain(len(last.bias)) / SIGNAL
    _identity_norm(encoder.conv_norm_out)
    nn.init.zeros_(encoder.conv_out.weight)
    nn.init.zeros_(encoder.conv_out.bias)
    for i in range(count):
        encoder.conv_out.weight[i, i, 1, 1] = gain
        encoder.conv_out.weight[i, count + i, 1, 1] = -gain
    encoder.conv_out.bias[count:] = LOG_VARIANCE


def _start_decoder(vae: AutoencoderKLTemporalDecoder, colour: Tensor, mean: Tensor) -> None:
    """`colour` [count, 3]: a block's mean colour from its latent; `mean` [3]."""
    decoder: Any = vae.decoder
    nn.init.zeros_(decoder.conv_in.weight[:3])
    decoder.conv_in.weight[:3, :, 1, 1] = colour.T
    assert decoder.conv_in.bias is not None
    decoder.conv_in.bias[:3] = mean
    blocks = list(decoder.up_blocks)
    for block in blocks:
        for resnet in block.resnets:
            _carry_shortcut(resnet.spatial_res_block, 3)
        if block.upsamplers is not None:
            conv = block.upsamplers[0].conv
            nn.init.zeros_(conv.weight[:3])
            nn.init.zeros_(conv.bias[:3])
            for i in range(3):
                conv.weight[i, i] = torch.outer(BILINEAR, BILINEAR)
    last = blocks[-1].resnets[0].spatial_res_block.conv_shortcut
    if last is None:
        raise ConfigError("the linear start needs a narrower first level than the second")
    nn.init.zeros_(last.weight)
    for i in range(3):
        last.weight[i, i] = SIGNAL
        last.weight[3 + i, i] = -SIGNAL
    spare = len(last.bias) - 6
    last.bias[:6] = 0.0
    last.bias[6:] = _constants(spare)
    gain = _gain(len(last.bias)) / SIGNAL
    _identity_norm(decoder.conv_norm_out)
    nn.init.zeros_(decoder.conv_out.weight)
    assert decoder.conv_out.bias is not None
    nn.init.zeros_(decoder.conv_out.bias)
    for i in range(3):
        decoder.conv_out.weight[i, i, 1, 1] = gain
        decoder.conv_out.weight[i, 3 + i, 1, 1] = -gain
    nn.init.zeros_(decoder.time_conv_out.weight)
    assert decoder.time_conv_out.bias is not None
    nn.init.zeros_(decoder.time_conv_out.bias)
    for i in range(3):
        decoder.time_conv_out.weight[i, i, 1, 0, 0] = 1.0


def _carry(conv: nn.Conv2d, count: int, y: int, x: int) -> None:
    """The first `count` channels of `conv` copy those of its input, at the tap (y, x)."""
    nn.init.zeros_(conv.weight[:count])
    for i in range(count):
        conv.weight[i, i, y, x] = 1.0
    assert conv.bias is not None
    nn.init.zeros_(conv.bias[:count])


def _gather(conv: nn.Conv2d, count: int) -> None:
    """A halving that keeps all: the four pixels (y, x) of channel c become the channels (c, y, x)."""
    nn.init.zeros_(conv.weight[: 4 * count])
    assert conv.bias is not None
    nn.init.zeros_(conv.bias[: 4 * count])
    for c in range(count):
        for y in range(2):
            for x in range(2):
                conv.weight[4 * c + 2 * y + x, c, y, x] = 1.0


def _carry_shortcut(resnet: ResnetBlock2D, count: int) -> None:
    if resnet.conv_shortcut is not None:
        _carry(cast(nn.Conv2d, resnet.conv_shortcut), count, 0, 0)


def _identity_norm(norm: nn.Module) -> None:
    assert isinstance(norm, nn.GroupNorm)
    nn.init.ones_(norm.weight)
    nn.init.zeros_(norm.bias)


def _constants(count: int) -> Tensor:
    """One positive and one negative constant, and zeros."""
    values = torch.zeros(count)
    values[:2] = torch.tensor([CONSTANT, -CONSTANT])
    return values


def _gain(channels: int) -> float:
    """Deviation over a norm's channels when two of them are the constants and the rest small."""
    return CONSTANT * math.sqrt(2 / channels)
