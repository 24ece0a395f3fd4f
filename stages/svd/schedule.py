"""Noise levels of sampling, and the step between two of them."""

from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import torch
from diffusers.schedulers.scheduling_euler_discrete import EulerDiscreteScheduler
from diffusers.schedulers.scheduling_utils import AysSchedules
from torch import Tensor

from ..errors import ConfigError
from .denoiser import denoised

SVD_SCHEDULER: dict[str, Any] = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "prediction_type": "v_prediction",
    "interpolation_type": "linear",
    "use_karras_sigmas": True,
    "sigma_min": 0.002,
    "sigma_max": 700.0,
    "timestep_spacing": "leading",
    "timestep_type": "continuous",
    "steps_offset": 1,
}
"""As published with SVD-XT 1.1."""


def sampling_sigmas(config: Mapping[str, Any], steps: int) -> Tensor:
    """float32 [steps + 1] on the CPU, from the largest noise level to 0, as diffusers computes them."""
    scheduler = cast(EulerDiscreteScheduler, EulerDiscreteScheduler.from_config(dict(config)))
    scheduler.set_timesteps(steps)
    return scheduler.sigmas.to("cpu", torch.float32)


def can_align(config: Mapping[str, Any]) -> bool:
    """Whether Align Your Steps fits: sampling starts at the largest noise level of SVD."""
    return config.get("sigma_max") == AysSchedules["StableDiffusionVideoSigmas"][0]


def aligned_sigmas(config: Mapping[str, Any], steps: int) -> Tensor:
    """Noise levels of Align Your Steps for SVD, float32 [steps + 1] on the CPU. Approximate, off by default.

    Sabour et al. 2024 (arXiv:2404.14507): 10 levels that were optimized for SVD, interpolated in the
    logarithm for another number of steps, and 0. ConfigError for a model that does not start at their
    largest level.
    """
    levels = np.array(AysSchedules["StableDiffusionVideoSigmas"][:-1])
    if not can_align(config):
        raise ConfigError(
            f"the noise levels of Align Your Steps begin at {levels[0]:g}, as Stable Video Diffusion's do, "
            f"and this model's at {config.get('sigma_max')}: leave align_your_steps off"
        )
    places = np.linspace(0, len(levels) - 1, steps)
    sigmas = np.exp(np.interp(places, np.arange(len(levels)), np.log(levels)))
    return torch.tensor([*sigmas, 0.0], dtype=torch.float32)


CONSISTENCY_LEVELS = 40
RHO = 7.0
"""Noise levels that AnimateLCM-SVD was distilled on, and the exponent of their spacing."""


def consistency_sigmas(config: Mapping[str, Any], steps: int) -> Tensor:
    """Noise levels for consistency-distilled weights, float32 [steps + 1] on the CPU. Approximate.

    Every (40 // steps)-th of the 40 levels of Karras et al. 2022, equation 5, and 0, as published with
    AnimateLCM-SVD (Wang et al. 2024, arXiv:2402.00769). ConfigError for a number of steps it cannot give.
    """
    if not 1 <= steps <= CONSISTENCY_LEVELS:
        raise ConfigError(
            f"{steps} steps: consistency sampling has {CONSISTENCY_LEVELS} noise levels, use 2 to 8 of them"
        )
    places = np.arange(steps) * (CONSISTENCY_LEVELS // steps) / (CONSISTENCY_LEVELS - 1)
    low, high = config["sigma_min"] ** (1 / RHO), config["sigma_max"] ** (1 / RHO)
    sigmas = (high + places * (low - high)) ** RHO
    return torch.tensor([*sigmas, 0.0], dtype=torch.float32)


def initial_deviation(config: Mapping[str, Any], sigmas: Tensor) -> Tensor:
    """Deviation of the latents that sampling starts from: sqrt(s^2 + 1); s in some spacings."""
    if config["timestep_spacing"] in ("linspace", "trailing"):
        return sigmas.max()
    return (sigmas.max() ** 2 + 1).sqrt()


def euler_step(latents: Tensor, v: Tensor, sigma: Tensor, next_sigma: Tensor) -> Tensor:
    """One Euler step of dx / ds = (x - x0_hat) / s, Karras et al. 2022, algorithm 1 without noise.

    All in float32 whatever the network's dtype: the latents are not rounded between steps.
    """
    derivative = (latents - denoised(latents, v, sigma)) / sigma
    return latents + derivative * (next_sigma - sigma)


def consistency_step(latents: Tensor, v: Tensor, sigma: Tensor, next_sigma: Tensor, noise: Tensor) -> Tensor:
    """One step of multistep consistency sampling: x0_hat + s' z.

    Song et al. 2023 (arXiv:2303.01469), algorithm 1. The consistency function is the denoiser's x0_hat
    (s_data = 1, epsilon = 0), as AnimateLCM-SVD has it.
    `noise` is fresh and of unit deviation.
    """
    return denoised(latents, v, sigma) + next_sigma * noise
