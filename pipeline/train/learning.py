"""Which parameters learn: ControlNeXt's always, the UNet's by name patterns, or LoRA weights on those."""

from collections.abc import Iterator
from fnmatch import fnmatch

from torch import nn

from ...stages.errors import ConfigError
from ...stages.svd.files.lora import add_lora, is_lora
from ...stages.svd.levers.temporal import is_temporal

LEARNING: dict[str, tuple[str, ...]] = {
    "none": (),
    "to_out+to_v": ("*.to_out.*", "*.to_v.*"),
    "temporal": ("*temporal*", "*time_mixer*", "*time_pos_embed*"),
    "all": ("*",),
}
"""Name patterns of the UNet's parameters that learn; ControlNeXt's always do."""


def unused(name: str) -> bool:
    """Whether a parameter cannot matter: the queries and keys of attention to a single token."""
    return any(part in name for part in (".attn2.to_q.", ".attn2.to_k.", ".norm2.")) and "resnets" not in name


def chosen(name: str, learn: str, video: bool) -> bool:
    """Whether the UNet's parameter `name` belongs to a choice; temporal ones only where clips are learned."""
    named = any(fnmatch(name, pattern) for pattern in LEARNING[learn])
    return named and (video or not is_temporal(name)) and not unused(name)


def put_lora_on(unet: nn.Module, learn: str, video: bool, rank: int) -> None:
    """LoRA weights on the chosen linear and convolutional layers. Seed torch first. ConfigError for none."""
    layers = [
        name
        for name, module in unet.named_modules()
        if isinstance(module, nn.Linear | nn.Conv2d) and chosen(f"{name}.weight", learn, video)
    ]
    if not layers:
        raise ConfigError(f"learn {learn} names no layer for LoRA weights: take to_out+to_v, temporal or all")
    add_lora(unet, layers, rank)


def learning_of(unet: nn.Module, learn: str, video: bool) -> Iterator[tuple[str, nn.Parameter]]:
    """The UNet's parameters that learn, by name: its LoRA weights if it has them. The others are at rest."""
    lora = any(is_lora(name) for name, _ in unet.named_parameters())
    for name, parameter in unet.named_parameters():
        learns = is_lora(name) if lora else chosen(name, learn, video)
        parameter.requires_grad_(learns)
        if learns:
            yield name, parameter
