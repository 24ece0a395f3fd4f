"""When a training must stop: numbers that no step should follow, and data that cannot be read."""

import math
from pathlib import Path

from ...stages.errors import ConfigError, TrainingDivergedError
from .checkpoints import checkpoints

TOLERATED, FEW = 0.05, 10
"""The share of clips that may be unreadable; below a few there is no telling."""


def check_numbers(
    loss: float, norm: float, mean: float | None, divergence: float, step: int, folder: Path
) -> None:
    """TrainingDivergedError, naming the last good checkpoint, for a loss or a gradient not to be followed.

    `norm` is the gradient's, `mean` the running mean of the loss, of which it may be `divergence` times.
    """
    what = f"the loss at step {step} is {loss:.4g}"
    if math.isfinite(loss) and (mean is None or loss <= divergence * mean):
        if math.isfinite(norm):
            return
        what = f"the gradient at step {step} is {norm:.4g}"
    last = checkpoints(folder)
    good = f"the last good checkpoint is {last[-1]}" if last else "there is no checkpoint yet"
    raise TrainingDivergedError(
        f"{what}: stopped; {good}; run the same command with a lower loop.learning_rate to go on"
    )


def check_data(now: int, read: int, lost: int, step: int, folder: Path) -> None:
    """ConfigError where a step has no clip at all, or too many clips could not be read.

    `now` clips were read in this step; `read` were and `lost` were not since the run began.
    """
    if now and (lost < FEW or lost <= TOLERATED * (read + lost)):
        return
    raise ConfigError(
        f"{lost} of {read + lost} clips could not be read up to step {step}: mend the data; "
        f"{folder / 'left_out.jsonl'} says which and why"
    )
