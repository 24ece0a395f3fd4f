"""Curations on the page: clips with their scores, bounds that are moved, and what a person says."""

import csv
import io
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...datasets.curation.scores import LEVELS
from ...stages.errors import ConfigError
from ..config import merge, read_yaml, resolve, write_yaml
from ..curate.config import CurateConfig
from ..curate.curate import overrides_of
from ..curate.decide import filters_of
from ..curate.pictures import strip_of
from ..curate.store import content_folder
from ..curate.table import TABLE, read_table
from ..job.job import write_text
from .config import Folders
from .jobs import folder_of

if TYPE_CHECKING:
    from fastapi import FastAPI

    from .site import Site

SAID = "overrides-page.csv"
"""In a curation's folder: what was said on the page, for `curate review`."""


def add_routes(app: "FastAPI", site: "Site", plain: Callable[[Any], Any]) -> None:
    """Add the routes of curations."""
    from fastapi import HTTPException
    from fastapi.responses import FileResponse

    @app.get("/api/curation/{name}")
    @plain
    def one(name: str) -> Any:
        return told(site.folders, name)

    @app.get("/api/curation-strip/{name}/{content}/{clip}")
    @plain
    def strip(name: str, content: str, clip: str) -> Any:
        path = strip_path(site.folders, name, content, clip)
        if path is None:
            raise HTTPException(404, "there is nothing here")
        return FileResponse(path, media_type="image/jpeg", headers={"cache-control": "private, max-age=600"})

    @app.post("/api/curation/{name}/say")
    @plain
    def say(name: str, asked: dict[str, Any]) -> Any:
        path = save_said(site.folders, name, list(asked.get("rows") or ()))
        return {"file": str(path), "command": f"run.py curate review {path.parent} {path}"}

    @app.post("/api/curation/{name}/review")
    @plain
    def review(name: str) -> Any:
        folder = folder_of(site.folders, name)
        said = folder / SAID
        if not said.is_file():
            raise ConfigError("nothing was said of any clip yet: press K or J first")
        words = ["curate", "review", str(folder), "CONFIG"]
        site.queue.add(name, words, shown_of(name), said.read_text(encoding="utf-8"))
        return {"name": name}

    @app.post("/api/curation/{name}/decide")
    @plain
    def decide(name: str, asked: dict[str, Any]) -> Any:
        config = with_bounds(site.folders, name, asked.get("bounds") or {})
        site.queue.add(name, ["curate", "--config", "CONFIG"], shown_of(name), config)
        return {"name": name}


def shown_of(name: str) -> dict[str, Any]:
    """How a curation is shown in the queue."""
    return {"title": f"curation {name}", "kind": "curation"}


def config_of(folders: Folders, name: str) -> CurateConfig:
    """The config of a curation. Raises ConfigError where there is none."""
    folder = folder_of(folders, name)
    if not (folder / TABLE).is_file():
        raise ConfigError(f"{name} has no table yet: it is written at the end of a run of curate")
    return resolve(CurateConfig, CurateConfig(), folder / "config.yaml")


def told(folders: Folders, name: str) -> dict[str, Any]:
    """All clips with their scores, the filters in the order in which they refuse, and what was said."""
    config = config_of(folders, name)
    folder = folder_of(folders, name)
    filters = filters_of(config)
    said = overrides_of(folder)
    own = folder / SAID
    if own.is_file():
        said = {**said, **read_said(own)}
    clips = []
    for row in read_table(folder / TABLE):
        if row["start_frame"] is None:
            continue
        scores = {
            each.name: finite(row.get(f"score_{each.name}"))
            for each in filters
            if row.get(f"score_{each.name}") is not None
        }
        clips.append(
            {
                "source": row["source"],
                "start": row["start_frame"],
                "seconds": [row["start_s"], row["end_s"]],
                "status": row["status"],
                "reason": row["reason"],
                "scores": scores,
                "strip": f"{row['source_sha256']}/{row['start_frame']:07d}-{row['end_frame']:07d}",
                "said": said.get((row["source"], row["start_frame"])),
            }
        )
    return {
        "name": name,
        "clips": clips,
        "filters": [
            {"name": each.name, "at_least": each.at_least, "at_most": each.at_most, "says": each.says}
            for each in filters
        ],
    }


def finite(value: Any) -> float:
    """A score as JSON has it: of NaN, which is refused by any bound, a number that lies below all."""
    number = float(value)
    return number if math.isfinite(number) else -1e30


def strip_path(folders: Folders, name: str, content: str, clip: str) -> Path | None:
    """The strip of the last level that was measured of a clip."""
    if not content.isalnum() or not clip.replace("-", "").isdecimal():
        return None
    folder = content_folder(folder_of(folders, name), content) / clip
    found = [path for level in LEVELS[1:] if (path := folder / strip_of(level)).is_file()]
    return found[-1] if found and not found[-1].is_symlink() else None


def save_said(folders: Folders, name: str, rows: list[Mapping[str, Any]]) -> Path:
    """Write what was said of clips for `curate review`. Raises ConfigError for clips that there are not."""
    folder = folder_of(folders, name)
    config_of(folders, name)
    known = {(row["source"], row["start_frame"]) for row in read_table(folder / TABLE)}
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("source", "start_frame", "status"))
    for row in rows:
        clip = (str(row.get("source")), row.get("start"))
        if clip not in known or row.get("status") not in ("kept", "rejected"):
            raise ConfigError(f"{clip[0]}: no clip from frame {clip[1]} on, or neither kept nor rejected")
        writer.writerow((*clip, row["status"]))
    path = folder / SAID
    write_text(path, text.getvalue())
    return path


def read_said(path: Path) -> dict[tuple[str, int], str]:
    """What was said on the page before."""
    with path.open(encoding="utf-8", newline="") as file:
        return {(row["source"], int(row["start_frame"])): row["status"] for row in csv.DictReader(file)}


def with_bounds(folders: Folders, name: str, bounds: Mapping[str, Mapping[str, Any]]) -> str:
    """The config of a curation with other bounds, as YAML. Raises ConfigError."""
    config_of(folders, name)
    folder = folder_of(folders, name)
    before = read_yaml(folder / "config.yaml")
    thresholds = {
        str(score): {side: value for side, value in bound.items() if side in ("at_least", "at_most")}
        for score, bound in bounds.items()
    }
    path = folders.asked / f"{name}.yaml"
    write_text(path, write_plain(merge(before, {"thresholds": thresholds, "output": str(folder)})))
    return write_yaml(resolve(CurateConfig, CurateConfig(), path))


def write_plain(data: Mapping[str, Any]) -> str:
    """Plain data as YAML."""
    import yaml

    return yaml.safe_dump(dict(data), sort_keys=False, allow_unicode=True)
