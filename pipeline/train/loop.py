"""The loop that every training here runs in: steps, averaged weights, checkpoints, exact resume, logs.

What is learned is a `Task`; the loop knows only its loss. Data and noise of a step depend on (seed, step)
alone, so a run that was stopped and resumed continues with the numbers of an uninterrupted one.

Several processes, started by `accelerate launch` or by Ray Train, share the batches of a step and sum their
gradients: they learn what one process would.
"""

import logging
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol

import torch
from accelerate import Accelerator, InitProcessGroupKwargs
from torch import Tensor, nn
from tqdm import tqdm

from ...datasets.clips import BadRecord
from ...stages.errors import ConfigError
from ..interrupts import deferred_interrupts
from ..job.job import hold_folder
from ..progress import LOG_INTERVAL_S
from . import sharded
from .checkpoints import Averaged, Position, prune, restore, save_checkpoint
from .checks import check_data, check_numbers
from .log import LOG, Log, Means, read_log
from .loop_config import LoopConfig
from .optimizer import (
    AUTOCAST,
    ema_decay_at,
    everywhere,
    learning_rate_at,
    make_optimizer,
    on_main,
    sum_gradients,
    summed,
)

logger = logging.getLogger(__name__)

SMALLEST_SCALE = 1.0
"""fp16's loss scale starts at 65536 and halves at every overflow; below this the numbers are bad."""
PATIENCE = timedelta(hours=2)
"""How long processes wait for one another: the main one also validates."""
MEAN_DECAY = 0.98
"""Of the running mean of the losses: it remembers some 50 steps (a choice)."""
ECHO_S = 5.0
"""Several processes get one Ctrl-C twice: from the terminal, and from the launcher within this time."""


Validate = Callable[[int, Log], Mapping[str, float]]
"""(steps done, log) -> figures of the averaged weights; pictures and videos go to the log."""


class Task(Protocol):
    """What is learned."""

    def to(self, device: torch.device) -> None:
        """Move all networks; called once, before the first step."""
        ...

    def trainable(self) -> list[tuple[str, nn.Parameter]]:
        """The parameters that learn, named `module.parameter`."""
        ...

    def loss(self, step: int, micro: int, batch: Any) -> tuple[Tensor, dict[str, float]]:
        """The loss of one batch and numbers to log."""
        ...

    def batches(self, start: int, stop: int, micros: range) -> Any:
        """Iterable over batches of steps start..stop; of the `accumulation` ones of a step, only `micros`.

        A batch is a list of samples; one that cannot be read is a BadRecord.
        """
        ...


SHARDING = {
    "ACCELERATE_USE_DEEPSPEED": "DeepSpeed",
    "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM",
}
"""What `accelerate launch` sets for its launched processes where its config asks for these."""


def processes() -> Accelerator:
    """This process among those that train together. What else asks accelerate for it must come later.

    Raises ConfigError where accelerate is configured to cut the model otherwise than by FSDP.
    """
    for variable, name in SHARDING.items():
        if os.environ.get(variable, "").lower() in ("true", "1", "yes"):
            raise ConfigError(
                f"accelerate is configured for {name}, which no training here heeds: use FSDP, or leave it "
                "out; gradient_checkpointing, lora_rank, loop.eight_bit and learn save memory"
            )
    return Accelerator(kwargs_handlers=[InitProcessGroupKwargs(timeout=PATIENCE)])


@contextmanager
def training_folder(folder: Path) -> Iterator[bool]:
    """Hold the folder of a training while it runs; yields whether this process is the main one, which does.

    Raises OutputError where another process holds it.
    """
    main = processes().is_main_process
    with hold_folder(folder) if main else nullcontext():
        yield main


def run_loop(
    task: Task,
    config: LoopConfig,
    folder: Path,
    identity: Mapping[str, Any],
    validate: Validate,
    rates: Mapping[str, float] | None = None,
    large: nn.Module | None = None,
) -> Averaged:
    """Train `task` in `folder` until `config.steps`, from its last checkpoint if there is one.

    `identity` is what decides the run: a checkpoint of another one is refused. At Ctrl-C or SIGTERM all
    processes end the step that runs, and it is kept. `validate` is called each few steps and at the end,
    after the step is kept. `rates` say how many times the learning rate the parameters of a module take, by
    its name; 1 for the others. `large` is the network that accelerate's config may ask to cut over the
    processes: then each of them validates, and what returns is cut. Raises TrainingDivergedError when the
    loss stops being finite, ConfigError for a folder of another run.
    """
    accelerator = processes()
    task.to(accelerator.device)
    is_cut = cut_if_asked(accelerator, config, large)
    run = Run(accelerator, config, folder, identity, task.trainable(), rates or {}, is_cut)
    run.validate_if_missed(validate)
    if run.start < config.steps:
        run.learn(task, validate)
    return run.averaged


