"""How much noise a training sample gets."""

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


class SigmaDistribution(Protocol):
    """Draws noise levels from a CPU generator."""

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """`count` sigmas, float32 [count], greater than 0."""
        ...


@dataclass(frozen=True, slots=True)
class LogNormal:
    """ln(sigma) ~ N(mean, std^2), clipped to low..high.

    Karras et al. 2022, section 5; mean and deviation as in Stable Video Diffusion (arXiv:2311.15127).
    """

    mean: float = 0.7
    std: float = 1.6
    low: float = 0.002
    high: float = 700.0

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        normal = torch.randn(count, generator=generator)
        return (self.mean + self.std * normal).exp().clamp(self.low, self.high)


@dataclass(frozen=True, slots=True)
class CosineInterpolated:
    """The published training's: a cosine log-SNR schedule, interpolated between two shifts of resolution.

    Hoogeboom et al., "simple diffusion", 2023 (arXiv:2301.11093), equations 3-6: the schedule of an image of
    `image_size` is shifted to the noise of `noise_size_low` at the clean end and of `noise_size_high` at the
    noisy end.
    """

    image_size: float = 64.0
    noise_size_low: float = 32.0
    noise_size_high: float = 64.0
    sigma_data: float = 0.5
    low: float = 0.002
    high: float = 700.0

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        return self.sigma_at(torch.rand(count, generator=generator, dtype=torch.float64)).float()

    def sigma_at(self, u: Tensor) -> Tensor:
        """Sigma at quantile u in 0..1 of the schedule, rising from `low` to `high`."""
        low_noise = self._log_snr(u, self.noise_size_low)
        high_noise = self._log_snr(u, self.noise_size_high)
        return self.sigma_data * (-torch.lerp(low_noise, high_noise, u) / 2).exp()

    def _log_snr(self, u: Tensor, noise_size: float) -> Tensor:
        shift = 2 * math.log(noise_size / self.image_size)
        largest = -2 * math.log(self.low / self.sigma_data) - shift
        smallest = -2 * math.log(self.high / self.sigma_data) - shift
        start, stop = math.atan(math.exp(-largest / 2)), math.atan(math.exp(-smallest / 2))
        return -2 * (start + u * (stop - start)).tan().log() + shift
