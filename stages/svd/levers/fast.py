"""What a device does faster without changing what is computed, up to rounding: layout, attention, fusion."""

import logging
import warnings
from collections.abc import Callable, Sequence
from types import MethodType
from typing import Any, TypeVar

import torch
from diffusers.models.attention import BasicTransformerBlock, TemporalBasicTransformerBlock
from diffusers.models.resnet import SpatioTemporalResBlock
from diffusers.models.unets.unet_spatio_temporal_condition import UNetSpatioTemporalConditionModel
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from ..memory.retry import is_out_of_memory
from .collapse import collapse
from .feed_forward import chunk_feed_forward
from .patch import Forward, Lever

REGIONS = (SpatioTemporalResBlock, BasicTransformerBlock, TemporalBasicTransformerBlock)
"""Blocks that are compiled: they repeat, and all element-wise work and norms between the large products of
SVD's networks lie inside them."""
REGION_SHAPES = 64
"""Ways in which one class of block may be compiled: levels of the network, and its two halves."""
REASON_LENGTH = 200
"""Characters of a compiler's complaint that are passed on."""
HOPPER = (9, 0)
"""Compute capability from which cuDNN's attention is ahead of FlashAttention 2."""

ResultT = TypeVar("ResultT")

logger = logging.getLogger(__name__)


class ExactLevers(Lever):
    """Cross-attention over one token collapsed, temporal convolutions in two dimensions, feed-forward layers
    in parts; until `detach`."""

    def __init__(self, unet: nn.Module) -> None:
        super().__init__()
        self.feed_forward = chunk_feed_forward(unet, 1)
        for lever in (collapse(unet), flatten_convolutions(unet), self.feed_forward):
            self.on_detach(lever.detach)


def flatten_convolutions(network: nn.Module) -> Lever:
    """Run the temporal convolutions of a diffusers UNet or VAE in two dimensions, until `detach`.

    The dimensions are frames, and all pixels as the other. Libraries have better kernels for two, and pixels
    whose channels are last stay so.
    """
    lever = Lever()
    for module in network.modules():
        if is_over_frames(module):
            lever.patch(module, lambda forward, module=module: MethodType(_convolve_frames, module))
    return lever


def _convolve_frames(convolution: nn.Conv3d, input: Tensor) -> Tensor:
    """[B, C, F, H, W] -> [B, C', F, H, W], by a convolution over frames alone."""
    kernel, padding = convolution.weight.flatten(3), (int(convolution.padding[0]), 0)
    flat = nn.functional.conv2d(input.flatten(3), kernel, convolution.bias, padding=padding)
    return flat.unflatten(3, input.shape[3:])


def is_over_frames(module: nn.Module) -> bool:
    """Whether a module is a plain 3D convolution that moves over frames alone."""
    if type(module) is not nn.Conv3d or module.padding_mode != "zeros":
        return False
    plain = module.stride == module.dilation == (1, 1, 1) and module.groups == 1
    return plain and module.kernel_size[1:] == (1, 1) and module.padding[1:] == (0, 0)


def convolve_channels_last(network: nn.Module) -> None:
    """Store the weights of 2D convolutions channels last, in place: the layout of tensor cores.

    Activations follow. The values stay, and so does what is saved.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.weight.data = module.weight.data.contiguous(memory_format=torch.channels_last)


def attention_backends(
    device: torch.device, dtype: torch.dtype, shapes: Sequence[tuple[int, int, int, int]]
) -> list[SDPBackend]:
    """Kernels for `sdpa_kernel(..., set_priority=True)`, the fastest first, each tried on `shapes` once.

    `shapes` are those of the queries, [batch, heads, length, width]. A CPU has one fused kernel, and torch
    takes it by itself where it can.
    """
    order = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION]
    if device.type == "cuda" and torch.cuda.get_device_capability(device) >= HOPPER:
        order.insert(0, SDPBackend.CUDNN_ATTENTION)
    usable = [backend for backend in order if all(runs(backend, device, dtype, shape) for shape in shapes)]
    return [*usable, SDPBackend.MATH]


def attention_shapes(
    unet: UNetSpatioTemporalConditionModel, num_frames: int, height: int, width: int
) -> list[tuple[int, int, int, int]]:
    """Queries of the UNet's first level for latents [num_frames, 4, height, width].

    Over the pixels of a frame, and over the frames of a pixel: [batch, heads, length, width].
    """
    heads = unet.config["num_attention_heads"]
    heads = heads if isinstance(heads, int) else heads[0]
    per_head = unet.config["block_out_channels"][0] // heads
    return [(1, heads, height * width, per_head), (height * width, heads, num_frames, per_head)]


def runs(
    backend: SDPBackend, device: torch.device, dtype: torch.dtype, shape: tuple[int, int, int, int]
) -> bool:
    """Whether an attention kernel works on queries of `shape`."""
    query = torch.zeros(shape, dtype=dtype, device=device)
    try:
        with warnings.catch_warnings(), sdpa_kernel(backend):
            warnings.simplefilter("ignore")  # torch warns of each reason against a kernel
            nn.functional.scaled_dot_product_attention(query, query, query)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
    except RuntimeError as error:
        return is_out_of_memory(error)  # which tells nothing of the kernel, and has an answer of its own
    return True


class CompiledRegions(Lever):
    """Made by `compile_regions`; `detach` gives the network back as it was, `enabled = False` pauses."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.enabled = True
        for module in network.modules():
            if isinstance(module, REGIONS):
                self.patch(module, self._compile)

    def _compile(self, forward: Forward) -> Forward:
        compiled = torch.compile(forward, dynamic=False)

        def chosen(*args: Any, **kwargs: Any) -> Any:
            return (compiled if self.enabled else forward)(*args, **kwargs)

        return chosen

    def run(self, call: Callable[[], ResultT]) -> ResultT:
        """call(); where the blocks cannot be compiled, say why and call once more without.

        Compilers fail in many ways (no headers, a cache that cannot be written, too many shapes), so any
        error is taken for theirs once: one that is not comes again without them.
        """
        from torch._dynamo import config

        limit = "recompile_limit" if hasattr(config, "recompile_limit") else "cache_size_limit"
        raises = "fail_on_recompile_limit_hit" if limit == "recompile_limit" else "fail_on_cache_limit_hit"
        try:
            with config.patch({limit: REGION_SHAPES, raises: True}):
                return call()
        except Exception as error:
            if not self._undo or is_out_of_memory(error):
                raise
            reason = " ".join(f"{error}".split())[:REASON_LENGTH] or type(error).__name__
        self.detach()
        logger.warning("nothing is compiled, which costs time and nothing else: %s", reason)
        return call()


def compile_regions(network: nn.Module) -> CompiledRegions:
    """Let torch.compile fuse the element-wise work of a diffusers network, block by block, until `detach`.

    Blocks of the same shape share their code, and torch keeps it on disk (TORCHINDUCTOR_CACHE_DIR), so only
    the first run of a machine waits. Whoever calls the network does it inside `CompiledRegions.run`.
    """
    return CompiledRegions(network)
