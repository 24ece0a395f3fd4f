"""Take a trained model over to pictures of twice the size, with the VAE that it has.

Latents are then twice as large too. The UNet gets one more level around the one it has, which works on their
averages, and ControlNeXt one more halving.
"""

import itertools
import math
from typing import Any, cast

import torch
from diffusers.models.embeddings import TimestepEmbedding, Timesteps
from diffusers.models.resnet import ResnetBlock2D
from torch import Tensor, nn

from ...stages.controlnext.model import ControlNeXt
from ...stages.errors import ConfigError
from ...stages.svd.files.norms import norm_groups, set_norm_groups
from ...stages.svd.levers.temporal import silence_temporal
from .start import BILINEAR, silence_residuals

QUIETER = math.sqrt(2.0)
"""What averages of noisy latents are raised by: those of much noise, scaled to deviation 1, have half of it
left, those of little all of it."""


@torch.no_grad()
def finer_unet(known: Any) -> Any:
    """A UNet, in float32, for latents of twice the size: one level more, around a `known` UNet of one level.

    It starts by saying of latents about what `known` says of their averages over 2 x 2, in each of the four
    places: the last convolution alone looks half as far. (Stretched, so that results average to the known
    ones, the first loss was 4.0 instead of 1.2, with another VAE.) The control joins where the inner level
    begins, and no longer where it ended. Averages have half the noise, so it is told half the noise level
    (`told_half`). ConfigError where `known` has several levels, or less than four channels for each that goes
    in.
    """
    config = dict(known.config)
    if len(config["block_out_channels"]) > 1:
        levels = len(config["block_out_channels"])
        raise ConfigError(f"the UNet has {levels} levels: only one of a single level can be made finer")
    (width,), layers = config["block_out_channels"], config["layers_per_block"]
    if width < 4 * config["in_channels"]:
        raise ConfigError(
            f"the UNet has {width} channels: it takes {4 * config['in_channels']} to be made finer"
        )
    config |= {
        "block_out_channels": (width, width),
        "layers_per_block": (1, layers),
        "down_block_types": ("DownBlockSpatioTemporal", *config["down_block_types"]),
        "up_block_types": (*config["up_block_types"], "UpBlockSpatioTemporal"),
        "num_attention_heads": tuple(config["num_attention_heads"]) * 2,
    }
    grown: Any = type(known).from_config(config)
    set_norm_groups(grown, cast(int, norm_groups(known)))
    for block in (grown.down_blocks[0], grown.up_blocks[1]):
        silence_residuals(block)
        silence_temporal(block)
    state = dict(grown.state_dict())
    for name, value in known.state_dict().items():
        if not name.startswith("conv_in."):
            state[name.replace("down_blocks.0.", "down_blocks.1.", 1)] = value
    grown.load_state_dict(state, strict=True)
    entry, halving = grown.conv_in, grown.down_blocks[0].downsamplers[0].conv
    doubling = grown.up_blocks[0].upsamplers[0].conv
    for module in (entry, halving, doubling):
        nn.init.zeros_(module.weight)
        nn.init.zeros_(module.bias)
    halving.bias.copy_(known.conv_in.bias)
    gain = torch.ones(known.conv_in.in_channels)
    gain[: known.config["out_channels"]] = QUIETER
    kernel = _averaged_first(known.conv_in.weight * gain[:, None, None])
    for c, y, x in itertools.product(range(known.conv_in.in_channels), range(2), range(2)):
        channel = 4 * c + 2 * y + x
        entry.weight[channel, c, 2 * y, 2 * x] = 1.0
        halving.weight[:, channel] = kernel[:, c, y, :, x]
    doubling.weight[range(width), range(width), 1, 1] = 1.0
    for resnet in grown.up_blocks[1].resnets:
        shortcut = resnet.spatial_res_block.conv_shortcut
        nn.init.zeros_(shortcut.weight)
        nn.init.zeros_(shortcut.bias)
        shortcut.weight[range(width), range(width), 0, 0] = 1.0
    told_half(grown.time_embedding, grown.time_proj)
    return grown.eval()


def _averaged_first(weight: Tensor) -> Tensor:
    """The kernel [C, D, 2, 3, 2, 3] that makes of latents what `weight` [C, D, 3, 3] makes of their averages.

    The axes: channel, then for rows and for columns which of two neighbours (before, after) the entry took,
    and the tap of the halving.
    """
    taps = torch.zeros(2, 3, 3)  # neighbour, tap of the halving, tap of `weight`
    taps[0, :2, 0] = 0.5
    taps[0, 2, 1] = taps[1, 1, 1] = 0.5
    taps[1, 2, 2] = 1.0  # twice the nearer row, since the farther one is out of sight
    return torch.einsum("kcij,ati,buj->kcatbu", weight, taps, taps)


@torch.no_grad()
def told_half(embedding: TimestepEmbedding, projection: Timesteps) -> None:
    """Make a time embedding say of a noise level what it said of half of it.

    Of 0.25 ln sigma it sees cosines and sines, which turn by the frequency times 0.25 ln 2.
    """
    half = projection.num_channels // 2
    frequencies = torch.exp(-math.log(10_000) * torch.arange(half) / (half - projection.downscale_freq_shift))
    turn = frequencies * 0.25 * math.log(2)
    weight = embedding.linear_1.weight
    first, second = weight[:, :half].clone(), weight[:, half:].clone()
    if not projection.flip_sin_to_cos:
        first, second = second, first
    cosine = first * turn.cos() - second * turn.sin()
    sine = first * turn.sin() + second * turn.cos()
    weight.copy_(torch.cat([cosine, sine] if projection.flip_sin_to_cos else [sine, cosine], dim=1))


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
