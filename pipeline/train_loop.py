"""The loop that every training here runs in: steps, averaged weights, checkpoints, exact resume, logs.

What is learned is a `Task`; the loop knows only its loss. Data and noise of a step depend on (seed, step)
alone, so a run that was stopped and resumed continues with the numbers of an uninterrupted one.
"""

import json
import math
import re
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol, cast

import torch
from accelerate import Accelerator
from pydantic import Field
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from tqdm import tqdm

from ..stages.errors import ConfigError, OutputError, PosedanceError, WeightsError
from .config import Config
from .progress import LOG_INTERVAL_S, say

CHECKPOINT = re.compile(r"checkpoint-(\d{7})")
ADAM_STATE = ("exp_avg", "exp_avg_sq")


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


MAY_CHANGE = {"steps", "cooldown", "checkpoint_every", "keep", "log_every", "validate_every"}
"""Of a LoopConfig, what a resumed run may set anew."""


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


class Averaged:
    """Exponential moving average of the learning parameters, with `swap` to look at it."""

    def __init__(self, parameters: list[nn.Parameter]) -> None:
        self.parameters = parameters
        self.average = [p.detach().clone() for p in parameters]

    @torch.no_grad()
    def update(self, decay: float) -> None:
        for average, parameter in zip(self.average, self.parameters, strict=True):
            average.lerp_(parameter.detach(), 1 - decay)

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange the learning and the averaged weights; call twice to return."""
        for parameter, average in zip(self.parameters, self.average, strict=True):
            kept = parameter.detach().clone()
            parameter.copy_(average)
            average.copy_(kept)


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
    start, mean_loss = restore(task, named, optimizer, averaged, folder, identity)
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
                save_checkpoint(task, named, optimizer, averaged, folder, done, mean_loss, identity)
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


def checkpoints(folder: Path) -> list[Path]:
    """Complete checkpoints, oldest first."""
    return sorted(path for path in folder.glob("checkpoint-*") if CHECKPOINT.fullmatch(path.name))


def prune(folder: Path, keep: int) -> None:
    for path in checkpoints(folder)[:-keep]:
        shutil.rmtree(path)


def save_checkpoint(
    task: Task,
    named: list[tuple[str, nn.Parameter]],
    optimizer: Any,
    averaged: Averaged,
    folder: Path,
    step: int,
    mean_loss: float,
    identity: Mapping[str, Any],
) -> Path:
    """Write `checkpoint-STEP`, under another name until it is whole."""
    final = folder / f"checkpoint-{step:07d}"
    partial = folder / f".{final.name}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir()
        for name, module in task.modules.items():
            state = {key: value.contiguous() for key, value in module.state_dict().items()}
            save_file(state, partial / f"{name}.safetensors")
        names = [name for name, _ in named]
        save_file(dict(zip(names, averaged.average, strict=True)), partial / "ema.safetensors")
        state = optimizer.state
        tensors = {f"{name}.{key}": state[p][key] for name, p in named for key in ADAM_STATE if p in state}
        save_file(tensors, partial / "optimizer.safetensors")
        facts = {"step": step, "mean_loss": mean_loss, "config": dict(identity)}
        (partial / "state.json").write_text(json.dumps(facts, indent=1))
        shutil.rmtree(final, ignore_errors=True)
        partial.rename(final)
    except OSError as error:
        raise OutputError(f"cannot write checkpoint {final}: {error.strerror}") from error
    return final


def restore(
    task: Task,
    named: list[tuple[str, nn.Parameter]],
    optimizer: torch.optim.Optimizer,
    averaged: Averaged,
    folder: Path,
    identity: Mapping[str, Any],
) -> tuple[int, float | None]:
    """Load the newest checkpoint in place; returns its step and mean loss, or (0, None)."""
    found = checkpoints(folder)
    if not found:
        return 0, None
    last = found[-1]
    facts = json.loads((last / "state.json").read_text())
    changed = differences(facts["config"], dict(identity))
    if changed:
        raise ConfigError(
            f"{folder} holds a run with other settings ({', '.join(changed)}): "
            "choose another output folder or restore the settings"
        )
    for name, module in task.modules.items():
        module.load_state_dict(load_file(last / f"{name}.safetensors"))
    average = load_file(last / "ema.safetensors")
    moments = load_file(last / "optimizer.safetensors")
    if set(average) != {name for name, _ in named}:
        raise WeightsError(f"{last} averages other parameters than this run learns")
    with torch.no_grad():
        for (name, parameter), mean in zip(named, averaged.average, strict=True):
            mean.copy_(average[name])
            state: dict[str, Tensor] = {"step": torch.tensor(float(facts["step"]))}
            for key in ADAM_STATE:
                state[key] = moments[f"{name}.{key}"].to(parameter.device)
            optimizer.state[parameter] = state
    return int(facts["step"]), float(facts["mean_loss"])


def differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Dotted names of the settings that differ and may not."""
    names: list[str] = []
    for key in sorted(set(old) | set(new)):
        if key in MAY_CHANGE and prefix in ("", "loop."):
            continue
        a, b = old.get(key), new.get(key)
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            names += differences(a, b, f"{prefix}{key}.")
        elif json.dumps(a) != json.dumps(b):
            names.append(f"{prefix}{key}")
    return names
