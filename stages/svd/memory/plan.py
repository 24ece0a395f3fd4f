"""Memory is planned: what stays on the device, and in which pieces the work is done, so that it fits.

Every choice but the decoder's chunk gives the same numbers up to rounding; see `Piece` for what each costs.
Sizes are counted (footprint.py), not guessed.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch
from diffusers.models.autoencoders.autoencoder_kl_temporal_decoder import AutoencoderKLTemporalDecoder
from torch import nn

from ...errors import DeviceMemoryError
from ...generate import Defaults, Settings
from ...windows import plan as plan_windows
from ..guidance import guidance_of
from ..networks import SvdNetworks
from .footprint import control_bytes, decoder_bytes, encoder_bytes, unet_bytes
from .retry import WHAT_TO_DO

MARGIN, CPU_MARGIN = 1.15, 1.3
"""On counted bytes, for what allocators round up and libraries take. Resident memory of one call on the CPU
was 1.16 to 1.33 times the count (the UNet with 320 channels, 8 and 16 frames, 256x384), 1.00 times for the
decoder. A GPU's is assumed, not measured."""
FRAGMENTS = 0.08
"""Part of a GPU's budget that is left to pieces into which no tensor fits. By a model of torch's allocator
(tests/cuda_allocator.py) up to 1.17 times the bytes that live are needed where features are kept between
steps, 1.03 times where none are; the margin on counted bytes covers the rest."""
WORKSPACE = 512 << 20
"""Bytes that a GPU's convolution and matrix kernels may take beside the tensors; assumed, not measured."""
CONTEXT = 512 << 20
"""Bytes of a GPU that a process takes before it has any tensor there; assumed, not measured."""
CONTROL_CHUNKS = (8, 4, 2, 1)
"""Control frames at a time on a GPU, most first. On a CPU it is one: more are no faster, and a frame's
features are then the same to the last bit whoever asks for them."""
CGROUP = Path("/sys/fs/cgroup")
"""Where the kernel tells a container's memory (cgroup v2). What it counts as used holds files that were read
and that it drops when memory is asked for: `inactive_file` of memory.stat."""
GIB = 1 << 30
UNKNOWN_WINDOW = 72
"""Frames that are counted where a model does not tell its window: the most published ones, MimicMotion's."""


@dataclass(frozen=True, slots=True)
class Piece:
    """In which pieces the UNet works."""

    feed_forward_parts: int = 1
    """Parts that each feed-forward layer is run in: a third less of its memory, more and smaller calls."""


PIECES = (Piece(), Piece(feed_forward_parts=4))
"""What is tried, the fastest first."""


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """How one video is made within `budget` bytes of the device, of which `peak` are expected to be used."""

    device: torch.device
    dtype: torch.dtype
    budget: int
    reserve: int
    """Bytes of the budget that are left to fragments."""
    weights: int
    """Bytes of the networks that are on the device while the UNet works."""
    peak: int
    offload: bool
    """Only the networks at work are on the device; the others wait on the CPU."""
    offload_decoding: bool
    """The same while frames are decoded, where the decoder alone is short of memory."""
    piece: Piece
    control_chunk: int
    """Control frames that go through the control module at a time."""
    keep_control_bytes: int
    """Work of the control module that is kept between steps."""
    keep_frame_bytes: int
    """Control frames that stay in the machine's memory between steps; of the budget on a CPU alone."""
    keep_deep_bytes: int
    """Work of the UNet that is kept between steps where `cache_interval` is above 1."""
    decode_chunk: int
    """Frames that are decoded at a time; 0 where not even one fits."""

    @property
    def fits(self) -> bool:
        """Whether the peak stays within the budget and leaves the reserve."""
        return self.peak <= self.budget - self.reserve and self.decode_chunk > 0

    @property
    def needed(self) -> int:
        """Bytes of the least budget in which such a peak fits."""
        return round(self.peak * self.budget / max(1, self.budget - self.reserve))

    def lines(self) -> list[str]:
        """The plan for a reader."""
        parts = self.piece.feed_forward_parts
        if self.offload:
            rest = "networks not at work wait on the CPU"
        elif self.offload_decoding:
            rest = "all networks stay there, but wait on the CPU while frames are decoded"
        else:
            rest = "all networks stay there"
        return [
            f"{gib(self.peak)} of {gib(self.budget)} GiB of {self.device} at the peak, "
            f"{gib(self.weights)} of it weights; {rest}",
            f"{str(self.dtype).removeprefix('torch.')}; feed-forward in {parts} "
            f"part{'s' if parts > 1 else ''}; {self.control_chunk} control and {self.decode_chunk} decoded "
            "frames at a time",
        ]


