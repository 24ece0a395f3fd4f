"""How many bytes the activations of a training step take, counted on networks without weights.

The networks are on the meta device and nothing is computed: shapes alone say which tensors live in a step's
forward and backward pass.
"""

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from ...stages.svd.denoiser import Conditioning
from ...stages.svd.files.folder import build_network
from ...stages.svd.files.record import read_json
from ...stages.svd.levers.checkpointing import BLOCKS, checkpoint_blocks, checkpoint_whole
from ...stages.svd.levers.patch import Forward, Lever
from ...stages.svd.levers.temporal import without_temporal
from ...stages.svd.memory.footprint import LiveBytes
from ...stages.svd.sizes import SVD_IMAGE_ENCODER, SVD_UNET, SVD_VAE
from .model import DIFFUSERS_GROUPS, ModelConfig, Parts, new_controlnext, new_unet
from .optimizer import AUTOCAST
from .task import VideoTask

HALF = {F.linear, F.conv2d, F.conv3d, F.scaled_dot_product_attention}
FULL = {F.group_norm, F.layer_norm}
"""What autocast computes in 16 and in 32 bits on a GPU (torch's documentation of amp)."""


def meta_parts(config: ModelConfig) -> Parts:
    """The networks of a config on the meta device: sizes of their folders, where these exist, of new networks
    as the config says, and else of the published SVD-XT 1.1."""
    base = config.base
    with torch.device("meta"):
        vae: Any = build_network("vae", sizes(config.vae or under(base, "vae"), SVD_VAE))
        found = sizes(config.image_encoder or under(base, "image_encoder"), SVD_IMAGE_ENCODER)
        encoder: Any = build_network("image_encoder", found)
        if config.unet is None:
            unet: Any = build_network("unet", sizes(under(base, "unet"), SVD_UNET))
        else:
            unet = new_unet(config.unet, vae.config["latent_channels"], encoder.config.projection_dim)
        if config.controlnext is None:
            controlnext: Any = build_network("controlnext", sizes(under(base, "controlnext"), {}))
        else:
            controlnext = new_controlnext(config.controlnext, unet.config["block_out_channels"][0])
    for network in (unet, controlnext, vae, encoder):
        nn.Module.to(network, device="meta")  # some scalars ignore the default device
    return Parts(unet, controlnext, vae, encoder, {"unet": DIFFUSERS_GROUPS, "vae": DIFFUSERS_GROUPS})


def under(base: Path | None, name: str) -> Path | None:
    return None if base is None else base / name


def sizes(folder: Path | None, published: dict[str, Any]) -> dict[str, Any]:
    """A network's arguments from its folder's config.json, or the published ones where there is none."""
    path = None if folder is None else folder / "config.json"
    if path is None or not path.exists():
        return published
    return read_json(path)


def activation_bytes(task: VideoTask) -> tuple[int, int]:
    """Bytes that a batch's forward and backward pass take: without and with gradient checkpointing.

    The most that lives at one time beside the weights and their copies, without what the gradients of the
    parameters take in the end. `task` must be on the meta device and without checkpointing.
    """
    return _peak(task, checkpointed=False), _peak(task, checkpointed=True)


def _peak(task: VideoTask, checkpointed: bool) -> int:
    autocast = Autocast(AUTOCAST[task.config.loop.precision])
    unet, control = task.parts.unet, task.parts.networks()["controlnext"]
    with ExitStack() as stack:
        if not task.config.video:
            stack.enter_context(without_temporal(unet))
        if checkpointed:
            again = stack.enter_context(Lever())
            for module in (control, *(module for module in unet.modules() if isinstance(module, BLOCKS))):
                again.patch(module, autocast.around)
            stack.enter_context(checkpoint_whole(control))
            stack.enter_context(checkpoint_blocks(unet))
        live = stack.enter_context(LiveBytes())
        with autocast:
            loss = forward(task)
        torch.autograd.backward(loss)
    parameters = [p for network in task.modules.values() for p in network.parameters()]
    gradients = sum(p.grad.nbytes for p in parameters if p.grad is not None)
    for parameter in parameters:
        parameter.grad = None
    return max(0, live.peak - gradients - sum(copy.nbytes for copy in autocast.copies.values()))


def forward(task: VideoTask) -> Tensor:
    """The loss of a batch of empty clips on the meta device."""
    config, parts = task.config, task.parts
    videos = config.batch if config.video else config.batch * config.targets
    frames = config.data.frames + 1 if config.video else 1
    width, height = config.data.width, config.data.height
    shrink = 2 ** (len(parts.vae.config["block_out_channels"]) - 1)
    channels = parts.vae.config["latent_channels"]
    small = (height // shrink, width // shrink)
    with torch.device("meta"):
        conditioning = Conditioning(
            torch.empty(videos, 1, parts.image_encoder.config.projection_dim),
            torch.empty(videos, channels, *small),
            torch.empty(videos, 3),
        )
        latents = torch.empty(videos, frames, channels, *small)
        control = torch.empty(videos, frames, 3, height, width)
        weight = torch.empty(videos, frames, 1, *small)
    sigma = torch.ones(videos, device="meta")
    generator = torch.Generator()
    return task.denoiser.loss(latents, control, conditioning, generator, sigma=sigma, weight=weight).value


class Attention(torch.autograd.Function):
    """What fused attention keeps: queries, keys, values, the result, and one number for each query."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        result = query.new_empty(*query.shape[:-1], value.shape[-1])
        ctx.save_for_backward(
            query, key, value, result, query.new_empty(query.shape[:-1], dtype=torch.float32)
        )
        return result

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, ...]:
        return tuple(map(torch.empty_like, ctx.saved_tensors[:3]))


class Autocast(TorchFunctionMode):
    """Casts as autocast does on a GPU, for the meta device, which has none; attention is fused as there.

    `copies` are those of the weights, which stay.
    """

    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype = dtype
        self.copies: dict[int, Tensor] = {}

    def around(self, forward: Forward) -> Forward:
        """The same forward under autocast: for blocks that the backward pass, where it is off, runs again."""

        def inside(*args: Any, **kwargs: Any) -> Any:
            with self:
                return forward(*args, **kwargs)

        return inside

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if self.dtype != torch.float32 and (func in HALF or func in FULL):
            dtype = self.dtype if func in HALF else torch.float32
            args = tuple(self.cast(value, dtype) for value in args)
            kwargs = {key: self.cast(value, dtype) for key, value in kwargs.items()}
        if func is F.scaled_dot_product_attention:
            tensors = [*args, *(kwargs[key] for key in ("query", "key", "value") if key in kwargs)]
            return Attention.apply(*tensors[:3])
        return func(*args, **kwargs)

    def cast(self, value: Any, dtype: torch.dtype) -> Any:
        if not isinstance(value, Tensor) or not value.is_floating_point() or value.dtype == dtype:
            return value
        if not isinstance(value, nn.Parameter):
            return value.to(dtype)
        if id(value) not in self.copies:
            self.copies[id(value)] = value.to(dtype)
        return self.copies[id(value)]
