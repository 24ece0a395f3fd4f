"""Functions of the user's own, named in the config: a score of the look, and captions."""

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ...datasets.curation.scores import Score
from ...stages.errors import ConfigError
from ..job.job import file_digest
from .config import AestheticsConfig


def find_function(option: str, name: str) -> Callable[..., Any]:
    """The function of a dotted name. Raises ConfigError where there is none; `option` is for the message."""
    module, _, function = name.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), function, None)
    except ImportError as error:
        raise ConfigError(f"{option} {name}: {error}: put its folder on PYTHONPATH or install it") from error
    if not callable(found):
        raise ConfigError(f"{option} {name}: there is no function {function} in {module}")
    return found


def identity_of(option: str, name: str | None) -> list[str] | None:
    """What decides the results of a function: its name and the digest of its file; None for none."""
    if name is None:
        return None
    find_function(option, name)
    file = importlib.import_module(name.rpartition(".")[0]).__file__
    return [name, "" if file is None else file_digest(Path(file))]


def aesthetics_of(config: AestheticsConfig) -> list[Score]:
    """The user's filter, where there is one."""
    if config.function is None:
        return []
    function = find_function("--aesthetics.function", config.function)
    bounds = config.at_least, config.at_most

    def measure(frames: Any) -> float:
        return float(function(frames.samples))

    return [Score("aesthetics", "frames", measure, *bounds, f"by {config.function}")]
