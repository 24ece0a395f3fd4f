"""What `evaluate claims` trains: a base without control, and ways to control it, alike in all else."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ....stages.control import ControlModule, OutputInjection
from ....stages.pixels import to_signed, to_uint8
from ....stages.svd.conditioning import clip_pixels
from ....stages.svd.denoiser import Conditioning, Denoiser, Loss
from ....stages.svd.denoising import denoise
from ....stages.svd.levers.collapse import collapse
from ....stages.svd.levers.temporal import is_temporal, without_temporal
from ....stages.svd.sampling import ControlCache
from ....stages.svd.schedule import initial_deviation, sampling_sigmas
from ....stages.windows import even
from ...train.config import TrainConfig
from ...train.data import seeded
from ...train.learning import learning_of, unused
from ...train.log import Log
from ...train.model import Parts
from ...train.task import VideoTask
from ...train.vae import decoded_by, posterior
from ..model import HeldOutClip, measure
from .controlnet import HINT_CHANNELS, ControlNet

BASE = "base"
CONTROLNEXT, CONTROLNET = "controlnext", "controlnet"
WITHOUT, ZERO = "controlnext_without_cross_normalization", "controlnext_zero_convolution"
METHODS = (CONTROLNEXT, CONTROLNET, WITHOUT, ZERO)
"""What is compared. `WITHOUT` adds ControlNeXt's features as they are; `ZERO` too, but its last convolution
starts as zero, as ControlNet's do: that is what cross-normalization is meant to replace."""


class ClaimsTask(VideoTask):
    """Pictures from a reference, with one of the ways of control, or as BASE without any.

    Args:
        held: clips, every APART-th frame of which is measured, at the steps `moments` only.
    """

    modules: Mapping[str, nn.Module]

    def __init__(
        self, method: str, config: TrainConfig, parts: Parts, held: list[HeldOutClip], moments: frozenset[int]
    ) -> None:
        self.method, self.held, self.moments = method, held, moments
        self.controlnet = ControlNet(parts.unet, hint_channels(parts)) if method == CONTROLNET else None
        self.control_module: ControlModule = parts.controlnext if self.controlnet is None else self.controlnet
        super().__init__(config, parts)
        unet, strength = self.parts.unet, config.model.strength
        if method == BASE:
            self.denoiser = WithoutControl(unet, self.parts.controlnext, self.injection)
            self.modules = {"unet": unet}
        elif self.controlnet is not None:
            freeze_temporal(self.controlnet)
            collapse(self.controlnet.encoder)
            self.injection.detach()
            self.injection = self.controlnet.attach(unet)
            self.denoiser = Denoiser(unet, self.controlnet, self.injection)
            self.modules = {"unet": unet, "controlnet": self.controlnet}
        elif method in (WITHOUT, ZERO):
            self.injection.detach()
            self.injection = OutputInjection(
                unet.get_submodule("down_blocks.0"), lambda h, c, s: add_plain(h, c, s, strength)
            )
            self.denoiser = Denoiser(unet, self.parts.controlnext, self.injection)
        if method == ZERO:
            for parameter in self.parts.networks()["controlnext"].get_submodule("mid_convs.1").parameters():
                nn.init.zeros_(parameter)

    def trainable(self) -> list[tuple[str, nn.Parameter]]:
        """The control's parameters, and those of the UNet that `config.learn` names; temporal ones rest."""
        unet = learning_of(self.parts.unet, self.config.learn, self.config.video)
        named = [(f"unet.{name}", p) for name, p in unet]
        for module, network in self.modules.items():
            if module != "unet":
                named += [
                    (f"{module}.{name}", p) for name, p in network.named_parameters() if p.requires_grad
                ]
        return named

    def control_network(self) -> nn.Module:
        """The control module as the network that it is."""
        return self.parts.networks()["controlnext"] if self.controlnet is None else self.controlnet

    def denoise_loss(self, *args: Any, **kwargs: Any) -> Loss:
        with without_temporal(self.control_network()):
            return super().denoise_loss(*args, **kwargs)

    def validate(self, step: int, log: Log) -> dict[str, float]:
        return self.figures() if step in self.moments else {}

    def figures(self) -> dict[str, float]:
        """`evaluate.measure` of the held-out clips, each frame made by itself."""
        scale = float(self.parts.vae.config["scaling_factor"])
        controlled = self.method != BASE
        return self.measured(
            [self.sample(*self.conditions(thinned(c)), controlled) / scale for c in self.held]
        )

    @torch.no_grad()
    def ceiling(self) -> dict[str, float]:
        """Figures of the true frames after the VAE: no control can do better."""
        return self.measured(
            [
                posterior(self.parts.vae, to_signed(thinned(clip).frames[1:]).to(self.device)).mode()
                for clip in self.held
            ]
        )

    @torch.no_grad()
    def measured(self, latents: list[Tensor]) -> dict[str, float]:
        """Figures of the held-out clips if these, [T, C, h, w], were their frames."""
        made = []
        for frames in latents:
            with without_temporal(self.parts.vae):
                made.append(np.stack([to_uint8(frame) for frame in decoded_by(self.parts.vae, frames).cpu()]))
        thin = [thinned(clip) for clip in self.held]
        figures: Mapping[str, Any] = measure(thin, made, [])
        figures = {**pose_errors(self.held, made), **figures}
        return {name: float(value) for name, value in figures.items() if name not in OF_VIDEOS}

    @torch.no_grad()
    def conditions(self, clip: HeldOutClip) -> tuple[Conditioning, np.ndarray]:
        """What the networks know of T frames, each a video of its own; control frames uint8 [T, H, W, 3]."""
        count = len(clip.frames) - 1
        encoder: Any = self.parts.image_encoder
        pixels = clip_pixels(clip.frames[0], encoder.config.image_size)
        token = encoder(pixels.to(self.device)).image_embeds
        reference = posterior(self.parts.vae, to_signed(clip.frames[:1]).to(self.device)).mode()
        conditioning = Conditioning(
            token[:, None].expand(count, -1, -1),
            reference.expand(count, -1, -1, -1),
            self.numbers().time_ids().expand(count, -1).to(self.device),
        )
        return conditioning, clip.control[1:]

    @torch.no_grad()
    def sample(self, conditioning: Conditioning, frames: np.ndarray, controlled: bool = True) -> Tensor:
        """Latents [T, C, h, w], on the CPU, of pictures sampled from noise by the loop of `animate`.

        The pictures are the batch of one call, and not a video: each is denoised by itself.
        """
        model, count = self.config.model, len(frames)
        sigmas = sampling_sigmas(model.scheduler(), model.steps)
        noise = torch.randn(conditioning.image_latents.shape, generator=seeded(self.config.loop.seed))
        control = ControlCache(self.control_module, frames, chunk=count)
        windows = even(count, count, 0)

        def predict(step: int, index: int, latents: Tensor) -> Tensor:
            sigma = sigmas[step].to(self.device)
            features = control(step, sigma, windows[index].control) if controlled else None
            noisy = latents[:, None].to(self.device)
            return self.denoiser(noisy, sigma.expand(count), conditioning, features)[:, 0]

        with without_temporal(self.parts.unet), without_temporal(self.control_network()):
            start = noise * initial_deviation(model.scheduler(), sigmas)
            return denoise(start, sigmas, windows, predict)


