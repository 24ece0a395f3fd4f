"""AdamW in 32 or 8 bits, its learning rate, and its gradients over several processes."""

from importlib import import_module
from typing import Any, cast

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from ...stages.errors import ConfigError
from .loop_config import LoopConfig

BUCKET = 1 << 25
"""Gradient elements that one message carries: 128 MiB, as large as torch's DistributedDataParallel's few."""
AUTOCAST = {"no": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def make_optimizer(
    config: LoopConfig, parameters: list[nn.Parameter], rates: list[float] | None = None
) -> torch.optim.Optimizer:
    """AdamW, Loshchilov and Hutter 2017 (arXiv:1711.05101); with 8-bit moments, Dettmers et al. 2021
    (arXiv:2110.02861), where the config asks for them.

    Each group's `rate` says how many times the learning rate its parameters take: those of `rates`, or 1.
    """
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}  # torch does not mix cut and whole ones
    for parameter, rate in zip(parameters, rates or [1.0] * len(parameters), strict=True):
        groups.setdefault((rate, isinstance(parameter, DTensor)), []).append(parameter)
    given = [{"params": members, "rate": rate} for (rate, _), members in groups.items()]
    options: dict[str, Any] = {
        "lr": config.learning_rate,
        "betas": config.betas,
        "weight_decay": config.weight_decay,
        "eps": 1e-8,
    }
    if not config.eight_bit:
        return torch.optim.AdamW(given, **options)
    try:
        bitsandbytes = import_module("bitsandbytes")
    except ImportError as error:
        raise ConfigError(
            "loop.eight_bit needs bitsandbytes, which is not installed: pip install 'posedance[eight-bit]'"
        ) from error
    return bitsandbytes.optim.AdamW8bit(given, **options)


def learning_rate_at(step: int, config: LoopConfig) -> float:
    """Linear warm-up, constant, linear cool-down."""
    rise = min((step + 1) / config.warmup, 1.0) if config.warmup else 1.0
    fall = min((config.steps - step) / config.cooldown, 1.0) if config.cooldown else 1.0
    return config.learning_rate * rise * fall


def ema_decay_at(step: int, decay: float) -> float:
    """Shorter memory in the beginning, as in Tensorflow's ExponentialMovingAverage."""
    return min(decay, (1 + step) / (10 + step))


def summed(accelerator: Accelerator, values: Tensor) -> Tensor:
    """Sum over the processes."""
    return cast(Tensor, accelerator.reduce(values, reduction="sum"))


def on_main(accelerator: Accelerator, value: bool) -> bool:
    """What the main process says, for all of them."""
    said = torch.tensor(float(value and accelerator.is_main_process), device=accelerator.device)
    return bool(summed(accelerator, said) > 0)


def everywhere(accelerator: Accelerator, value: bool) -> bool:
    """Whether it is so in all processes."""
    true = summed(accelerator, torch.tensor(float(value), device=accelerator.device))
    return int(true) == accelerator.num_processes


def sum_gradients(accelerator: Accelerator, parameters: list[nn.Parameter]) -> None:
    """Sum of the gradients over the processes, in messages of about BUCKET elements.

    The loss of a step is a sum over its batches, so this is what one process would have. Of a parameter that
    is cut over the processes the backward pass has left their mean.
    """
    if accelerator.num_processes == 1:
        return
    for parameter in parameters:
        if isinstance(parameter, DTensor) and parameter.grad is not None:
            parameter.grad.mul_(accelerator.num_processes)
    parameters = [parameter for parameter in parameters if not isinstance(parameter, DTensor)]
    bucket: list[nn.Parameter] = []
    for i, parameter in enumerate(parameters):
        bucket.append(parameter)
        if sum(p.numel() for p in bucket) < BUCKET and i + 1 < len(parameters):
            continue
        grads = [p.grad if p.grad is not None else torch.zeros_like(p) for p in bucket]
        total = summed(accelerator, torch.cat([grad.flatten() for grad in grads]))
        for p, part in zip(bucket, total.split([p.numel() for p in bucket]), strict=True):
            p.grad = part.view_as(p).clone()
        bucket = []
