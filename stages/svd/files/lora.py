"""LoRA weights on top of the UNet, by peft: new ones to train, or loaded ones with a scale; taken off again.

Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", 2021 (arXiv:2106.09685): a layer's weight W
acts as W + scale * alpha / rank * B A.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from ...errors import ConfigError, WeightsError
from .lora_alpha import PEFT_PREFIX, UNET_PREFIX, told_alphas
from .weights import LISTED, read_weights, save_tensors

ADAPTER = "lora"
"""Name under which peft holds the weights."""
PAIRS = {
    ".lora_A.weight": "A",
    ".lora_B.weight": "B",
    ".lora.down.weight": "A",
    ".lora.up.weight": "B",
    ".alpha": "alpha",
}
"""Endings of keys in peft's and in diffusers' older format, and what they hold."""


def load_lora(unet: nn.Module, path: Path, scale: float = 1.0) -> int:
    """Put the LoRA weights of `path` (safetensors) on a diffusers UNet; returns how many layers they change.

    Every key must belong to a linear or convolutional layer of the UNet, under its name there, with or
    without `unet.` or peft's `base_model.model.` before it. Where alpha is looked for: lora_alpha.py. Raises
    WeightsError that lists keys which do not, and ConfigError where LoRA weights are loaded already.
    """
    from diffusers.utils.peft_utils import set_weights_and_activate_adapters
    from peft import LoraConfig, inject_adapter_in_model, set_peft_model_state_dict

    if has_lora(unet):
        raise ConfigError("LoRA weights are loaded already: unload them before others are loaded")
    state = read_weights(path)
    layers = layers_of(state, unet, path)
    ranks = {name: len(parts["A"]) for name, parts in layers.items()}
    of_tensors = {name: parts["alpha"].item() for name, parts in layers.items() if "alpha" in parts}
    of_peft = any(key.startswith(PEFT_PREFIX) for key in state)
    untold = {name: rank for name, rank in ranks.items() if name not in of_tensors}
    alphas = ranks | told_alphas(path, untold, of_peft) | of_tensors
    config = LoraConfig(
        target_modules=list(layers), rank_pattern=ranks, alpha_pattern=alphas, init_lora_weights=False
    )
    inject_adapter_in_model(config, unet, ADAPTER)
    weights = {
        f"{name}.lora_{part}.weight": parts[part] for name, parts in layers.items() for part in ("A", "B")
    }
    set_peft_model_state_dict(unet, weights, ADAPTER)
    set_weights_and_activate_adapters(unet, [ADAPTER], [scale])
    unet.eval().requires_grad_(False)
    return len(layers)


def add_lora(unet: nn.Module, layers: Sequence[str], rank: int) -> None:
    """Put new LoRA weights on layers of a UNet, which acts as before until they learn (B is 0).

    A is drawn from torch's global generator. Every layer must be linear or convolutional.
    """
    from peft import LoraConfig, inject_adapter_in_model

    config = LoraConfig(r=rank, lora_alpha=rank, target_modules=list(layers))
    inject_adapter_in_model(config, unet, ADAPTER)


def is_lora(name: str) -> bool:
    """Whether a parameter of this name is a LoRA weight."""
    return ".lora_A." in name or ".lora_B." in name


def save_lora(unet: nn.Module, path: Path) -> None:
    """Write the LoRA weights of a UNet as float16 safetensors that `load_lora` reads."""
    state = {
        name.replace(f".{ADAPTER}.weight", ".weight"): parameter.detach()
        .to("cpu", torch.float16)
        .contiguous()
        for name, parameter in unet.named_parameters()
        if is_lora(name)
    }
    save_tensors(path, state)


def merge_lora(unet: nn.Module) -> None:
    """Add the LoRA weights to the UNet's own for good, and remove them."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    for module in unet.modules():
        if isinstance(module, BaseTunerLayer):
            module.merge()
    unload_lora(unet)


def unload_lora(unet: nn.Module) -> None:
    """Remove the LoRA weights; the UNet's own layers are in place again, to the bit. Does nothing without."""
    from diffusers.utils.peft_utils import recurse_remove_peft_layers

    if not has_lora(unet):
        return
    recurse_remove_peft_layers(unet)
    del unet.peft_config


def has_lora(unet: nn.Module) -> bool:
    """Whether LoRA weights are loaded."""
    return hasattr(unet, "peft_config")


def layers_of(state: Mapping[str, Tensor], unet: nn.Module, source: Path) -> dict[str, dict[str, Tensor]]:
    """Tensors `A` [rank, in, ...], `B` [out, rank, ...] and perhaps `alpha` of each layer, by its name."""
    modules = dict(unet.named_modules())
    layers: dict[str, dict[str, Tensor]] = {}
    problems = []
    for key, value in state.items():
        ending = next((ending for ending in PAIRS if key.endswith(ending)), None)
        name = key.removeprefix(PEFT_PREFIX).removeprefix(UNET_PREFIX).removesuffix(ending or "")
        if ending is None or not isinstance(modules.get(name), nn.Linear | nn.Conv2d):
            problems.append(f"{key} is of no layer")
        else:
            layers.setdefault(name, {})[PAIRS[ending]] = value
    for name, parts in layers.items():
        if "A" not in parts or "B" not in parts:
            problems.append(f"{name} is incomplete")
        elif not _fits(modules[name], parts["A"], parts["B"]):
            problems.append(f"{name} is of another shape")
    if problems or not layers:
        listed = "; ".join(problems[:LISTED]) or "it is empty"
        more = f"; and {len(problems) - LISTED} more" if len(problems) > LISTED else ""
        raise WeightsError(f"{source} holds no LoRA weights for {type(unet).__name__}: {listed}{more}")
    return layers


def _fits(layer: nn.Module, down: Tensor, up: Tensor) -> bool:
    if isinstance(layer, nn.Linear):
        return (down.shape[1:], up.shape) == ((layer.in_features,), (layer.out_features, len(down)))
    assert isinstance(layer, nn.Conv2d)
    shape = (layer.in_channels, *layer.kernel_size)
    return (down.shape[1:], up.shape) == (shape, (layer.out_channels, len(down), 1, 1))
