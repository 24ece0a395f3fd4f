"""Checkpoints of a training: whole or not at all, with everything that an exact resume needs."""

import json
import logging
import os
import re
import shutil
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ...stages.atomic import PARTIAL, partial_folder
from ...stages.errors import ConfigError, OutputError, WeightsError
from .sharded import like, whole

logger = logging.getLogger(__name__)

CHECKPOINT = re.compile(r"checkpoint-(\d{7})")

MAY_CHANGE = {
    "steps",
    "cooldown",
    "learning_rate",
    "divergence",
    "checkpoint_every",
    "keep",
    "log_every",
    "validate_every",
}
"""Settings of a LoopConfig that a resumed run may change."""


@dataclass(frozen=True, slots=True)
class Position:
    """Where a run is: steps done, and the running mean of the loss (None before the first)."""

    step: int
    mean_loss: float | None


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


def checkpoints(folder: Path) -> list[Path]:
    """Complete checkpoints, oldest first. A folder that only has such a name is none."""
    named = (path for path in folder.glob("checkpoint-*") if CHECKPOINT.fullmatch(path.name))
    ours = ("state.json", "ema.safetensors")
    return sorted(path for path in named if any((path / name).is_file() for name in ours))


def prune(folder: Path, keep: int) -> None:
    """Remove all but the last `keep` checkpoints, and what killed runs left half-written."""
    for path in checkpoints(folder)[:-keep]:
        shutil.rmtree(partial_folder(path), ignore_errors=True)
        path.rename(partial_folder(path))
    for path in folder.glob(f".checkpoint-*{PARTIAL}"):
        if CHECKPOINT.fullmatch(path.name.removeprefix(".").removesuffix(PARTIAL)):
            shutil.rmtree(path)


def save_checkpoint(
    named: list[tuple[str, nn.Parameter]],
    optimizer: torch.optim.Optimizer,
    averaged: Averaged,
    scaler: torch.amp.GradScaler,
    folder: Path,
    position: Position,
    identity: Mapping[str, Any],
    main: bool = True,
) -> Path:
    """Write `checkpoint-STEP`, under another name until it is whole and on the disk.

    What does not learn is not in it: it follows from the config. Processes that are not the `main` one help
    to gather what is cut over all, and write nothing. Raises OutputError where there is no room.
    """
    final = folder / f"checkpoint-{position.step:07d}"
    partial = partial_folder(final)
    files: defaultdict[str, dict[str, Tensor]] = defaultdict(dict, optimizer={})
    for file, name, tensor in learned(named, optimizer, averaged):
        gathered = whole(tensor.detach())
        if main:
            files[file][name] = gathered.cpu().contiguous()
    if not main:
        return final
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir()
        for file, tensors in files.items():
            save_file(tensors, partial / f"{file}.safetensors")
        facts = {
            "step": position.step,
            "mean_loss": position.mean_loss,
            "scaler": scaler.state_dict(),
            "config": dict(identity),
        }
        (partial / "state.json").write_text(json.dumps(facts, indent=1))
        for path in (*partial.iterdir(), partial):
            sync(path)
        shutil.rmtree(final, ignore_errors=True)
        partial.rename(final)
        sync(folder)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise OutputError(
            f"cannot write checkpoint {final}: {error}: free some space, then run the same command to go on"
        ) from error
    return final


def learned(
    named: list[tuple[str, nn.Parameter]], optimizer: torch.optim.Optimizer, averaged: Averaged
) -> Iterator[tuple[str, str, Tensor]]:
    """(file, name, tensor) of weights, averages and moments, in an order that all processes share."""
    for name, parameter in named:
        module, _, key = name.partition(".")
        yield module, key, parameter
    for (name, _), average in zip(named, averaged.average, strict=True):
        yield "ema", name, average
    for name, parameter in named:
        for key, value in optimizer.state.get(parameter, {}).items():
            yield "optimizer", f"{name}.{key}", torch.as_tensor(value).clone()