def cut_if_asked(accelerator: Accelerator, config: LoopConfig, large: nn.Module | None) -> bool:
    """Cut `large` over the processes where accelerate's config asks for it; returns whether it is cut."""
    if not sharded.is_asked() or accelerator.num_processes == 1:
        return False
    if large is None:
        raise ConfigError(
            "accelerate is configured for FSDP, which cuts the UNet of `train` alone: leave it out"
        )
    sharded.cut(large, config, accelerator.num_processes)
    return True


class Run:
    """A training under way in one process: what learns, by what, and how far it is."""

    def __init__(
        self,
        accelerator: Accelerator,
        config: LoopConfig,
        folder: Path,
        identity: Mapping[str, Any],
        named: list[tuple[str, nn.Parameter]],
        rates: Mapping[str, float],
        is_cut: bool,
    ) -> None:
        if not named:
            raise ConfigError("nothing learns: choose other parameter patterns")
        self.accelerator, self.config, self.folder, self.identity = accelerator, config, folder, identity
        self.named, self.is_cut, self.main = named, is_cut, accelerator.is_main_process
        self.validates = self.main or is_cut  # a cut network needs all processes
        self.parameters = [parameter for _, parameter in named]
        faster = [rates.get(name.partition(".")[0], 1.0) for name, _ in named]
        self.optimizer = make_optimizer(config, self.parameters, faster)
        self.scaler = torch.amp.GradScaler(accelerator.device.type, enabled=config.precision == "fp16")
        self.averaged = Averaged(self.parameters)
        folder.mkdir(parents=True, exist_ok=True)
        position = restore(named, self.optimizer, self.averaged, self.scaler, folder, identity)
        self.start, self.mean_loss = position.step, position.mean_loss
        self.means, self.clips, self.lost = Means(), 0, 0
        if self.start:
            logger.info(f"resuming from step {self.start} in {folder}")
        total = sum(parameter.numel() for parameter in self.parameters)
        logger.info(
            f"learning {total:,} parameters in {len(named)} tensors, {config.steps - self.start} steps to go"
        )

    def validate_if_missed(self, validate: Validate) -> None:
        """Validate the step to go on from, where a run was stopped between keeping it and that."""
        due = self.start > 0 and validation_due(self.start, self.config)
        missed = due and not was_validated(self.folder, self.start)
        if self.validates and (on_main(self.accelerator, missed) if self.is_cut else missed):
            with Log(self.folder, self.start, self.main) as log:
                log_validation(validate, self.averaged, self.start, log)

    def learn(self, task: Task, validate: Validate) -> None:
        """Take all steps that are left, keep some of them, and log and validate as the config says."""
        config, several = self.config, self.accelerator.num_processes
        micros = range(self.accelerator.process_index, config.accumulation, several)
        if config.accumulation % several:
            raise ConfigError(
                f"{several} processes cannot share {config.accumulation} batches of a step: "
                "make loop.accumulation a multiple"
            )
        batches = iter(task.batches(self.start, config.steps, micros))
        began = time.monotonic()
        with (
            Log(self.folder, self.start, self.main) as log,
            tqdm(
                total=config.steps,
                initial=self.start,
                desc="train",
                unit="step",
                mininterval=LOG_INTERVAL_S,
                disable=not self.main,
            ) as bar,
            deferred_interrupts(0 if several == 1 else ECHO_S) as stopped,
        ):
            for step in range(self.start, config.steps):
                loss, stopping = self.add_gradients(task, step, micros, batches, log, stopped)
                gradient = self.take_step(step, loss)
                done = step + 1
                bar.update(1)
                last = done == config.steps
                ends = stopping and not last
                if self.main and (last or done % config.log_every == 0):
                    values = self.figures(step, loss, gradient, time.monotonic() - began)
                    bar.set_postfix(loss=f"{values['loss_mean']:.4f}")
                    log.write(done, values | self.means.take())
                if last or ends or done % config.checkpoint_every == 0:
                    self.keep(done)
                if ends:
                    self.accelerator.wait_for_everyone()  # who leaves makes the launcher end the others
                    raise KeyboardInterrupt
                if self.validates and validation_due(done, config):
                    log_validation(validate, self.averaged, done, log)

    def add_gradients(
        self,
        task: Task,
        step: int,
        micros: range,
        batches: Iterator[Any],
        log: Log,
        stopped: Callable[[], bool],
    ) -> tuple[float, bool]:
        """Add up the gradients of a step over its batches and the processes.

        Returns its loss, and whether any process was told to stop. Raises ConfigError where too much of the
        data cannot be read.
        """
        config, device = self.config, self.accelerator.device
        sums = torch.zeros(4, dtype=torch.float64)  # loss, clips, clips not read, processes told to stop
        for micro in micros:
            read = next(batches)
            batch = [sample for sample in read if not isinstance(sample, BadRecord)]
            log.left_out([sample for sample in read if isinstance(sample, BadRecord)], step)
            if self.is_cut and not everywhere(self.accelerator, bool(batch)):
                batch = []  # a cut network needs all processes
            sums[1:3] += torch.tensor([len(batch), len(read) - len(batch)])
            if not batch:
                continue
            with torch.autocast(device.type, AUTOCAST[config.precision], enabled=config.precision != "no"):
                loss, logs = task.loss(step, micro, batch)
            self.scaler.scale(loss / config.accumulation).backward()
            sums[0] += float(loss.detach()) / config.accumulation
            self.means.add(logs)
        sums[3] = stopped()
        loss_sum, clips, lost, stopping = summed(self.accelerator, sums.float().to(device)).tolist()
        self.clips, self.lost = self.clips + int(clips), self.lost + int(lost)
        check_data(int(clips), self.clips, self.lost, step, self.folder)
        sum_gradients(self.accelerator, self.parameters)
        return loss_sum, stopping > 0

    def take_step(self, step: int, loss: float) -> float:
        """Let the parameters and their averages take a step; returns the gradient's norm before clipping.

        Raises TrainingDivergedError where the numbers of a step that counts are bad.
        """
        config = self.config
        self.scaler.unscale_(self.optimizer)
        norm = sharded.clip_gradients(self.parameters, config.clip)
        overflow = config.precision == "fp16" and not math.isfinite(norm)
        if not overflow or self.scaler.get_scale() < SMALLEST_SCALE:
            check_numbers(loss, norm, self.mean_loss, config.divergence, step, self.folder)
            mean = self.mean_loss
            self.mean_loss = loss if mean is None else MEAN_DECAY * mean + (1 - MEAN_DECAY) * loss
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate_at(step, config) * group["rate"]
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad()
        self.averaged.update(ema_decay_at(step, config.ema))
        self.means.add({"overflows": float(overflow)} if config.precision == "fp16" else {})
        return norm

    def figures(self, step: int, loss: float, gradient: float, seconds: float) -> dict[str, float]:
        """What the log says of a step, `seconds` after the run began."""
        return {
            "loss": loss,
            "loss_mean": loss if self.mean_loss is None else self.mean_loss,
            "gradient": gradient,
            "learning_rate": learning_rate_at(step, self.config),
            "steps_per_s": (step + 1 - self.start) / seconds,
            "clips_per_s": self.clips / seconds,
            "clips_left_out": float(self.lost),
        }

    def keep(self, done: int) -> None:
        """Write a checkpoint of `done` steps, and remove those that are too many."""
        if self.validates:
            position = Position(done, self.mean_loss)
            save_checkpoint(
                self.named,
                self.optimizer,
                self.averaged,
                self.scaler,
                self.folder,
                position,
                self.identity,
                self.main,
            )
        if self.main:
            prune(self.folder, self.config.keep)


def validation_due(done: int, config: LoopConfig) -> bool:
    """Whether there is a validation after `done` steps: each few steps, and at the end."""
    return done % config.validate_every == 0 or done == config.steps


def was_validated(folder: Path, step: int) -> bool:
    """Whether the log has the figures of a step: it is kept before it is validated."""
    if not (folder / LOG).exists():
        return False
    return any(entry["step"] == step and "loss" not in entry for entry in read_log(folder))


def log_validation(validate: Validate, averaged: Averaged, step: int, log: Log) -> None:
    """Validate the averaged weights, and log the figures."""
    averaged.swap()
    try:
        log.write(step, validate(step, log))
    finally:
        averaged.swap()
