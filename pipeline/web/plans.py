"""What commands are asked before a job runs: its plan, as `animate --dry-run` tells it, with the time that it
took before, and the character that words describe, as `character` paints it.
"""

import hashlib
import re
import shutil
import subprocess
import sys
import tempfile
from datetime import timedelta
from pathlib import Path
from typing import Any

from ...stages.atomic import temporary_name
from ...stages.errors import ConfigError
from ..batch.status import read_json
from ..character.config import CharacterConfig
from ..config import AnimateConfig, ClipConfig, write_yaml
from ..config_base import Config
from ..progress import PROGRESS
from .config import Folders
from .jobs import ERROR, options_told, stages_of
from .uploads import Upload, by_titles, keep

PLAN_S = 300
"""Seconds that a plan may take: it opens the model."""
PAINT_S = 3600
"""Seconds that a painted character may take."""
PAINTED = 2
"""Pictures of which the one with the truest pose is shown."""


def plan(folders: Folders, config: AnimateConfig) -> dict[str, Any]:
    """The lines of the plan, and the seconds that the same work took the last time where that is known.

    Raises ConfigError with the command's own line.
    """
    told = by_titles(folders, said(folders, ["animate", "--dry-run"], config, PLAN_S))
    lines = told.strip().splitlines()
    return {"lines": [line.split(maxsplit=1) for line in lines], "time": time_told(folders, config, lines)}


def paint(folders: Folders, config: AnimateConfig) -> Upload:
    """The character that the prompt of `config` describes, painted in a pose of its dance, as an upload.

    It is kept by what decides it: the same words with the same seed are painted once. Raises ConfigError.
    """
    if not config.character_prompt:
        raise ConfigError("character_prompt = '': say who is to dance, in words")
    if config.driving is None:
        raise ConfigError("--driving is missing: the character is painted in a pose of the dance")
    shared = {name: getattr(config, name) for name in (*ClipConfig.model_fields, "device", "precision")}
    own = config.character.model_dump(exclude_unset=True) | {"seed": config.seed, "seeds": PAINTED}
    wanted = CharacterConfig.model_validate(shared | own | {"prompt": config.character_prompt})
    key = hashlib.sha256(wanted.model_dump_json(exclude={"output"}).encode()).hexdigest()[:20]
    wanted = wanted.model_copy(update={"output": folders.own / "painted" / key})
    said(folders, ["character"], wanted, PAINT_S)
    copy = temporary_name(folders.uploads / "upload")
    shutil.copyfile(wanted.output / "reference.png", copy)
    return keep(folders, "picture", f"{config.character_prompt}.png", copy)


def said(folders: Folders, words: list[str], config: Config, seconds: float) -> str:
    """What a command says with this config. Raises ConfigError with the command's own line."""
    with tempfile.NamedTemporaryFile("w", suffix=".yaml", dir=folders.own, encoding="utf-8") as file:
        file.write(write_yaml(config))
        file.flush()
        command = [sys.executable, "-m", "posedance.pipeline", *words, "--config", file.name]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=seconds, stdin=subprocess.DEVNULL, check=False
        )
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.startswith(ERROR)]
        raise ConfigError(lines[-1].removeprefix(ERROR) if lines else f"{words[0]} ended without a word")
    return done.stdout


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
