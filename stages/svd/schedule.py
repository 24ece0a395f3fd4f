"""Noise levels of sampling, and the step between two of them."""

from collections.abc import Mapping
from typing import Any, cast

import torch
from diffusers.schedulers.scheduling_euler_discrete import EulerDiscreteScheduler
from torch import Tensor

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
