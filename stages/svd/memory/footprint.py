"""How many bytes a call of a network needs beside its weights, counted on the meta device.

Nothing is computed and no weights are needed: a twin without data runs once, and the bytes of the tensors
that are alive at one time are added up. Fused attention counts as one operation, as it runs.
"""

import json
import weakref
from collections.abc import Callable
from functools import lru_cache
from typing import Any, cast

import torch
from diffusers.models.autoencoders.autoencoder_kl_temporal_decoder import AutoencoderKLTemporalDecoder
from diffusers.models.unets.unet_spatio_temporal_condition import UNetSpatioTemporalConditionModel
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ...control import ControlModule, feature_bytes
from ..levers.collapse import collapse
from ..levers.feed_forward import chunk_feed_forward

META = torch.device("meta")


def live_bytes(run: Callable[[], object]) -> int:
    """The most bytes that tensors made inside `run` take up together. Workspaces of kernels are not seen."""
    with torch.no_grad(), _FusedAttention(), LiveBytes() as live:
        run()
    return live.peak


def unet_bytes(
    unet: UNetSpatioTemporalConditionModel,
    videos: int,
    num_frames: int,
    height: int,
    width: int,
    feed_forward_parts: int = 1,
    collapsed: bool = True,
) -> int:
    """Bytes of one call with `videos` (guidance halves) of `num_frames` latents [height, width].

    `collapsed`: with the levers of the fast order of work, else as diffusers has the network.
    """
    size = (videos, num_frames, height, width, feed_forward_parts, collapsed)
    return _unet_bytes(_config(unet), unet.dtype, *size)


def decoder_bytes(vae: AutoencoderKLTemporalDecoder, num_frames: int, height: int, width: int) -> int:
    """Bytes of decoding latents [num_frames, 4, height, width] together."""
    dtype = next(vae.decoder.parameters()).dtype
    return _decoder_bytes(_config(vae), dtype, num_frames, height, width)


def encoder_bytes(vae: AutoencoderKLTemporalDecoder, height: int, width: int) -> int:
    """Bytes of encoding one picture of `height` x `width` pixels, in float32."""
    return _encoder_bytes(_config(vae), torch.float32, height, width)


def control_bytes(
    controlnext: ControlModule, num_frames: int, height: int, width: int
) -> tuple[int, int, int]:
    """Bytes of control frames of `height` x `width` pixels: of one call with `num_frames`, of what one frame
    leaves for the next steps, and of one frame's features."""
    network = cast(type[nn.Module], type(controlnext))
    return _control_bytes(network, _config(controlnext), controlnext.dtype, num_frames, height, width)


@lru_cache(maxsize=64)
def _unet_bytes(
    config: str,
    dtype: torch.dtype,
    videos: int,
    num_frames: int,
    height: int,
    width: int,
    parts: int,
    collapsed: bool,
) -> int:
    unet = cast(UNetSpatioTemporalConditionModel, _twin(UNetSpatioTemporalConditionModel, config, dtype))
    if collapsed:
        collapse(unet)
    chunk_feed_forward(unet, parts)
    return live_bytes(
        lambda: unet(
            _empty(dtype, videos, num_frames, unet.config["in_channels"], height, width),
            _empty(torch.float32),
            _empty(dtype, videos, 1, unet.config["cross_attention_dim"]),
            _empty(torch.float32, videos, 3),
        )
    )


@lru_cache(maxsize=64)
def _decoder_bytes(config: str, dtype: torch.dtype, num_frames: int, height: int, width: int) -> int:
    vae = cast(AutoencoderKLTemporalDecoder, _twin(AutoencoderKLTemporalDecoder, config, dtype))
    shape = (num_frames, vae.config["latent_channels"], height, width)
    return live_bytes(lambda: vae.decode(_empty(dtype, *shape), num_frames=num_frames))


@lru_cache(maxsize=64)
def _encoder_bytes(config: str, dtype: torch.dtype, height: int, width: int) -> int:
    vae = cast(AutoencoderKLTemporalDecoder, _twin(AutoencoderKLTemporalDecoder, config, dtype))
    return live_bytes(lambda: vae.encode(_empty(dtype, 1, 3, height, width)))


@lru_cache(maxsize=64)
def _control_bytes(
    network: type[nn.Module], config: str, dtype: torch.dtype, num_frames: int, height: int, width: int
) -> tuple[int, int, int]:
    module = cast(ControlModule, _twin(network, config, dtype))
    embedding = module.embed_time(_empty(torch.float32), 1)
    sizes = []

    def run() -> None:
        features = module.encode_frames(_empty(dtype, num_frames, 3, height, width))
        control = module.apply_time(features, embedding)
        sizes.extend((feature_bytes(features) // num_frames, control.nbytes // num_frames))

    return live_bytes(run), sizes[0], sizes[1]


def _config(module: Any) -> str:
    return json.dumps(dict(module.config), sort_keys=True, default=str)


def _twin(network: type[nn.Module], config: str, dtype: torch.dtype) -> nn.Module:
    """The network without data, on the meta device."""
    with META:
        module = cast(nn.Module, cast(Any, network).from_config(json.loads(config)))
    return nn.Module.to(module, device=META, dtype=dtype).eval()


def _empty(dtype: torch.dtype, *shape: int) -> Tensor:
    return torch.empty(shape, dtype=dtype, device=META)


class _FusedAttention(TorchFunctionMode):
    """Attention without its matrix of weights: no device that matters makes it."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is nn.functional.scaled_dot_product_attention:
            return torch.empty_like(args[0])
        return func(*args, **(kwargs or {}))


class LiveBytes(TorchDispatchMode):
    """Adds up the storages that operations make and takes off those that go.

    What was there before, such as weights, is not counted, nor what only looks at it in another shape.
    """

    def __init__(self) -> None:
        super().__init__()
        self.peak = 0
        self._live = 0
        self._sizes: dict[int, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        given = {
            value.untyped_storage()._cdata
            for value in tree_leaves((args, kwargs))
            if isinstance(value, Tensor)
        }
        for value in tree_leaves(result):
            if not isinstance(value, Tensor):
                continue
            storage = value.untyped_storage()
            key = storage._cdata
            if key not in self._sizes and key not in given:
                self._sizes[key] = storage.nbytes()
                self._live += storage.nbytes()
                weakref.finalize(storage, self._gone, key)
        self.peak = max(self.peak, self._live)
        return result

    def _gone(self, key: int) -> None:
        self._live -= self._sizes.pop(key)