def sync(path: Path) -> None:
    """Wait until a file or a folder is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a checkpoint holds. Tensors are named `module.parameter`, moments `module.parameter.KIND`."""

    facts: dict[str, Any]
    weights: dict[str, Tensor]
    average: dict[str, Tensor]
    moments: dict[str, Tensor]


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint. Raises WeightsError where one of its files is missing or cut off."""
    try:
        facts = json.loads((path / "state.json").read_text())
        tensors = {file.stem: load_file(file) for file in path.glob("*.safetensors")}
        average, moments = tensors.pop("ema"), tensors.pop("optimizer")
        if not {"step", "mean_loss", "config"} <= set(facts):
            raise ValueError("state.json is not whole")
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise WeightsError(f"{path} is damaged ({error!r})") from error
    weights = {f"{module}.{key}": value for module, state in tensors.items() for key, value in state.items()}
    if not set(average) <= set(weights):
        raise WeightsError(f"{path} is damaged (weights are missing)")
    return Checkpoint(facts, weights, average, moments)


def newest_whole(folder: Path) -> tuple[Path, Checkpoint] | None:
    """The newest checkpoint that can be read; None where there is none at all.

    Damaged ones that are newer are said and put aside: `prune` removes them. Raises WeightsError where there
    are only such, and leaves them.
    """
    damaged: list[tuple[Path, WeightsError]] = []
    for path in reversed(checkpoints(folder)):
        try:
            found = read_checkpoint(path)
        except WeightsError as error:
            damaged.append((path, error))
            continue
        for other, error in damaged:
            logger.warning(f"{error}: going on from {path.name}")
            with suppress(OSError):  # another process of this training may have been faster
                other.rename(partial_folder(other))
        return path, found
    if damaged:
        raise WeightsError(f"{damaged[-1][1]}, as is every checkpoint here: remove them to begin anew")
    return None


def restore(
    named: list[tuple[str, nn.Parameter]],
    optimizer: torch.optim.Optimizer,
    averaged: Averaged,
    scaler: torch.amp.GradScaler,
    folder: Path,
    identity: Mapping[str, Any],
) -> Position:
    """Load the newest checkpoint that is whole, in place, and say where it was; step 0 where there is none.

    Raises ConfigError for a run with other settings, WeightsError where no checkpoint can be read.
    """
    newest = newest_whole(folder)
    if newest is None:
        return Position(0, None)
    path, found = newest
    changed = differences(found.facts["config"], dict(identity))
    if changed:
        raise ConfigError(
            f"{folder} holds a run with other settings ({', '.join(changed)}): "
            "choose another output folder or restore the settings"
        )
    if set(found.average) != {name for name, _ in named}:
        raise WeightsError(f"{path} averages other parameters than this run learns: name another --output")
    step = int(found.facts["step"])
    states: dict[str, dict[str, Any]] = {name: {} for name in found.average}
    for key, value in found.moments.items():
        name, _, kind = key.rpartition(".")
        states[name][kind] = value
    with torch.no_grad():
        for (name, parameter), mean in zip(named, averaged.average, strict=True):
            parameter.copy_(like(found.weights[name], parameter))
            mean.copy_(like(found.average[name], mean))
            optimizer.state[parameter] = optimizer_state(states[name], parameter, step)
    if found.facts.get("scaler"):
        scaler.load_state_dict(found.facts["scaler"])
    return Position(step, found.facts["mean_loss"])


def optimizer_state(kept: dict[str, Any], parameter: nn.Parameter, step: int) -> dict[str, Any]:
    """A parameter's moments as its optimizer holds them.

    The count of steps is a number in bitsandbytes, whose moments are called `state1` and `state2`, and in
    torch a tensor on the CPU.
    """
    count = kept.pop("step", torch.tensor(float(step)))
    moments = {key: like(value, parameter) for key, value in kept.items()}
    return {"step": int(count) if "state1" in kept else count.float(), **moments}


def differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Dotted names of the settings that differ and may not.

    A setting that the old run did not know yet was off (null or false).
    """
    names: list[str] = []
    for key in sorted(set(old) | set(new)):
        if key in MAY_CHANGE and prefix in ("", "loop."):
            continue
        a, b = old.get(key), new.get(key)
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            names += differences(a, b, f"{prefix}{key}.")
        elif json.dumps(a) != json.dumps(b) and (key in old or b not in (None, False)):
            names.append(f"{prefix}{key}")
    return names
