"""The settings of a result: kept as JSON in its comment, and read back from it or from a job folder.

Inputs and paths are not in it: they say where things lie on somebody's machine, and the same inputs and
settings shall give the same bytes anywhere. A model that is a folder is there by the folder's name.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from ...stages.errors import ConfigError
from ...stages.media.container import open_container
from ...stages.models import MODELS
from ..config import AnimateConfig, explain, read_yaml
from ..config_base import Config
from ..job.masking import masked

RECORDED: Mapping[str, tuple[str, ...]] = {
    "model": (),
    "preset": (),
    "seed": (),
    "width": (),
    "height": (),
    "steps": (),
    "guidance_scale": (),
    "align": (),
    "fit": (),
    "stride": (),
    "start": (),
    "duration": (),
    "fps": (),
    "person": (),
    "smooth": (),
    "precision": (),
    "estimator": ("name", "min_score", "max_gap"),
    "window": ("size", "overlap", "plan"),
    "approximate": ("align_your_steps", "consistency", "guidance_interval", "cache_interval"),
    "encode": ("crf", "preset", "audio", "bit_depth", "lossless"),
    "upscale": (),
}
"""The options that are kept, and those of groups: all that decide the result, but for inputs, paths and the
device; and how much the enlarged result is enlarged."""
LONGEST = 8192
"""Characters of a comment that are read: ours have about a thousand."""
NAME_THEM = "it was altered, name the options yourself"


class Record(Config):
    """What the comment holds."""

    posedance: Literal[1]
    """The version of this record."""
    settings: dict[str, Any]


def record_of(config: AnimateConfig, enlarged: bool = False) -> str:
    """The comment of the result of `config`, or of the enlarged one: one line of JSON.

    The result is the same file whether it is enlarged too or not.
    """
    settings = picked(config.model_dump(mode="json"))
    if not enlarged:
        settings.pop("upscale", None)
    if config.model not in MODELS:
        settings["model"] = Path(config.model).name
    record = Record(posedance=1, settings=settings).model_dump()
    return masked(json.dumps(record, sort_keys=True, separators=(",", ":")))


def read_settings(path: str | Path) -> AnimateConfig:
    """The settings of a result (mp4, mkv) or of a job folder; its `model_fields_set` are those that it tells.

    Inputs and output are not among them. Raises VideoError for a file that is no video, ConfigError where it
    tells no settings, or such that cannot be used.
    """
    path = Path(path)
    settings = picked(read_yaml(path / "config.yaml")) if path.is_dir() else _of_comment(path)
    try:
        return AnimateConfig.model_validate(settings)
    except ValidationError as error:
        raise ConfigError(f"the settings in {path} cannot be used: {explain(error)}") from error


def picked(data: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the options of `data` that are kept."""
    found: dict[str, Any] = {}
    for name, inner in RECORDED.items():
        value = data.get(name)
        if inner and isinstance(value, Mapping):
            found[name] = {key: value[key] for key in inner if key in value}
        elif name in data and (name != "upscale" or value is not None):
            found[name] = value
    return found


def _of_comment(path: Path) -> dict[str, Any]:
    """The settings in the comment of a file that anybody may have made."""
    with open_container(path) as container:
        tags = {name.lower(): text for name, text in container.metadata.items()}
    comment = tags.get("comment", "")
    if not comment.startswith('{"posedance":'):
        raise ConfigError(f"{path} tells no settings: give a result.mp4 of animate, or its folder")
    if len(comment) > LONGEST:
        raise ConfigError(
            f"{path} has settings of {len(comment)} characters, of at most {LONGEST}: {NAME_THEM}"
        )
    try:
        settings = Record.model_validate_json(comment).settings
    except ValidationError as error:
        raise ConfigError(f"the settings in {path} cannot be read: {explain(error)}") from error
    if settings != picked(settings):
        raise ConfigError(f"the settings in {path} hold options that no result keeps: {NAME_THEM}")
    model = settings.get("model", "demo")
    if not isinstance(model, str) or Path(model).name != model:
        raise ConfigError(f"the settings in {path} name a model by a path: {NAME_THEM}")
    return settings
