"""The loop that every training here runs in: steps, averaged weights, checkpoints, exact resume, logs.

What is learned is a `Task`; the loop knows only its loss. Data and noise of a step depend on (seed, step)
alone, so a run that was stopped and resumed continues with the numbers of an uninterrupted one.
"""

import json
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol, cast

import torch
from accelerate import Accelerator
from pydantic import Field
from torch import Tensor, nn
from tqdm import tqdm

from ..stages.errors import ConfigError, PosedanceError
from .config import Config
from .progress import LOG_INTERVAL_S, say
from .train_checkpoints import Averaged, checkpoints, prune, restore, save_checkpoint


class TrainingDivergedError(PosedanceError):
    """The loss is no longer a number, or far above where it was."""


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
    clip: Annotated[float, Field(gt=0)] = 1.0
    """Largest norm of the gradient."""
    accumulation: Annotated[int, Field(ge=1)] = 1
    """Batches whose gradients make one step, over all processes: a multiple of their number."""
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.999
    """Decay of the averaged weights that are exported; early steps use (1 + step) / (10 + step)."""
    precision: Literal["no", "bf16", "fp16"] = "no"
    """Automatic mixed precision."""
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


class Task(Protocol):
    """What is learned."""

    modules: Mapping[str, nn.Module]
    """Everything that a checkpoint holds, by name."""

    def trainable(self) -> list[tuple[str, nn.Parameter]]:
        """The parameters that learn, named `module.parameter`."""
        ...

    def loss(self, step: int, micro: int, batch: Any) -> tuple[Tensor, dict[str, float]]:
        """The loss of one batch and numbers to log."""
        ...

    def batches(self, start: int, stop: int, micros: range) -> Any:
        """Iterable over batches of steps start..stop; of the `accumulation` ones of a step, only `micros`."""
        ...

    def validate(self, step: int, board: Any) -> dict[str, float]:
        """Figures of the averaged weights; pictures and videos go to the tensorboard writer `board`."""
        ...


def learning_rate_at(step: int, config: LoopConfig) -> float:
    """Linear warm-up, constant, linear cool-down."""
    rise = min((step + 1) / config.warmup, 1.0) if config.warmup else 1.0
    fall = min((config.steps - step) / config.cooldown, 1.0) if config.cooldown else 1.0
    return config.learning_rate * rise * fall


def ema_decay_at(step: int, decay: float) -> float:
    """Shorter memory in the beginning, as in Tensorflow's ExponentialMovingAverage."""
    return min(decay, (1 + step) / (10 + step))


