"""The generator of Stable Video Diffusion with a control module: its networks, and how they make a video."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.attention import sdpa_kernel

from ..controlnext.inject import POSE_STRENGTH
from ..errors import ConfigError
from ..generate import (
    Checkpoint,
    ControlFrames,
    Defaults,
    OnEstimate,
    OnStep,
    OnWindow,
    Settings,
    check_size,
)
from ..windows import Window, plan
from .conditioning import (
    MicroConditioning,
    condition,
    draw_noise,
    step_noise,
)
from .decode import decode_frames
from .denoiser import Conditioning, Denoiser
from .denoising import FreshNoise, denoise
from .guidance import guidance_of
from .levers.deep_cache import cache_deep_features
from .levers.fast import (
    CompiledRegions,
    ExactLevers,
    attention_backends,
    attention_shapes,
    compile_regions,
)
from .memory.plan import MemoryPlan, memory_budget, on, plan_memory
from .memory.retry import explain_out_of_memory
from .networks import SvdNetworks
from .preview import fit_colours
from .published import denoise_as_published
from .sampling import ControlCache, Sampler
from .schedule import SVD_SCHEDULER, aligned_sigmas, consistency_sigmas, initial_deviation, sampling_sigmas

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PreparedVideo:
    """What is made of a video's reference and control frames before sampling: see `SvdGenerator.prepare`."""

    settings: Settings
    windows: Sequence[Window]
    memory: MemoryPlan
    conditioning: Conditioning
    control: ControlCache


