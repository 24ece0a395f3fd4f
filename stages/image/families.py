"""The families of networks for pictures, and where ControlNeXt joins each.

| family | network | joins | order |
|---|---|---|---|
| `sdxl` | UNet of SDXL | what enters `down_blocks[0]` | normalize, pool |
| `sd15` | UNet of SD1.5, the published weights | what leaves `mid_block` | pool, normalize |
| `sd15-v2` | UNet of SD1.5, the newer training code | what leaves `down_blocks[0]` | pool, normalize |
| `sd3` | transformer of SD3 | the tokens that leave a joint block | normalize, pool |

Nothing was published for SD3: that line is our definition. Skip connections keep the value without control.
In all of them the control takes over mean and deviation of the hidden state, per sample over all else, and is
added once.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from diffusers.models.transformers.transformer_sd3 import SD3Transformer2DModel
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor, nn

from ..control import Injection, InputInjection, Join, OutputInjection
from ..controlnext.inject import add_control
from ..controlnext.model import ControlNeXt
from ..errors import ConfigError

Family = Literal["sdxl", "sd15", "sd15-v2", "sd3"]

EPSILON = 1e-12
"""Added to the control's standard deviation by the published code for pictures."""
SD3_BLOCK = 0
"""Index of the joint block whose tokens the control joins; see docs/images.md for what was measured."""

STEMMED: dict[str, Any] = {"stem_padding": 1}
"""What the published modules of SDXL and of the newer SD1.5 code set beside ControlNeXt's defaults."""
PUBLISHED_SD15: dict[str, Any] = {
    "in_channels": (3, 128, 256),
    "out_channels": (128, 256, 256),
    "groups": (1, 8, 8),
    "stem_channels": None,
    "mid_groups": None,
    "control_channels": 1280,
    "learned_scale": True,
}
"""What the published module of SD1.5 sets: no stem, no norm no shortcut in the middle, a learned scale."""


@dataclass(frozen=True, slots=True)
class Place:
    """What a network asks of a control module."""

    family: Family
    channels: int
    """Channels of the hidden state that the control joins."""
    patch_size: int = 1
    """Side of the squares of latents that are one token."""


def place_for(network: nn.Module, learned_scale: bool = False) -> Place:
    """What a network asks of its module; of SD1.5's, of the published one if that has a learned scale.

    The published modules of SDXL and SVD, and that of the newer SD1.5 code, have the same names and shapes:
    the network decides. ConfigError for a network of another kind.
    """
    config: Any = getattr(network, "config", {})
    if isinstance(network, SD3Transformer2DModel):
        width = config["attention_head_dim"] * config["num_attention_heads"]
        return Place("sd3", width, config["patch_size"])
    if not isinstance(network, UNet2DConditionModel):
        raise ConfigError(
            f"ControlNeXt for pictures joins a UNet2DConditionModel or an SD3Transformer2DModel, not a "
            f"{type(network).__name__}: give a base of SD1.5, SDXL or SD3"
        )
    widths = config["block_out_channels"]
    if config["addition_embed_type"] == "text_time":
        return Place("sdxl", widths[0])
    return Place("sd15", widths[-1]) if learned_scale else Place("sd15-v2", widths[0])


def family_of(network: nn.Module, module: ControlNeXt) -> Family:
    """The family of a network and its module; ConfigError where the two do not belong together."""
    learned = bool(module.config["learned_scale"])
    place = place_for(network, learned)
    channels, patch = module.config["control_channels"], module.config["patch_size"]
    if (channels, patch) != (place.channels, place.patch_size) or (learned and place.family != "sd15"):
        scale = "with a learned scale" if learned else "without a learned scale"
        raise ConfigError(
            f"this control module ({channels} channels, patches of {patch}, {scale}) is not of this "
            f"{place.family} network ({place.channels} channels, patches of {place.patch_size}): take the "
            "module that was trained on this base"
        )
    return place.family


def inject(
    network: nn.Module, module: ControlNeXt, strength: float = 1.0, block: int = SD3_BLOCK
) -> Injection:
    """Prepare an unmodified diffusers network to receive the module's features, until `Injection.detach`.

    `strength` scales what joins it, times the module's learned scale where it has one. `block` is the joint
    block whose tokens the control joins in SD3; -1 stands for the tokens that enter the first.
    """
    family = family_of(network, module)
    if family == "sdxl":
        join = partial(add_control, strength=strength, eps=EPSILON)
        return InputInjection(network.get_submodule("down_blocks.0"), join)
    if family == "sd15":
        return OutputInjection(network.get_submodule("mid_block"), _learned(module, strength))
    if family == "sd15-v2":
        join = partial(add_control, strength=strength, eps=EPSILON, pool_first=True)
        return OutputInjection(network.get_submodule("down_blocks.0"), join)
    return TokenInjection(network, partial(add_control, strength=strength, eps=EPSILON), block)


def _learned(module: ControlNeXt, strength: float) -> Join:
    """The join of published SD1.5, by the scale that the module has when it is called."""

    def join(hidden: Tensor, control: Tensor, scale: float | Tensor) -> Tensor:
        return add_control(hidden, control, scale, strength * module.scale, EPSILON, pool_first=True)

    return join


class TokenInjection(Injection):
    """Control features that join the image tokens of an SD3 transformer, after one of its blocks.

    Tokens [N, T, C] are taken for the picture [N, C, h, w] that they are, row by row. A token is a square of
    latents, and the control module's last convolution makes one vector of each such square.
    """

    def __init__(self, transformer: nn.Module, join: Join, block: int) -> None:
        super().__init__()
        self._join = join
        self._patch = int(transformer.get_submodule("pos_embed").patch_size)  # pyright: ignore[reportArgumentType]
        self._grid = (0, 0)
        blocks = transformer.get_submodule("transformer_blocks")
        if not -1 <= block < len(blocks) - 1:  # pyright: ignore[reportArgumentType]
            last = len(blocks) - 2  # pyright: ignore[reportArgumentType]
            raise ConfigError(f"the control cannot join block {block}: choose one from -1 to {last}")
        embed = transformer.get_submodule("pos_embed")
        self.hooks.append(embed.register_forward_pre_hook(self._look))
        if block < 0:
            self.hooks.append(embed.register_forward_hook(self._after_embedding))
        else:
            joined = transformer.get_submodule(f"transformer_blocks.{block}")
            self.hooks.append(joined.register_forward_hook(self._after_block))

    def _look(self, module: nn.Module, args: tuple[Tensor, ...]) -> None:
        height, width = args[0].shape[-2:]
        self._grid = height // self._patch, width // self._patch

    def _after_embedding(self, module: nn.Module, args: object, output: Tensor) -> Tensor:
        return self.joined(output, self._join_tokens)

    def _after_block(
        self, module: nn.Module, args: object, output: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, Tensor]:
        text, tokens = output
        return text, self.joined(tokens, self._join_tokens)

    def _join_tokens(self, tokens: Tensor, control: Tensor, scale: float | Tensor) -> Tensor:
        picture = tokens.transpose(1, 2).unflatten(2, self._grid)
        return self._join(picture, control, scale).flatten(2).transpose(1, 2)


def new_module(network: nn.Module, **changes: Any) -> ControlNeXt:
    """A ControlNeXt with random weights that fits a network, with the layers of SDXL's.

    `changes` are its config's, for narrower ones. Seed torch first. ConfigError for another kind of network.
    """
    place = place_for(network)
    fitting = {"control_channels": place.channels, "patch_size": place.patch_size}
    return ControlNeXt(**{**STEMMED, **fitting, **changes})
