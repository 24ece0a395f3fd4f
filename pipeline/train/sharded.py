"""The UNet cut over the processes of a training: torch's FSDP2, as accelerate's config asks for it.

Each process holds its part of every weight, and of its gradient, moments and average; the weights of a block
are gathered while it works (Zhao et al., "PyTorch FSDP", 2023, arXiv:2304.11277). accelerate reads its own
config here, but cuts nothing on a CPU, so it is torch's `fully_shard` that cuts, on any device. All processes
must call a cut network alike, and what gathers its tensors; the control module is called in parts, which
`fully_shard` does not see, and stays whole.
"""

import math
import os
from collections.abc import Iterable
from typing import Any

import torch
from accelerate import FullyShardedDataParallelPlugin
from diffusers.models.unets.unet_spatio_temporal_condition import UNetSpatioTemporalConditionModel
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import CPUOffloadPolicy, FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from ...stages.errors import ConfigError
from ...stages.svd.files.norms import set_norm_groups
from ...stages.svd.levers.checkpointing import BLOCKS
from .loop_config import LoopConfig

ASKED = "ACCELERATE_USE_FSDP"
"""What `accelerate launch` sets for its processes where its config asks for FSDP."""


def is_asked() -> bool:
    """Whether accelerate's config asks for FSDP."""
    return os.environ.get(ASKED, "").lower() in ("true", "1", "yes")


def cut(network: nn.Module, config: LoopConfig, processes: int) -> None:
    """Cut a network, which lies whole on this process's device, over all processes; in place.

    Heeded of accelerate's `fsdp_config`: `fsdp_version`, which must be 2, `fsdp_reshard_after_forward`,
    `fsdp_offload_params` and `fsdp_transformer_layer_cls_to_wrap`, the classes of the blocks that are cut
    apart; without it the residual blocks and transformers of an SVD UNet. Raises ConfigError for what does
    not go with it.
    """
    plugin: Any = FullyShardedDataParallelPlugin()
    wrong = {
        f"fsdp_version: {plugin.fsdp_version}": plugin.fsdp_version != 2,
        "fsdp_activation_checkpointing": plugin.activation_checkpointing,
        "loop.precision: fp16": config.precision == "fp16",
        "loop.eight_bit": config.eight_bit,
    }
    for name, given in wrong.items():
        if given:
            raise ConfigError(
                f"{name} does not go with a UNet that is cut over {processes} processes: give accelerate "
                "fsdp_version: 2, and use gradient_checkpointing and loop.precision bf16 for less memory"
            )
    options: dict[str, Any] = {
        "mesh": init_device_mesh(next(network.parameters()).device.type, (processes,)),
        "reshard_after_forward": plugin.reshard_after_forward,
    }
    if isinstance(plugin.cpu_offload, CPUOffloadPolicy):
        options["offload_policy"] = plugin.cpu_offload
    for block in blocks_of(network, plugin.transformer_cls_names_to_wrap):
        fully_shard(block, **options)
    fully_shard(network, **options)


def is_cut(network: nn.Module) -> bool:
    """Whether `cut` cut it."""
    return isinstance(network, FSDPModule)


def blocks_of(network: nn.Module, names: list[str] | None = None) -> list[nn.Module]:
    """The modules of a network that are cut and gathered each by itself. Raises ConfigError for none."""
    found = [
        module
        for module in network.modules()
        if (type(module).__name__ in names if names else isinstance(module, BLOCKS))
    ]
    if not found:
        named = ", ".join(names or [block.__name__ for block in BLOCKS])
        raise ConfigError(
            f"{type(network).__name__} has no module of class {named}: leave "
            "fsdp_transformer_layer_cls_to_wrap out of accelerate's config"
        )
    return found


def whole(tensor: Tensor) -> Tensor:
    """A tensor as one process would have it: gathered where it is cut, which all processes must call."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def like(tensor: Tensor, other: Tensor) -> Tensor:
    """A whole tensor, which each process has, cut as `other` is; on its device."""
    if not isinstance(other, DTensor):
        return tensor.to(other.device)
    return distribute_tensor(tensor, other.device_mesh, other.placements, src_data_rank=None)


def uncut(
    unet: UNetSpatioTemporalConditionModel, groups: int, main: bool
) -> UNetSpatioTemporalConditionModel:
    """A UNet as it was before `cut`, with its weights, on the CPU of the main process.

    On the others it stays cut. All processes must call it. Levers stay on the cut one. `groups` are those of
    its norms.
    """
    state = {}
    for name, tensor in unet.state_dict().items():
        gathered = whole(tensor)
        if main:
            state[name] = gathered.cpu()
    if not main:
        return unet
    with torch.device("meta"):
        plain: Any = UNetSpatioTemporalConditionModel.from_config(unet.config)
    plain.load_state_dict(state, strict=True, assign=True)
    set_norm_groups(plain, groups)
    return plain.eval()


def clip_gradients(parameters: Iterable[nn.Parameter], limit: float) -> float:
    """Scale all gradients so that their norm is at most `limit`; returns what it was.

    Those of cut and of whole parameters are taken apart: torch does not mix them.
    """
    given = [p for p in parameters if p.grad is not None]
    kinds = [[p for p in given if isinstance(p, DTensor) is cut] for cut in (False, True)]
    norms = [
        float(whole(torch.nn.utils.get_total_norm([p.grad for p in kind if p.grad is not None])))
        for kind in kinds
    ]
    norm = math.hypot(*norms)
    for kind in kinds:
        torch.nn.utils.clip_grads_with_norm_(kind, limit, torch.tensor(norm))
    return norm
