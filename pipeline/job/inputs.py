"""The files that a config names: whole paths, copies on this machine, and digests for keys."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, TypeVar

from ...stages.errors import ConfigError
from ...stages.models import MODELS
from ..config import ClipConfig, WeightsConfig, merge
from .job import Known, source_digest, unknown
from .once import once
from .storage import beside, localize, statement, url_of

PAINTING_PATHS = ("base", "controlnext", "unet", "lora", "vae", "base_config")
PATHS = (
    "driving",
    "reference",
    "pose",
    "pose_size",
    "model",
    "lora",
    *(f"weights.{name}" for name in WeightsConfig.model_fields),
    "estimator.model",
    "estimator.detector",
    "character.picture",
    "character.control",
    *(f"{group}.{name}" for group in ("character", "upscaler") for name in PAINTING_PATHS),
)
"""Options that may name a file."""
NAMES_OR_PATHS = (
    "pose_size",
    "model",
    "weights.base",
    *(
        f"{group}.{name}"
        for group in ("character", "upscaler")
        for name in ("base", "controlnext", "vae", "base_config")
    ),
)
"""Those of them that may also be a size, or a name: of the table of models, or on the hub."""
BESIDE = {"driving": None, "pose": None, "reference": ".npz"}
"""Inputs of a video, and how the name of a file ends that is read from beside one where it exists."""

ConfigT = TypeVar("ConfigT", bound=ClipConfig)


def with_local_inputs(config: ConfigT, names: Collection[str] = tuple(BESIDE)) -> ConfigT:
    """The config with copies on this machine in place of URLs of the inputs `names`."""
    changes: dict[str, Path] = {}
    for name in names:
        path = getattr(config, name, None)
        if path is not None:
            changes[name] = localize(path, BESIDE[name])
    return config.model_copy(update=changes)


def input_digests(config: ClipConfig, names: Collection[str], known: Known = unknown) -> dict[str, list[str]]:
    """SHA-256 of those of the inputs `names` that the config names, and of what is read from beside them.

    `known` tells those of URLs that need not be read.
    """
    found = {}
    for name in names:
        path = getattr(config, name, None)
        if path is not None:
            files = (path, file_beside(path, BESIDE[name]))
            found[name] = [source_digest(file, known) for file in files if file is not None]
    return found


@once
def file_beside(path: Path, name: str | None) -> Path | None:
    """The file `beside` another that is named or ends so, where it exists."""
    other = None if name is None else beside(path, name)
    return other if other is not None and is_there(other) else None


def is_there(path: Path) -> bool:
    """Whether there is such a file, here or in a store, which is asked once while videos are planned."""
    return path.is_file() if url_of(path) is None else statement(path) is not None


@once
def resolved(path: Path) -> Path:
    """The whole path, its folder without symbolic links, its name as given.

    A link's target may be named by a hash, as in the hub's cache: kind, name and what lies beside a file go
    by the name of the link.
    """
    return path.resolve() if path.name in ("", "..") else path.parent.resolve() / path.name


def at_home(path: Path) -> Path:
    """The path with ~ written out. Raises ConfigError for a user without a home."""
    try:
        return path.expanduser()
    except RuntimeError as error:
        raise ConfigError(f"{path}: there is no home of that user: write the path out") from error


def with_whole_paths(row: Mapping[str, Any], folder: Path) -> Mapping[str, Any]:
    """The options of `row` with paths made absolute, from `folder`.

    URLs stay, a model of the table keeps its name whatever lies in the folder, and so does a model or base
    that is no folder there.
    """
    for option in PATHS:
        *groups, last = option.split(".")
        group: Any = row
        for name in groups:
            group = group.get(name) if isinstance(group, Mapping) else None
        value = group.get(last) if isinstance(group, Mapping) else None
        several = isinstance(value, list | tuple)
        whole = tuple(whole_path(option, each, folder) for each in (value if several else (value,)))
        change: Any = {last: whole if several else whole[0]}
        if change[last] != value:
            for name in reversed(groups):
                change = {name: change}
            row = merge(row, change)
    return row


def whole_path(option: str, value: Any, folder: Path) -> Any:
    """What an option names, whole; a URL, a name, and what is no path as it is."""
    if not isinstance(value, str | Path) or url_of(Path(value)) is not None:
        return value
    if option == "model" and value in MODELS:
        return value
    path = folder / at_home(Path(value))
    if url_of(path) is None:
        path = resolved(path)
    if option not in NAMES_OR_PATHS:
        return path
    return str(path) if path.exists() else value
