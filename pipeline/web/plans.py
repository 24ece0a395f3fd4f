"""What a job would do, as `animate --dry-run` tells it, and how long that took the last time."""

import re
import subprocess
import sys
import tempfile
from datetime import timedelta
from pathlib import Path
from typing import Any

from ...stages.errors import ConfigError
from ..batch.status import read_json
from ..config import AnimateConfig, write_yaml
from ..progress import PROGRESS
from .config import Folders
from .jobs import ERROR, options_told, stages_of

PLAN_S = 300
"""Seconds that a plan may take: it opens the model."""


def plan(folders: Folders, config: AnimateConfig) -> dict[str, Any]:
    """The lines of the plan, and the seconds that the same work took the last time where that is known.

    Raises ConfigError with the command's own line.
    """
    with tempfile.NamedTemporaryFile("w", suffix=".yaml", dir=folders.own, encoding="utf-8") as file:
        file.write(write_yaml(config))
        file.flush()
        words = [sys.executable, "-m", "posedance.pipeline", "animate", "--dry-run", "--config", file.name]
        done = subprocess.run(
            words, capture_output=True, text=True, timeout=PLAN_S, stdin=subprocess.DEVNULL, check=False
        )
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.startswith(ERROR)]
        raise ConfigError(lines[-1].removeprefix(ERROR) if lines else "the plan ended without a word")
    lines = done.stdout.strip().splitlines()
    return {"lines": [line.split(maxsplit=1) for line in lines], "time": time_told(folders, config, lines)}


def time_told(folders: Folders, config: AnimateConfig, lines: list[str]) -> str:
    """How long it will take, as a sentence, from the last job of the same model and size."""
    text = "\n".join(lines)
    frames, calls = (re.search(rule, text) for rule in (r"frames\s+(\d+)", r": (\d+) calls"))
    if frames is None or calls is None:
        return ""
    todo = {"frame": int(frames.group(1)), "window": int(calls.group(1))}
    like = {"model": Path(config.model).name, "width": config.width, "height": config.height}
    wanted = {key: str(value) for key, value in like.items() if value is not None}
    progresses = sorted(folders.jobs.glob(f"*/{PROGRESS}"), key=lambda path: -path.stat().st_mtime)
    for path in progresses[:50]:
        told = options_told(path.parents[1] / "config.yaml")
        if {key: told.get(key) for key in like if key in told} != wanted:
            continue
        progress = read_json(path)
        seconds = seconds_of(progress, todo)
        if seconds is not None:
            return f"about {timedelta(seconds=round(seconds))}, as the last one of {config.model} took"
    return "not known before the first run of this model and size"


def seconds_of(progress: Any, todo: dict[str, int]) -> float | None:
    """The seconds of so many frames and windows, at the pace of a run that denoised."""
    seconds, denoised = 0.0, False
    for stage in stages_of(progress):
        if stage["done"] and stage["unit"] in todo:
            seconds += stage["seconds"] / stage["done"] * todo[stage["unit"]]
            denoised |= stage["stage"] == "denoise"
    return seconds if denoised else None
