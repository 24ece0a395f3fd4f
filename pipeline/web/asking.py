"""From what a visitor asks for to the config of a job: the command line's options, and no paths.

Files are named by uploads; folders of models, weights and devices come from `--defaults`, or from the job
that is made again.
"""

import re
import secrets
import shutil
from collections.abc import Mapping
from datetime import datetime
from fractions import Fraction
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ...stages.atomic import atomic_path
from ...stages.errors import ConfigError, PosedanceError
from ...stages.models import CUTOUT, MODELS, why_unusable
from ..animate.graph import Step, step_keys, steps_of
from ..animate.recorded import picked, read_settings
from ..animate.refuse import refuse_contradictions, refuse_idle
from ..animate.video import Facts
from ..config import AnimateConfig, explain, merge, read_yaml
from ..job.job import Job, open_job
from .config import Folders, WebConfig
from .jobs import folder_of
from .uploads import Kind, find, gallery, plain_title

OPTIONS = (
    "model", "preset", "seed", "width", "height", "steps", "guidance_scale", "start", "duration", "stride",
    "person", "align", "fit", "preview_every", "character_prompt", "upscale", "accept_poses",
)  # fmt: skip
"""Options that a visitor may set."""
FIELDS = {
    "driving": "driving", "reference": "character", "pose": "driving", "driving video": "driving",
    "video": "driving", "reference image": "character", "picture": "character",
}  # fmt: skip
"""Options that the page calls otherwise, and words for what goes in."""
NAMED = re.compile(r"--([a-z][a-z-]*)|\b(reference image|picture|driving video|video)\b")
"""What an error is about is named first; what to do about it comes after."""
PREVIEW_EVERY = 1
"""Steps between previews of the latents, for all jobs of the page."""