def plan_memory(
    networks: SvdNetworks, settings: Settings, num_frames: int, width: int, height: int, budget: int
) -> MemoryPlan:
    """The fastest plan within `budget` for a video of `num_frames` (the reference's included) of width x
    height pixels.

    How many frames are decoded together changes the result a little: it hangs on the budget alone, and never
    falls as that grows. DeviceMemoryError, in one line, where nothing fits.
    """
    least = None
    for least in _plans(networks, settings, num_frames, width, height, budget):
        if least.fits:
            return least
    assert least is not None
    raise DeviceMemoryError(
        f"{networks.name} needs about {gib(least.needed)} GiB on {networks.device} for windows of "
        f"{min(settings.window_size, num_frames)} frames of {width}x{height}, and has {gib(budget)} GiB: "
        f"{WHAT_TO_DO}, or allow more with --memory-limit"
    )


def margin_on(device: torch.device) -> float:
    """By how much more than counted is planned."""
    return CPU_MARGIN if device.type == "cpu" else MARGIN


def frames_decoded(
    vae: AutoencoderKLTemporalDecoder, asked: int, room: int, height: int, width: int, device: torch.device
) -> int:
    """How many of `asked` latents [height, width] fit into `room` bytes of a device together."""
    return max(0, min(asked, int(room / (margin_on(device) * decoder_bytes(vae, 1, height, width)))))


def memory_budget(device: torch.device, networks: Iterable[nn.Module]) -> int:
    """Bytes that may be taken: what is free on the device, and what the networks hold there."""
    return free_bytes(device) + sum(network_bytes(network) for network in networks if on(network, device))


def usable_bytes(budget: int, device: torch.device) -> int:
    """Bytes of a budget that tensors and workspaces may fill."""
    return budget if device.type == "cpu" else budget - int(FRAGMENTS * budget)


def part_of(device: torch.device, part: float) -> int:
    """Bytes that a process may plan with, which has `part` of a GPU (0 to 1)."""
    return int(part * torch.cuda.get_device_properties(device).total_memory) - CONTEXT


def free_bytes(device: torch.device) -> int:
    """Bytes that could still be taken on `device`: of the GPU, or of this machine's or container's memory."""
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + unused
    free = psutil.virtual_memory().available
    limit = CGROUP / "memory.max"
    if limit.is_file() and (text := limit.read_text().strip()).isdecimal():
        stat = dict(line.split() for line in (CGROUP / "memory.stat").read_text().splitlines())
        used = int((CGROUP / "memory.current").read_text()) - int(stat["inactive_file"])
        free = min(free, max(0, int(text) - used))
    return free


def network_bytes(module: nn.Module) -> int:
    """Bytes of a network's weights."""
    return sum(parameter.nbytes for parameter in module.parameters())


def on(module: nn.Module, device: torch.device) -> bool:
    """Whether a network is on `device`."""
    return next(module.parameters()).device.type == device.type


def gib(count: int) -> str:
    return f"{count / GIB:.2f}"


def _plans(
    networks: SvdNetworks, settings: Settings, num_frames: int, width: int, height: int, budget: int
) -> Iterator[MemoryPlan]:
    """All plans, the fastest first; each counts when it is asked for."""
    offload = networks.device.type != "cpu"
    ways = [(False, PIECES[0]), *((offload, piece) for piece in (PIECES if offload else PIECES[1:]))]
    for offload, piece in ways:
        if settings.schedule == "fast" or piece == PIECES[0]:  # the published order has one way
            yield _plan(networks, settings, num_frames, width, height, budget, offload, piece)


