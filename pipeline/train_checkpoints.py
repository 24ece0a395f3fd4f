"""Checkpoints of a training: whole or not at all, with everything that an exact resume needs."""

import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ..stages.errors import ConfigError, OutputError, WeightsError

CHECKPOINT = re.compile(r"checkpoint-(\d{7})")
ADAM_STATE = ("exp_avg", "exp_avg_sq")

MAY_CHANGE = {"steps", "cooldown", "checkpoint_every", "keep", "log_every", "validate_every"}
"""Of a LoopConfig, what a resumed run may set anew."""


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
    """Complete checkpoints, oldest first."""
    return sorted(path for path in folder.glob("checkpoint-*") if CHECKPOINT.fullmatch(path.name))


def prune(folder: Path, keep: int) -> None:
    for path in checkpoints(folder)[:-keep]:
        shutil.rmtree(path)


def save_checkpoint(
    modules: Mapping[str, nn.Module],
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
        for name, module in modules.items():
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
    modules: Mapping[str, nn.Module],
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
    for name, module in modules.items():
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