def models(defaults: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Models that can be chosen: (name, why it cannot be used or empty). First what `--defaults` names."""
    own = defaults.get("model")
    rows = [(str(own), "")] if own is not None else []
    for name in MODELS:
        reason = why_unusable(name)
        if reason and defaults.get("weights"):
            reason = ""  # its files are named
        if name != own:
            rows.append((name, reason))
    return rows


def read_defaults(config: WebConfig) -> Mapping[str, Any]:
    """The options that hold for every job. Raises ConfigError."""
    found = {} if config.defaults is None else read_yaml(config.defaults)
    try:
        AnimateConfig.model_validate(found)
    except ValidationError as error:
        raise ConfigError(f"{config.defaults}: {explain(error)}") from error
    return found


def new_name() -> str:
    """A folder's name for a job: when it was asked for, and nothing of its files' names."""
    return f"{datetime.now():%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"


def asked_config(
    folders: Folders, defaults: Mapping[str, Any], asked: Mapping[str, Any], name: str
) -> AnimateConfig:
    """The config of what a visitor asks for: uploads `driving` and `character`, or a job `like`; `options`.

    Raises ConfigError, of a wrong option as the command line tells it.
    """
    options = asked.get("options") or {}
    if not isinstance(options, Mapping):
        raise ConfigError("options are not a mapping of names to values")
    unknown = [key for key in options if key not in OPTIONS]
    if unknown:
        raise ConfigError(f"unknown option {unknown[0]!r}: this page sets {', '.join(OPTIONS)}")
    base: Mapping[str, Any] = dict(defaults)
    if asked.get("like"):
        base = {**read_yaml(folder_of(folders, str(asked["like"])) / "config.yaml")}
    files: dict[str, Any] = {}
    wanted: tuple[tuple[str, str, Kind], ...] = (
        ("driving", "driving", "video"),
        ("character", "reference", "picture"),
    )
    for key, option, kind in wanted:
        if asked.get(key):
            files[option] = find(folders, str(asked[key]), kind)[1]
    if files.get("driving") is not None:
        base = {**base, "pose": None, "pose_size": None}
    given = {key: value for key, value in options.items() if value not in (None, "")}
    refuse_model(given.get("model"), base, defaults)
    cleared = {key: None for key, value in options.items() if value in (None, "") and key in base}
    merged = merge(base, {**cleared_defaults(cleared), **files, **given})
    if merged.get("model") != CUTOUT:  # which has no latents to look at
        merged = {"preview_every": PREVIEW_EVERY, **merged}
    merged = {**merged, "output": folders.jobs / name}
    try:
        config = AnimateConfig.model_validate(merged)
    except ValidationError as error:
        raise ConfigError(explain(error)) from error
    if config.driving is None and config.pose is None:
        raise ConfigError("--driving is missing: drop in a video of the dance, or take the example")
    if config.reference is None and config.character_prompt is None:
        raise ConfigError("--reference is missing: drop in a picture of the character, or say who it is")
    refuse_contradictions(config)
    refuse_idle(config, set(given))
    return config


def cleared_defaults(names: Mapping[str, None]) -> dict[str, Any]:
    """The defaults of options that a visitor emptied."""
    return {name: AnimateConfig.model_fields[name].default for name in names}


def refuse_model(model: Any, base: Mapping[str, Any], defaults: Mapping[str, Any]) -> None:
    """ConfigError for a model that is neither in the table nor one that was named on this machine."""
    known = {*MODELS, str(base.get("model")), str(defaults.get("model"))}
    if model is not None and str(model) not in known:
        raise ConfigError(f"model = {model}: choose one of the list; folders are named with --defaults")


def field_of(line: str) -> str:
    """The field of the page that an error's line is about; empty where none is named."""
    match = re.match(r"([a-z_]+)(?:\.[a-z_.]+)? = ", line) or NAMED.search(line)
    if match is None:
        return ""
    name = next(word for word in match.groups() if word).replace("-", "_")
    return FIELDS.get(name, name if name in OPTIONS else "")


def take_over(folders: Folders, like: str, config: AnimateConfig) -> list[str]:
    """Copy from another job what `config` needs as it is; returns the names of the steps.

    A step is taken whole, with its record, or not at all, so the job that then runs makes the rest.
    """
    source, keys = Job(folder_of(folders, like)), step_keys(config)
    taken = []
    with open_job(config.output) as job:
        for step in steps_of(config):
            name, files = step.name, step.files(job.folder, config)
            if not source.is_done(name, keys[name]):
                continue

            def copy(step: Step = step, files: tuple[Path, ...] = files) -> Facts:
                for there, here in zip(step.files(source.folder, config), files, strict=True):
                    with atomic_path(here) as temporary:
                        shutil.copyfile(there, temporary)
                return source.facts(step.name)

            job.run(name, keys[name], files, copy)
            taken.append(name)
    return taken


def title_for(folders: Folders, config: AnimateConfig) -> str:
    """What a job is called on the page: the names that its files came with."""
    titles = {upload.file: upload.title for upload in gallery(folders)}
    paths = [path for path in (config.reference, config.driving or config.pose) if path is not None]
    names = [
        titles.get(path.name, path.name) if path.parent == folders.uploads else path.name for path in paths
    ]
    return " × ".join(Path(name).stem for name in names)


def settings_of_job(folders: Folders, name: str) -> dict[str, Any]:
    """What a job was made with, for the page's fields: options, and those inputs that are uploads."""
    config = read_yaml(folder_of(folders, name) / "config.yaml")
    return {"like": name, **settings_in(folders, config)}


def settings_of_file(folders: Folders, file: Path, name: str) -> dict[str, Any]:
    """What a file tells for the page's fields, a result's mp4 or its config.yaml; it is removed.

    Raises ConfigError for a file without settings.
    """
    try:
        if name.lower().endswith((".yaml", ".yml")):
            told = read_yaml(file)
            AnimateConfig.model_validate(picked(told))
            return settings_in(folders, {**picked(told), **inputs_of(told)})
        found = read_settings(file)
    except ValidationError as error:
        raise ConfigError(f"{plain_title(name)}: {explain(error)}") from error
    except PosedanceError as error:
        raise ConfigError(str(error).replace(str(file), plain_title(name))) from None
    finally:
        file.unlink(missing_ok=True)
    return settings_in(folders, found.model_dump(mode="json", exclude_unset=True))


def inputs_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """The inputs that a config names: they are looked for among the uploads, by name."""
    return {name: config[name] for name in ("driving", "reference", "character_prompt") if config.get(name)}


def settings_in(folders: Folders, config: Mapping[str, Any]) -> dict[str, Any]:
    """What a config's plain data tell for the page: options, inputs, and the names of missing inputs."""
    here = gallery(folders)[::-1]
    known = {each.title: each.identity for each in here} | {each.file: each.identity for each in here}
    options = {key: config.get(key) for key in OPTIONS if config.get(key) is not None}
    for key in ("start", "duration"):
        if key in options:
            options[key] = float(Fraction(str(options[key])))
    inputs, missing = {}, []
    for option, field in (("driving", "driving"), ("reference", "character")):
        name = Path(str(config[option])).name if config.get(option) else ""
        inputs[field] = known.get(name)
        if name and inputs[field] is None:
            missing.append(plain_title(name))
    return {"options": options, **inputs, "missing": missing}
