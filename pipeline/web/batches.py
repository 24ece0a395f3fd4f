"""Batches on the page: begun from uploads, watched by their own status, one video tried again."""

import csv
import io
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...stages.errors import ConfigError
from ..batch.stages import cancel_mark
from ..batch.status import quarantine_path, read_json, report, states_of
from ..config import write_yaml
from ..job.job import write_text
from .asking import OPTIONS, asked_config, new_name
from .config import Folders
from .jobs import folder_of, options_told, title_of
from .uploads import Upload, find, gallery

if TYPE_CHECKING:
    from fastapi import FastAPI

    from .site import Site

EXECUTORS = ("ray", "local")
MOST = 10_000
"""Videos of a batch that is begun here."""
LARGEST_MANIFEST = 2_000_000
"""Characters of a manifest."""


def add_routes(app: "FastAPI", site: "Site", plain: Callable[[Any], Any]) -> None:
    """Add the routes of batches."""

    @app.get("/api/batch/{name}")
    @plain
    def one(name: str) -> Any:
        return told(site.folders, name)

    @app.post("/api/batch")
    @plain
    def begin(asked: dict[str, Any]) -> Any:
        return start(site, asked)

    @app.post("/api/retry/{name}/{item}")
    @plain
    def retry(name: str, item: str) -> Any:
        folder = folder_of(site.folders, name)
        forgive(folder, item)
        site.queue.again(name)
        return {"name": name}


def told(folders: Folders, name: str) -> dict[str, Any]:
    """How far a batch is: the numbers of `run.py status --json`, and the state of each video."""
    folder = folder_of(folders, name)
    titles = (read_json(folders.asked / f"{name}.json") or {}).get("titles", {})
    items = [{**asdict(state), "title": titles.get(state.name, state.name)} for state in states_of(folder)]
    title = title_of(folders, name, options_told(folder / "config.yaml"))
    return {"name": name, "title": title, "report": report(folder), "items": items}


def forgive(folder: Path, item: str) -> None:
    """Let a video count as not given up. Raises ConfigError for one that was not."""
    if item not in {state.name for state in states_of(folder) if state.status == "quarantined"}:
        raise ConfigError(f"{item} was not given up")
    quarantine_path(folder, item).unlink(missing_ok=True)
    cancel_mark(folder, item).unlink(missing_ok=True)


def start(site: "Site", asked: Mapping[str, Any]) -> dict[str, Any]:
    """Put a batch into the queue: rows of a manifest, or every video with every character."""
    executor = str(asked.get("executor") or "ray")
    if executor not in EXECUTORS:
        raise ConfigError(f"executor = {executor}: use one of {', '.join(EXECUTORS)}")
    folders, options = site.folders, dict(asked.get("options") or {})
    if asked.get("manifest"):
        rows = manifest_rows(folders, str(asked["manifest"]))
    else:
        drivers, characters = list(asked.get("driving") or ()), list(asked.get("character") or ())
        if not drivers:
            raise ConfigError("--driving is missing: choose videos of dances")
        if not characters:
            raise ConfigError("--reference is missing: choose pictures of characters")
        rows = [
            {"driving": driver, "character": character} for driver, character in product(drivers, characters)
        ]
    if len(rows) > MOST:
        raise ConfigError(f"{len(rows)} videos: more than {MOST} are begun by the command line alone")
    name = new_name()
    lines, titles = [], {}
    digits = len(str(len(rows)))
    for number, row in enumerate(rows, 1):
        own = {**options, **row.get("options", {})}
        config = asked_config(folders, site.defaults, {**row, "options": own}, f"{name}/row")
        item = f"{number:0{digits}d}"
        plain = config.model_dump(mode="json", exclude_unset=True, exclude={"output", "preview_every"})
        lines.append(json.dumps({**plain, "name": item}))
        both = (find(folders, row["character"], "picture")[0], find(folders, row["driving"], "video")[0])
        titles[item] = " × ".join(Path(upload.title).stem for upload in both)
    manifest = folders.asked / f"{name}.jsonl"
    write_text(manifest, "\n".join(lines) + "\n")
    config = batch_yaml(site.folders, name, manifest, executor)
    title = str(asked.get("title") or f"{len(rows)} videos")[:80]
    shown = {"title": title, "kind": "batch", "titles": titles}
    site.queue.add(name, ["batch", "--config", "CONFIG"], shown, config)
    return {"name": name, "videos": len(rows)}


def batch_yaml(folders: Folders, name: str, manifest: Path, executor: str) -> str:
    """The config of a batch."""
    from ..config import BatchConfig

    fields = {"manifest": manifest, "output": folders.jobs / name, "executor": executor}
    return write_yaml(BatchConfig.model_validate(fields))


def manifest_rows(folders: Folders, text: str) -> list[dict[str, Any]]:
    """The rows of a CSV manifest whose driving and reference are uploads, by the names that they came with.

    Raises ConfigError, of a file that was not uploaded too: paths are not read.
    """
    if len(text) > LARGEST_MANIFEST:
        raise ConfigError(f"this manifest has more than {LARGEST_MANIFEST} characters: use the command line")
    rows, known = [], gallery(folders)
    try:
        table = list(csv.DictReader(io.StringIO(text)))
    except csv.Error as error:
        raise ConfigError(f"the manifest cannot be parsed: {error}") from error
    if not table or not {"driving", "reference"} <= set(table[0]):
        raise ConfigError("the manifest needs rows with the columns driving and reference")
    for number, row in enumerate(table, 1):
        if any(not isinstance(value, str) for value in row.values()):
            raise ConfigError(f"row {number} has not as many cells as the heading")
        cells = {key.strip(): value.strip() for key, value in row.items()}
        found = {
            "driving": named(known, cells.pop("driving"), "video", number).identity,
            "character": named(known, cells.pop("reference"), "picture", number).identity,
        }
        cells.pop("name", None)
        strange = [key for key in cells if key not in OPTIONS]
        if strange:
            raise ConfigError(f"the manifest has a column {strange[0]}: here they are {', '.join(OPTIONS)}")
        rows.append({**found, "options": {key: value for key, value in cells.items() if value}})
    return rows


def named(known: list[Upload], name: str, kind: str, number: int) -> Upload:
    """The upload of a name. Raises ConfigError."""
    for upload in known:
        if upload.kind == kind and Path(upload.title).name == Path(name).name and name:
            return upload
    raise ConfigError(f"row {number}: there is no upload {name or '(empty)'}: drop that {kind} in first")
