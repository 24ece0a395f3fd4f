"""What a training for super-resolution in one step learns: SD3 from the enlarged picture to the true one.

Where sampling begins from a known picture instead of noise, the straight path to learn is that from it to the
truth: flow matching with data-dependent coupling, Albergo et al. 2023 (arXiv:2310.03725). Here it has one
step, the last of the schedule: what enters is the enlarged picture with very little noise.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ....datasets.pictures import PictureSample
from ....stages.errors import ConfigError
from ....stages.pixels import to_unit
from ..data import seeded
from .config import ImageTrainConfig
from .task import PictureTask

PROBES = 8
"""Latent pictures by which the weights of the channels are found."""
PROBE = 0.1
"""How far a channel is moved to see what that does to pixels."""
FLOOR = 0.1
"""Added to how much there is to learn at a place, as a share of its mean, so that all places are seen."""


class EnlargingTask(PictureTask):
    """One step from the enlarged picture, on squares cut from pictures whose latents are kept in memory."""

    def __init__(self, config: ImageTrainConfig, pipeline: Any = None, module: Any = None) -> None:
        super().__init__(config, pipeline, module)
        if self.family != "sd3" or config.data.condition != "low-resolution" or config.begin is None:
            raise ConfigError(
                f"begin is for low-resolution pictures on SD3, not for {config.data.condition} on "
                f"{self.family}: leave it out"
            )
        self.begin = config.begin
        self._kept: dict[int, tuple[Tensor, Tensor]] = {}
        self._empty: dict[str, Tensor] = {}
        self.weights = channel_weights(self.pipeline.vae)

    def loss(self, step: int, micro: int, batch: list[PictureSample]) -> tuple[Tensor, dict[str, float]]:
        generator = seeded(self.config.loop.seed, step, micro)
        begun, truth, condition = self.squares(batch, generator)
        noise = torch.randn(begun.shape, generator=generator).to(self.device)
        error = self.error(self.one_step(begun, noise, condition), truth)
        left = error / self.error(begun, truth).detach().clamp_min(1e-8)
        return left, {"error_left": float(left.detach())}

    def error(self, latents: Tensor, truth: Tensor) -> Tensor:
        """Mean squared error, each channel weighted by what it does to pixels."""
        return (self.weights.to(latents.device) * (latents - truth).float() ** 2).mean()

    def one_step(self, begun: Tensor, noise: Tensor, condition: Tensor) -> Tensor:
        """Latents [N, C, h, w] of the true picture from those of the enlarged one, as sampling finds them."""
        noisy = (1 - self.begin) * begun + self.begin * noise
        timesteps = torch.full((len(begun),), 1000 * self.begin, device=self.device)
        if not self._empty:
            self._empty = self.words([""])
        words = {name: value.expand(len(begun), *value.shape[1:]) for name, value in self._empty.items()}
        self.injection.features, self.injection.scale = self.module(condition[:, None], timesteps), 1.0
        return noisy - self.begin * self.predict(noisy, timesteps, words, (0, 0)).float()

    def squares(
        self, batch: list[PictureSample], generator: torch.Generator
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Begun and true latents [N, C, s, s], conditions [N, 3, S, S] in 0..1: the squares of a batch."""
        found = []
        for sample in batch:
            begun, truth = self.latents_of(sample)
            condition = to_unit(sample.condition[None])[0].to(self.device)
            factor = condition.shape[-1] // begun.shape[-1]
            if self.config.crop is None:
                found.append((begun, truth, condition))
                continue
            side = self.config.crop // factor
            for y, x in places((begun - truth).square().mean(0), side, self.config.crops, generator):
                rows, columns = slice(y, y + side), slice(x, x + side)
                large = [slice(factor * span.start, factor * span.stop) for span in (rows, columns)]
                cut = condition[:, large[0], large[1]]
                found.append((begun[:, rows, columns], truth[:, rows, columns], cut))
        begun, truth, condition = (torch.stack(parts) for parts in zip(*found, strict=True))
        return begun, truth, condition

    def latents_of(self, sample: PictureSample) -> tuple[Tensor, Tensor]:
        """Latents [C, h, w] of a picture's enlarged low-resolution self and of itself, in float32."""
        if sample.number not in self._kept:
            with torch.autocast(self.device.type, enabled=False):
                both = self.encode(np.stack([sample.condition, sample.picture]))
            if not self.config.data.keep:
                return both[0], both[1]
            self._kept[sample.number] = both[0], both[1]
        return self._kept[sample.number]


def places(much: Tensor, side: int, count: int, generator: torch.Generator) -> list[tuple[int, int]]:
    """Top left corners (y, x) of squares around cells drawn by how `much` [h, w] there is to learn."""
    height, width = much.shape
    weight = (much + FLOOR * much.mean()).flatten().cpu()
    centres = torch.multinomial(weight, count, replacement=True, generator=generator).tolist()
    return [
        (
            min(max(centre // width - side // 2, 0), height - side),
            min(max(centre % width - side // 2, 0), width - side),
        )
        for centre in centres
    ]


@torch.no_grad()
def channel_weights(vae: Any) -> Tensor:
    """[C, 1, 1], mean 1: how much a change of each latent channel changes the decoded pixels, squared."""
    channels = int(vae.config["latent_channels"])
    latents = F.interpolate(torch.randn(PROBES, channels, 4, 4, generator=seeded(3)), scale_factor=4)
    scale = float(vae.config["scaling_factor"])
    weights = []
    moves = torch.randn(PROBES, 16, 16, generator=seeded(4)) * PROBE
    plain = vae.decode(latents.to(vae.device) / scale, return_dict=False)[0]
    for channel in range(channels):
        moved = latents.clone()
        moved[:, channel] += moves
        changed = vae.decode(moved.to(vae.device) / scale, return_dict=False)[0]
        weights.append((changed - plain).square().mean())
    found = torch.stack(weights).float().cpu()
    return (found / found.mean())[:, None, None]
