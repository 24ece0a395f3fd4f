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
    device, several = accelerator.device, accelerator.num_processes
    task.to(device)
    is_cut = sharded.is_asked() and several > 1
    if is_cut:
        if large is None:
            raise ConfigError(
                "accelerate is configured for FSDP, which cuts the UNet of `train` alone: leave it out"
            )
        sharded.cut(large, config, several)
    named = task.trainable()
    if not named:
        raise ConfigError("nothing learns: choose other parameter patterns")
    parameters = [p for _, p in named]
    faster = [(rates or {}).get(name.partition(".")[0], 1.0) for name, _ in named]
    optimizer = make_optimizer(config, parameters, faster)
    scaler = torch.amp.GradScaler(device.type, enabled=config.precision == "fp16")
    averaged = Averaged(parameters)
    folder.mkdir(parents=True, exist_ok=True)
    position = restore(named, optimizer, averaged, scaler, folder, identity)
    start, mean_loss = position.step, position.mean_loss
    if start:
        logger.info(f"resuming from step {start} in {folder}")
    total = sum(p.numel() for p in parameters)
    logger.info(
        f"learning {total:,} parameters in {len(parameters)} tensors, {config.steps - start} steps to go"
    )
    main = accelerator.is_main_process
    validates = main or is_cut
    missed = start > 0 and validation_due(start, config) and not was_validated(folder, start)
    if validates and (on_main(accelerator, missed) if is_cut else missed):
        with Log(folder, start, main) as log:
            log_validation(validate, averaged, start, log)
    if start >= config.steps:
        return averaged
    micros = range(accelerator.process_index, config.accumulation, several)
    if config.accumulation % several:
        raise ConfigError(
            f"{several} processes cannot share {config.accumulation} batches of a step: "
            "make loop.accumulation a multiple"
        )
    batches = iter(task.batches(start, config.steps, micros))
    means, clips, lost, began = Means(), 0, 0, time.monotonic()
    with (
        Log(folder, start, main) as log,
        tqdm(
            total=config.steps,
            initial=start,
            desc="train",
            unit="step",
            mininterval=LOG_INTERVAL_S,
            disable=not main,
        ) as bar,
        deferred_interrupts(0 if several == 1 else ECHO_S) as stopped,
    ):
        for step in range(start, config.steps):
            sums = torch.zeros(4, dtype=torch.float64)  # loss, clips, clips not read, processes told to stop
            for micro in micros:
                read = next(batches)
                batch = [sample for sample in read if not isinstance(sample, BadRecord)]
                log.left_out([sample for sample in read if isinstance(sample, BadRecord)], step)
                if is_cut and not everywhere(accelerator, bool(batch)):
                    batch = []  # a cut network needs all processes
                sums[1:3] += torch.tensor([len(batch), len(read) - len(batch)])
                if not batch:
                    continue
                with torch.autocast(
                    device.type, AUTOCAST[config.precision], enabled=config.precision != "no"
                ):
                    loss, logs = task.loss(step, micro, batch)
                scaler.scale(loss / config.accumulation).backward()
                sums[0] += float(loss.detach()) / config.accumulation
                means.add(logs)
            sums[3] = stopped()
            loss_sum, read_now, lost_now, stopping = summed(accelerator, sums.float().to(device)).tolist()
            clips, lost = clips + int(read_now), lost + int(lost_now)
            check_data(int(read_now), clips, lost, step, folder)
            sum_gradients(accelerator, parameters)
            scaler.unscale_(optimizer)
            norm = sharded.clip_gradients(parameters, config.clip)
            overflow = config.precision == "fp16" and not math.isfinite(norm)
            if not overflow or scaler.get_scale() < SMALLEST_SCALE:
                check_numbers(loss_sum, norm, mean_loss, config.divergence, step, folder)
                mean_loss = loss_sum if mean_loss is None else 0.98 * mean_loss + 0.02 * loss_sum
            for group in optimizer.param_groups:
                group["lr"] = learning_rate_at(step, config) * group["rate"]
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad()
            averaged.update(ema_decay_at(step, config.ema))
            done = step + 1
            bar.update(1)
            means.add({"overflows": float(overflow)} if config.precision == "fp16" else {})
            ends = stopping > 0 and done < config.steps
            if main and (done % config.log_every == 0 or done == config.steps):
                seconds = time.monotonic() - began
                values = {
                    "loss": loss_sum,
                    "loss_mean": loss_sum if mean_loss is None else mean_loss,
                    "gradient": norm,
                    "learning_rate": learning_rate_at(step, config),
                    "steps_per_s": (done - start) / seconds,
                    "clips_per_s": clips / seconds,
                    "clips_left_out": float(lost),
                }
                bar.set_postfix(loss=f"{values['loss_mean']:.4f}")
                log.write(done, values | means.take())
            if validates and (done % config.checkpoint_every == 0 or done == config.steps or ends):
                position = Position(done, mean_loss)
                save_checkpoint(named, optimizer, averaged, scaler, folder, position, identity, main)
            if main and (done % config.checkpoint_every == 0 or done == config.steps or ends):
                prune(folder, config.keep)
            if ends:
                accelerator.wait_for_everyone()  # a process that leaves makes the launcher end the others
                raise KeyboardInterrupt
            if validates and validation_due(done, config):
                log_validation(validate, averaged, done, log)
    return averaged


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