@dataclass
class SvdGenerator(SvdNetworks):
    """The networks of one model, the numbers that belong to them, and how they make a video."""

    defaults: Defaults
    scheduler: Mapping[str, Any] = field(default_factory=lambda: SVD_SCHEDULER)
    """Configuration of diffusers' EulerDiscreteScheduler."""
    numbers: MicroConditioning = field(default_factory=MicroConditioning)
    control_strength: float = POSE_STRENGTH
    compile: bool = False
    """Whether torch.compile fuses the element-wise work of UNet and VAE."""
    _levers: ExactLevers | None = field(default=None, init=False, repr=False)
    _compiled: dict[str, CompiledRegions] = field(default_factory=dict, init=False, repr=False)
    _budget: tuple[torch.device | None, int] = field(default=(None, 0), init=False, repr=False)
    """Bytes that may be taken of a device, where they were measured."""

    def plan_memory(self, num_frames: int, width: int, height: int, settings: Settings) -> MemoryPlan:
        """How a video of `num_frames`, the reference's included, fits the device (`memory.plan_memory`).

        The budget is measured before any of the networks is on the device, and kept while one is there: what
        is free beside them, kernels' workspaces and what they left in fragments tell no more than that.
        """
        if self.memory_limit is not None:
            budget = self.memory_limit
        else:
            networks = self.named_networks().values()
            measured, budget = self._budget
            if measured != self.device or not any(on(network, self.device) for network in networks):
                budget = memory_budget(self.device, networks)
                self._budget = (self.device, budget)
        return plan_memory(self, settings, num_frames, width, height, budget)

    def settings(self, window_size: int | None = None) -> Settings:
        """See `Generator.settings`."""
        d, size = self.defaults, window_size or self.defaults.window_size
        if size is None:
            raise ConfigError(
                f"the weight file of {self.name} does not tell how many frames a window has: give "
                "--window.size, or the file the name that it was published under"
            )
        return Settings(d.steps, d.guidance_scale, size, d.window_overlap, window_plan=d.window_plan)

    def initial_latents(self, num_frames: int, width: int, height: int, settings: Settings) -> Tensor:
        """What sampling starts from: [num_frames, 4, h, w], float32 on the CPU, of the seed alone."""
        return self._noise(num_frames, width, height, settings)[1]

    def sigmas(self, settings: Settings) -> Tensor:
        """Noise levels [steps + 1]."""
        if settings.consistency:
            return consistency_sigmas(self.scheduler, settings.steps)
        if settings.align_your_steps:
            return aligned_sigmas(self.scheduler, settings.steps)
        return sampling_sigmas(self.scheduler, settings.steps)

    def fresh_noise(self, width: int, height: int, settings: Settings) -> FreshNoise | None:
        """What `denoising.denoise` adds after each step; None where its steps are Euler's."""
        if not settings.consistency:
            return None
        shape = (self.vae.config["latent_channels"], height // self.downscale, width // self.downscale)
        return partial(step_noise, shape=shape, seed=settings.seed)

    def colours(self, picture: np.ndarray) -> Tensor:
        """Linear map from latents to colours for previews, fitted to the VAE on uint8 [H, W, 3]."""
        return fit_colours(self.vae, picture, self.downscale)

    def _noise(self, num_frames: int, width: int, height: int, settings: Settings) -> tuple[Tensor, Tensor]:
        """Noise for the reference image [1, 3, H, W] and initial latents [N, 4, h, w]."""
        channels = self.vae.config["latent_channels"]
        shape = (channels, height // self.downscale, width // self.downscale)
        image, latents = draw_noise(settings, num_frames, shape, (height, width))
        return image, latents.mul_(initial_deviation(self.scheduler, self.sigmas(settings)))

    @contextmanager
    def sampler(
        self, reference: np.ndarray, control_frames: ControlFrames, settings: Settings
    ) -> Iterator[Sampler]:
        """Everything that predictions for one video need; the UNet is prepared while this is open.

        Deterministic: every worker that opens it with the same arguments, and as much memory, makes the same
        predictions.
        """
        with self.sampling(self.prepare(reference, control_frames, settings)) as sampler:
            yield sampler

    def prepare(
        self, reference: np.ndarray, control_frames: ControlFrames, settings: Settings
    ) -> PreparedVideo:
        """The part of `sampler` that is made once and stays; several videos may be prepared at a time."""
        num_frames = len(control_frames)
        if num_frames < 2:
            raise ConfigError(f"{num_frames} control frames: give the reference's pose and at least one more")
        height, width = control_frames[0:1].shape[1:3]
        check_size(self, width, height)
        check_levers(settings)
        windows = plan(settings.window_plan, num_frames, settings.window_size, settings.window_overlap)
        noise = self._noise(1, width, height, settings)[0]
        if self.device.type == "cpu":
            self._budget = (None, 0)  # this memory is others' too: what is free now counts
        memory = self.plan_memory(num_frames, width, height, settings)
        with torch.no_grad():
            self.bring("vae", "image_encoder", offload=memory.offload)
            conditioning = condition(
                reference, noise, self.image_encoder, self.vae, self.numbers, self.unet.dtype
            )
        control = ControlCache(
            self.controlnext,
            control_frames,
            memory.keep_control_bytes,
            memory.control_chunk,
            memory.keep_frame_bytes,
        )
        return PreparedVideo(settings, windows, memory, conditioning, control)

    @contextmanager
    def sampling(self, video: PreparedVideo) -> Iterator[Sampler]:
        """Prepare the UNet for one video, while this is open; one at a time."""
        settings, memory = video.settings, video.memory
        self.bring("unet", "controlnext", offload=memory.offload)
        with ExitStack() as stack:
            injection = stack.enter_context(self.controlnext.attach(self.unet, self.control_strength))
            height, width = video.control.frames[0:1].shape[1:3]
            size = (len(video.windows[0]), height // self.downscale, width // self.downscale)
            levers = self._prepare_unet(settings, memory, size, stack)
            compiled = None if levers is None else self._compiled_blocks("unet")
            if compiled is not None:
                compiled.enabled = size[0] == settings.window_size
                if not compiled.enabled:
                    logger.info(
                        "%d frames are fewer than a window's: no blocks are compiled for them", size[0]
                    )
            cache = None
            if settings.cache_interval > 1:
                cache = cache_deep_features(self.unet, memory.keep_deep_bytes)
                stack.callback(cache.detach)
            yield Sampler(
                Denoiser(self.unet, self.controlnext, injection),
                video.conditioning,
                video.control,
                video.windows,
                self.sigmas(settings),
                guidance_of(settings),
                cache,
                settings.cache_interval,
                None if levers is None else levers.feed_forward,
                compiled,
            )

    def _prepare_unet(
        self, settings: Settings, memory: MemoryPlan, size: tuple[int, int, int], stack: ExitStack
    ) -> ExactLevers | None:
        """Exact levers on the UNet, until `stack` closes; none for the published order of work.

        `size` is that of its latents: (frames, height, width). Compiled blocks would be compiled anew if what
        they call changed, so with them the levers stay.
        """
        if settings.schedule == "published" or not self.compile:
            self._release()
        if settings.schedule == "published":
            return None
        if self._levers is None:
            self._levers = ExactLevers(self.unet)
        self._levers.feed_forward.parts = memory.piece.feed_forward_parts
        if not self.compile:
            stack.callback(self._release)
        if self.device.type == "cuda":
            shapes = attention_shapes(self.unet, *size)
            backends = attention_backends(self.device, self.unet.dtype, shapes)
            stack.enter_context(sdpa_kernel(backends, set_priority=True))
        return self._levers

    def _release(self) -> None:
        """Give the networks back as they were."""
        for compiled in self._compiled.values():
            compiled.detach()
        self._compiled.clear()
        if self._levers is not None:
            self._levers.detach()
            self._levers = None

    def _compiled_blocks(self, name: str) -> CompiledRegions | None:
        """The compiled blocks of a network, where compiling is asked for."""
        if self.compile and name not in self._compiled:
            self._compiled[name] = compile_regions(self.named_networks()[name])
        return self._compiled.get(name)

    def denoise(
        self,
        reference: np.ndarray,
        control_frames: ControlFrames,
        settings: Settings,
        *,
        resume: Checkpoint | None = None,
        on_window: OnWindow | None = None,
        on_step: OnStep | None = None,
        on_estimate: OnEstimate | None = None,
    ) -> Tensor:
        """See `Generator.denoise`."""
        start = 0 if resume is None else resume.step
        with explain_out_of_memory(self.name), self.sampler(reference, control_frames, settings) as sampler:
            height, width = control_frames[0:1].shape[1:3]
            if resume is None:
                latents = self.initial_latents(len(control_frames), width, height, settings)
            else:
                latents = resume.latents.to("cpu", torch.float32, copy=True)
            if settings.schedule == "published":
                if on_estimate is not None:
                    raise ConfigError("the published order of work has no estimates: leave previews out")
                return denoise_as_published(
                    sampler, latents, start=start, on_window=on_window, on_step=on_step
                )
            return denoise(
                latents,
                sampler.sigmas,
                sampler.windows,
                sampler.predict,
                start=start,
                on_window=on_window,
                on_step=on_step,
                on_estimate=on_estimate,
                noise=self.fresh_noise(width, height, settings),
            )

    def decode(self, latents: Tensor, settings: Settings, bit_depth: int = 8) -> Iterator[np.ndarray]:
        """See `Generator.decode`.

        Fewer frames are decoded together than `settings` ask for where the memory plan says so.
        """
        height, width = (side * self.downscale for side in latents.shape[-2:])
        memory = self.plan_memory(len(latents), width, height, settings)
        with explain_out_of_memory(self.name):
            self.bring("vae", offload=memory.offload_decoding)
            compiled = self._compiled_blocks("vae")
            chunk = memory.decode_chunk
            yield from decode_frames(self.vae, latents, settings, chunk, bit_depth, compiled=compiled)


def check_levers(settings: Settings) -> None:
    """ConfigError for approximate settings that mean nothing, or that the published order of work lacks."""
    low, high = settings.guidance_interval
    if not 0 <= low <= high <= 1:
        raise ConfigError(
            f"guidance interval {low:g} to {high:g}: give two numbers from 0 to 1, the lower first"
        )
    if settings.cache_interval < 1:
        raise ConfigError(f"cache interval {settings.cache_interval}: 1 computes every step, use 1 or more")
    if settings.consistency and settings.align_your_steps:
        raise ConfigError("consistency sampling has noise levels of its own: leave align_your_steps off")
    approximate = settings.cache_interval > 1 or settings.consistency or (low, high) != (0, 1)
    if settings.schedule == "published" and approximate:
        raise ConfigError(
            "the published order of work computes every step in full, and Euler's: leave the guidance "
            "interval, the cache interval and consistency at their defaults, or use the order `fast`"
        )