def run_loop(
    task: Task,
    config: LoopConfig,
    folder: Path,
    identity: Mapping[str, Any],
    on_step: Callable[[int, float], None] | None = None,
) -> Averaged:
    """Train `task` in `folder` until `config.steps`, from its last checkpoint if there is one.

    `identity` is the run's resolved config: a checkpoint of another one is refused. Raises
    TrainingDivergedError when the loss stops being finite, ConfigError for a folder of another run.
    """
    accelerator = Accelerator(mixed_precision=config.precision)
    named = task.trainable()
    if not named:
        raise ConfigError("nothing learns: choose other parameter patterns")
    parameters = [p for _, p in named]
    optimizer = torch.optim.AdamW(
        parameters, lr=config.learning_rate, betas=config.betas, weight_decay=config.weight_decay, eps=1e-8
    )
    averaged = Averaged(parameters)
    folder.mkdir(parents=True, exist_ok=True)
    start, mean_loss = restore(task.modules, named, optimizer, averaged, folder, identity)
    if start:
        say(f"resuming from step {start} in {folder}")
    total = sum(p.numel() for p in parameters)
    say(f"learning {total:,} parameters in {len(parameters)} tensors, {config.steps - start} steps to go")
    if start >= config.steps:
        return averaged
    micros = range(accelerator.process_index, config.accumulation, accelerator.num_processes)
    if config.accumulation % accelerator.num_processes:
        raise ConfigError(
            f"{accelerator.num_processes} processes cannot share {config.accumulation} batches of a step: "
            "make loop.accumulation a multiple"
        )
    batches = iter(task.batches(start, config.steps, micros))
    optimizer = accelerator.prepare_optimizer(optimizer)
    began = time.monotonic()
    with (
        Log(folder, start, accelerator.is_main_process) as log,
        tqdm(
            total=config.steps,
            initial=start,
            desc="train",
            unit="step",
            mininterval=LOG_INTERVAL_S,
            disable=not accelerator.is_main_process,
        ) as bar,
    ):
        for step in range(start, config.steps):
            logs: dict[str, float] = {}
            loss_sum = 0.0
            for micro in micros:
                with accelerator.autocast():
                    loss, logs = task.loss(step, micro, next(batches))
                accelerator.backward(loss / config.accumulation)
                loss_sum += float(loss.detach()) / config.accumulation
            loss_sum = float(summed(accelerator, torch.tensor(loss_sum)))
            check_loss(loss_sum, mean_loss, step, config, folder)
            mean_loss = loss_sum if mean_loss is None else 0.98 * mean_loss + 0.02 * loss_sum
            if accelerator.num_processes > 1:
                sum_gradients(accelerator, parameters)
            norm = accelerator.clip_grad_norm_(parameters, config.clip)
            norm = float(norm) if norm is not None else 0.0
            for group in optimizer.param_groups:
                group["lr"] = learning_rate_at(step, config)
            optimizer.step()
            optimizer.zero_grad()
            averaged.update(ema_decay_at(step, config.ema))
            done = step + 1
            bar.update(1)
            if on_step is not None:
                on_step(step, loss_sum)
            if not accelerator.is_main_process:
                continue
            if done % config.log_every == 0 or done == config.steps:
                rate = (done - start) / (time.monotonic() - began)
                values = {
                    "loss": loss_sum,
                    "loss_mean": mean_loss,
                    "gradient": norm,
                    "steps_per_s": rate,
                } | logs
                bar.set_postfix(loss=f"{mean_loss:.4f}")
                log.write(done, values)
            if done % config.validate_every == 0 or done == config.steps:
                averaged.swap()
                log.write(done, task.validate(done, log.board))
                averaged.swap()
            if done % config.checkpoint_every == 0 or done == config.steps:
                save_checkpoint(task.modules, named, optimizer, averaged, folder, done, mean_loss, identity)
                prune(folder, config.keep)
    return averaged


def check_loss(loss: float, mean: float | None, step: int, config: LoopConfig, folder: Path) -> None:
    """TrainingDivergedError, naming the last good checkpoint, for a loss that no step should follow."""
    if math.isfinite(loss) and (mean is None or loss <= config.divergence * mean):
        return
    last = checkpoints(folder)
    good = f"the last good checkpoint is {last[-1]}" if last else "there is no checkpoint yet"
    raise TrainingDivergedError(
        f"the loss at step {step} is {loss:.4g}: stopped; {good}; lower learning_rate and resume"
    )


def summed(accelerator: Accelerator, values: Tensor) -> Tensor:
    """Sum over the processes."""
    return cast(Tensor, accelerator.reduce(values, reduction="sum"))


def sum_gradients(accelerator: Accelerator, parameters: list[nn.Parameter]) -> None:
    """Sum of the gradients over the processes, in one message."""
    flat = torch.cat([(p.grad if p.grad is not None else torch.zeros_like(p)).flatten() for p in parameters])
    reduced = summed(accelerator, flat)
    offset = 0
    for p in parameters:
        p.grad = reduced[offset : offset + p.numel()].view_as(p).clone()
        offset += p.numel()


class Log:
    """`log.jsonl`, one line of JSON for each entry, and the same numbers as tensorboard's curves.

    Only the main process writes.
    """

    def __init__(self, folder: Path, start: int, main: bool) -> None:
        self.board: Any = None
        if main:
            from torch.utils.tensorboard import SummaryWriter  # heavy, and only a training needs it

            self.board = SummaryWriter(str(folder / "tensorboard"), purge_step=start or None)
            self.lines = (folder / "log.jsonl").open("a", encoding="utf-8")

    def write(self, step: int, values: Mapping[str, float]) -> None:
        self.lines.write(json.dumps({"step": step, **values}) + "\n")
        self.lines.flush()
        for name, value in values.items():
            self.board.add_scalar(name, value, step)

    def __enter__(self) -> "Log":
        return self

    def __exit__(self, *_: object) -> None:
        if self.board is not None:
            self.board.close()
            self.lines.close()
