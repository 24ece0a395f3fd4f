"""What every training loop is told: how long and how fast to learn, and what to keep."""

from typing import Annotated, Literal

from pydantic import Field

from ..config_base import Config


class LoopConfig(Config):
    """How long and how fast to learn, and what to keep."""

    steps: Annotated[int, Field(ge=1)] = 3000
    """Optimizer steps."""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """Decides data, noise and initial weights."""
    learning_rate: Annotated[float, Field(gt=0)] = 1e-5
    """AdamW's, after the warm-up."""
    warmup: Annotated[int, Field(ge=0)] = 500
    """Steps over which the learning rate rises from 0."""
    cooldown: Annotated[int, Field(ge=0)] = 0
    """Last steps, over which it falls linearly to 0."""
    betas: tuple[float, float] = (0.9, 0.999)
    """AdamW's."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    """AdamW's."""
    eight_bit: bool = False
    """AdamW's moments in 8 bits (needs bitsandbytes)."""
    clip: Annotated[float, Field(gt=0)] = 1.0
    """Largest norm of the gradient."""
    accumulation: Annotated[int, Field(ge=1)] = 1
    """Batches whose gradients make one step, over all processes: a multiple of their number."""
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.999
    """Decay of the averaged weights that are exported; early steps use (1 + step) / (10 + step)."""
    precision: Literal["no", "bf16", "fp16"] = "no"
    """Automatic mixed precision; fp16 scales the loss against underflow."""
    divergence: Annotated[float, Field(gt=1)] = 50.0
    """The run stops when the loss exceeds this many times its running mean."""
    checkpoint_every: Annotated[int, Field(ge=1)] = 100
    """Steps between checkpoints."""
    keep: Annotated[int, Field(ge=1)] = 2
    """Checkpoints that stay."""
    log_every: Annotated[int, Field(ge=1)] = 10
    """Steps between log entries."""
    validate_every: Annotated[int, Field(ge=1)] = 500
    """Steps between validations."""
