"""How large the ways of control are at the published size: counted on networks without weights."""

from fnmatch import fnmatch
from typing import Any

import torch
from diffusers.models.unets.unet_spatio_temporal_condition import UNetSpatioTemporalConditionModel
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from ....stages.controlnext.model import ControlNeXt
from ....stages.svd.levers.collapse import collapse
from ....stages.svd.sizes import SVD_UNET
from ...train.learning import LEARNING
from .controlnet import ControlNet


def published_size(width: int = 576, height: int = 1024, num_frames: int = 24) -> dict[str, Any]:
    """Parameters, and TFLOP (2 x MAC) of one sampling step of a window, of SVD and both ways of control."""
    with torch.device("meta"):
        unet = UNetSpatioTemporalConditionModel(**SVD_UNET)  # pyright: ignore[reportArgumentType]
        controlnext, controlnet = ControlNeXt(), ControlNet(unet)
        frames = torch.empty(1, num_frames, 3, height, width)
        sample = torch.empty(1, num_frames, 8, height // 8, width // 8)
        timestep, ids = torch.empty(1), torch.empty(1, 3)
        token = torch.empty(1, 1, unet.config["cross_attention_dim"])
    for network in (unet, controlnext, controlnet):
        nn.Module.to(network, device="meta")  # some scalars ignore the default device
    collapse(unet)
    collapse(controlnet.encoder)

    def with_controlnet() -> None:
        controlnet.encoder(sample, timestep, token, ids, hint=controlnet(frames))

    patterns = LEARNING["to_out+to_v"]
    chosen = [p for name, p in unet.named_parameters() if any(fnmatch(name, q) for q in patterns)]
    return {
        "unet_parameters": parameters(unet.parameters()),
        "selected_parameters": parameters(chosen),
        "controlnext_parameters": parameters(controlnext.parameters()),
        "controlnet_parameters": parameters(controlnet.parameters()),
        "unet_tflop": tflop(lambda: unet(sample, timestep, token, ids)),
        "controlnext_tflop": tflop(lambda: controlnext(frames, timestep)),
        "controlnet_tflop": tflop(with_controlnet),
    }


def parameters(chosen: Any) -> int:
    return sum(p.numel() for p in chosen)


def tflop(run: Any) -> float:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        run()
    return counter.get_total_flops() / 1e12