APART = 6
"""Motion frames between two held-out pictures of a clip, so that their poses differ."""
OF_VIDEOS = ("flicker", "seam_score")
"""Figures that mean nothing for pictures made one by one."""


def pose_errors(clips: list[HeldOutClip], outputs: list[np.ndarray]) -> dict[str, float]:
    """How far the wrists are from where they belong, in percent of the height.

    The pose that a picture shows is taken from the true frame of its clip that is nearest, by squared error:
    that works while colours are still wrong, and needs no detector. A clip's outputs, [T, H, W, 3], belong to
    every APART-th of its frames, and all of its frames are candidates. `pose_error_shuffled_percent` is the
    distance to the pose of another of the T frames; `pose_found_percent` is how often the picture is nearer
    to its own frame than to the T - 1 others.
    """
    errors: dict[str, list[float]] = {"pose_error_percent": [], "pose_error_shuffled_percent": []}
    found: list[bool] = []
    for clip, output in zip(clips, outputs, strict=True):
        truth, wrists = clip.frames[1:].astype(np.float32), clip.wrists[1:, :, :2] / clip.frames.shape[1]
        asked = range(0, len(truth), APART)
        for t, picture in enumerate(output):
            distances = ((picture - truth) ** 2).mean((1, 2, 3))
            shown = wrists[int(distances.argmin())]
            other = (t + len(asked) // 2) % len(asked)
            for at, values in zip((t, other), errors.values(), strict=True):
                values += np.linalg.norm(shown - wrists[asked[at]], axis=-1).tolist()
            found.append(int(distances[list(asked)].argmin()) == t)
    figures = {name: 100 * float(np.mean(values)) for name, values in errors.items()}
    return figures | {"pose_found_percent": 100 * float(np.mean(found))}


class WithoutControl(Denoiser):
    """A denoiser whose loss sees no control frames."""

    def loss(self, latents: Tensor, control_frames: Tensor | None, *args: Any, **kwargs: Any) -> Loss:
        return super().loss(latents, None, *args, **kwargs)


def add_plain(hidden: Tensor, control: Tensor, scale: float | Tensor, strength: float) -> Tensor:
    """hidden + strength * scale * control, pooled to the size of `hidden`: no cross-normalization."""
    pooled = F.adaptive_avg_pool2d(control.float(), (hidden.shape[-2], hidden.shape[-1]))
    return hidden + (pooled * (scale * strength)).to(hidden.dtype)


def freeze_temporal(controlnet: ControlNet) -> None:
    """Put to rest what a ControlNet skips when it learns pictures, and what cannot matter."""
    for name, parameter in controlnet.named_parameters():
        parameter.requires_grad_(not is_temporal(name) and not unused(name))


def hint_channels(parts: Parts) -> tuple[int, ...]:
    """Widths of the hint network: the published ones, cut to the VAE's downscale."""
    return HINT_CHANNELS[: len(parts.vae.config["block_out_channels"])]


def thinned(clip: HeldOutClip) -> HeldOutClip:
    """A clip with its reference and every APART-th of its frames."""
    pick = [0, *range(1, len(clip.frames), APART)]
    return replace(
        clip,
        frames=clip.frames[pick],
        control=clip.control[pick],
        parts=clip.parts[pick],
        wrists=clip.wrists[pick],
    )


def training_step(task: ClaimsTask, batch: Any, learning_rate: float) -> Callable[[], None]:
    """A function that makes one step of a training on a batch: loss, gradients, AdamW."""
    parameters = [p for _, p in task.trainable()]
    optimizer = torch.optim.AdamW(parameters, lr=learning_rate)

    def step() -> None:
        optimizer.zero_grad()
        task.loss(0, 0, batch)[0].backward()
        optimizer.step()

    return step