def _plan(
    networks: SvdNetworks,
    settings: Settings,
    num_frames: int,
    width: int,
    height: int,
    budget: int,
    offload: bool,
    piece: Piece,
) -> MemoryPlan:
    weights = {name: network_bytes(module) for name, module in networks.named_networks().items()}
    latent = (height // networks.downscale, width // networks.downscale)
    gpu = networks.device.type != "cpu"
    spare = WORKSPACE if gpu else 0
    usable = usable_bytes(budget, networks.device)

    def there(*names: str, alone: bool = offload) -> int:
        return sum(weights[name] for name in (names if alone else weights)) + spare

    work = _denoising(networks, settings, min(settings.window_size, num_frames), width, height, piece)
    denoising = there("unet", "controlnext") + work.peak
    left = max(0, usable - denoising)
    kept = min(networks.keep_control_bytes, left, work.kept_frame * num_frames)
    deep = min(networks.keep_deep_bytes, left - kept, deep_bytes(networks, settings, num_frames, latent))
    frames = min(networks.keep_frame_bytes, 3 * height * width * num_frames)
    frames, beside = (frames, 0) if gpu else (min(frames, left - kept - deep),) * 2

    margin = margin_on(networks.device)
    one_frame = margin * decoder_bytes(networks.vae, 1, *latent)
    decoder = there("vae", alone=gpu)
    asked = min(settings.decode_chunk, num_frames)
    decoded = frames_decoded(networks.vae, asked, usable - decoder, *latent, networks.device)
    decoding = int(max(1, decoded) * one_frame)
    offload_decoding = gpu and (offload or there() + decoding > usable)
    encoder = there("vae", "image_encoder")
    encoder += max(
        float32_bytes(networks.image_encoder),
        float32_bytes(networks.vae.encoder) + int(margin * encoder_bytes(networks.vae, height, width)),
    )
    return MemoryPlan(
        device=networks.device,
        dtype=networks.unet.dtype,
        budget=budget,
        reserve=budget - usable,
        weights=there("unet", "controlnext") - spare,
        peak=max(denoising + kept + deep + beside, there("vae", alone=offload_decoding) + decoding, encoder),
        offload=offload,
        offload_decoding=offload_decoding,
        piece=piece,
        control_chunk=work.control_chunk,
        keep_control_bytes=kept,
        keep_frame_bytes=frames,
        keep_deep_bytes=deep,
        decode_chunk=decoded,
    )


@dataclass(frozen=True, slots=True)
class _Denoising:
    """Bytes beside the weights that one window takes, how many control frames go together, and what of the
    control module's work a frame leaves for the next steps."""

    peak: int
    control_chunk: int
    kept_frame: int


def _denoising(
    networks: SvdNetworks, settings: Settings, window: int, width: int, height: int, piece: Piece
) -> _Denoising:
    latent = (height // networks.downscale, width // networks.downscale)
    module, unet, margin = networks.controlnext, networks.unet, margin_on(networks.device)
    if settings.schedule == "published":
        halves = 1 if guidance_of(settings).scale(0, window) is None else 2
        pixels = 3 * window * height * width * networks.controlnext.dtype.itemsize
        frames = halves * window
        together, _, feature = control_bytes(module, frames, height, width)
        calls = unet_bytes(unet, halves, window, *latent, collapsed=False)
        return _Denoising(int(margin * (pixels + max(together, calls + frames * feature))), frames, 0)
    one_call, kept_frame, feature = control_bytes(module, 1, height, width)
    features = 2 * window * feature  # those of the window, and as one tensor for the UNet
    calls = unet_bytes(unet, 1, window, *latent, piece.feed_forward_parts)
    chunk = 1
    if networks.device.type != "cpu":
        room = max(calls, one_call)
        chunk = next(chunk for chunk in CONTROL_CHUNKS if chunk * one_call <= room)
    return _Denoising(int(margin * (max(calls, chunk * one_call) + features)), chunk, kept_frame)


def deep_bytes(networks: SvdNetworks, settings: Settings, num_frames: int, latent: tuple[int, int]) -> int:
    """Bytes of what a `DeepCache` keeps of all windows: the first level's hidden state of each half."""
    if settings.cache_interval == 1:
        return 0
    windows = plan_windows(settings.window_plan, num_frames, settings.window_size, settings.window_overlap)
    guidance = guidance_of(settings)
    guided = any(guidance.scale(step, 2) is not None for step in range(settings.steps))
    frames = (2 if guided else 1) * sum(map(len, windows))
    channels = networks.unet.config["block_out_channels"][0]
    return frames * channels * latent[0] * latent[1] * networks.unet.dtype.itemsize


def float32_bytes(module: nn.Module) -> int:
    """Bytes by which a module grows while it computes in float32 (`conditioning.in_float32`)."""
    return sum(parameter.numel() * 4 - parameter.nbytes for parameter in module.parameters())


def choose_dtype(networks: SvdNetworks, defaults: Defaults, device: torch.device) -> torch.dtype:
    """Precision of the weights: that of `device_dtype`.

    A CPU without the memory for float32 at the size that `defaults` name gets bfloat16.
    """
    if device.type == "cuda":
        return device_dtype(device)
    parameters = sum(p.numel() for n in networks.named_networks().values() for p in n.parameters())
    limit = networks.memory_limit
    if limit is None:
        limit = free_bytes(device) + sum(map(network_bytes, networks.named_networks().values()))
    latent = (defaults.height // networks.downscale, defaults.width // networks.downscale)
    item = torch.float32.itemsize
    window = defaults.window_size or UNKNOWN_WINDOW
    calls = unet_bytes(networks.unet, 1, window, *latent, PIECES[-1].feed_forward_parts)
    needed = parameters * item + CPU_MARGIN * calls * item / networks.unet.dtype.itemsize
    return torch.float32 if needed <= limit else torch.bfloat16


def device_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 on a GPU that computes in it, else float16, in which attention overflows more easily; float32
    on a CPU."""
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if native else torch.float16
    return torch.float32
