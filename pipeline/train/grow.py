"""Take a trained model over to pictures of twice the size, on the same grid of latents.

The VAE gets one more level and keeps its latents: those of the picture made half as large. So the UNet stays
as it is, and works from the start. ControlNeXt gets one more halving.
"""

import itertools
import re
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl_temporal_decoder import AutoencoderKLTemporalDecoder
from diffusers.models.resnet import ResnetBlock2D
from torch import Tensor, nn

from ...stages.controlnext.model import ControlNeXt
from ...stages.svd.files.norms import set_norm_groups
from ...stages.svd.levers.temporal import silence_temporal
from .start import BILINEAR, silence_residuals


@torch.no_grad()
def enlarged_vae(known: AutoencoderKLTemporalDecoder, norm_groups: int) -> AutoencoderKLTemporalDecoder:
    """A VAE of one level more, in float32, that starts with the latents that `known` has of the picture made
    half as large, and decodes them to about what `known` does, enlarged.

    The new level is as wide as the first of `known`. Its encoder is exact but for a row and a column: what
    `known` sees there of the picture, in a square of 6 pixels, the new level sees 5 of.
    """
    widths = known.config["block_out_channels"]
    width = widths[0]
    config = dict(known.config) | {
        "block_out_channels": (width, *widths),
        "down_block_types": ("DownEncoderBlock2D",) * (1 + len(widths)),
    }
    grown: Any = AutoencoderKLTemporalDecoder.from_config(config)
    set_norm_groups(grown, norm_groups)
    silence_residuals(grown)
    state = dict(grown.state_dict())
    for name, value in known.state_dict().items():
        if not name.startswith("encoder.conv_in."):
            level = re.match(r"encoder\.down_blocks\.(\d+)\.", name)
            if level is not None:
                name = f"encoder.down_blocks.{int(level[1]) + 1}.{name[level.end() :]}"
            state[name] = value.float()
    grown.load_state_dict(state, strict=True)
    silence_temporal(grown.decoder.up_blocks[-1])
    entry, halving = grown.encoder.conv_in, grown.encoder.down_blocks[0].downsamplers[0].conv
    first: Any = known.encoder.conv_in
    for module in (entry, halving):
        nn.init.zeros_(module.weight)
        nn.init.zeros_(module.bias)
    halving.bias.copy_(first.bias)
    kernel = _halved_first(first.weight.float())
    for c, y, x in itertools.product(range(3), range(2), range(2)):
        channel = 4 * c + 2 * y + x
        entry.weight[channel, c, 2 * y, 2 * x] = 1.0
        halving.weight[:, channel] = kernel[:, c, y, :, x]
    raise_by_two = grown.decoder.up_blocks[-2].upsamplers[0].conv
    nn.init.zeros_(raise_by_two.weight)
    nn.init.zeros_(raise_by_two.bias)
    for channel in range(width):
        raise_by_two.weight[channel, channel] = torch.outer(BILINEAR, BILINEAR)
    return grown.eval()


def _halved_first(weight: Tensor) -> Tensor:
    """The kernel [C, 3, 2, 3, 2, 3] that makes of a picture what `weight` [C, 3, 3, 3] makes of its averages.

    The axes: colour, then for rows and for columns which of two neighbours (before, after) the entry took,
    and the tap of the halving.
    """
    taps = torch.zeros(2, 3, 3)  # neighbour, tap of the halving, tap of `weight`
    taps[0, 0, 0] = 1.0  # twice the nearer row, since the farther one is out of sight
    taps[0, 1:, 1] = 0.5
    taps[1, 1:, 2] = 0.5
    return torch.einsum("kcij,ati,buj->kcatbu", weight, taps, taps)


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
