"""The jobs of a folder, read from their own files alone: those of the page and of the command line alike."""

import re
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

from ...stages.errors import ConfigError, VideoError
from ...stages.media.video import probe
from ..animate.graph import LAST, STEPS
from ..animate.report import PANEL_HEIGHT
from ..batch.status import is_running, read_json
from ..curate.status import is_curation
from ..job.evaluation import NAME as EVALUATION
from ..job.evaluation import line_of, read_evaluation
from ..job.job import Job, read_record
from ..progress import PROGRESS
from .config import Folders
from .uploads import by_titles

State = Literal["waiting", "running", "done", "failed", "stopped"]
Kind = Literal["video", "batch", "curation"]
SERVED = frozenset(
    {
        "result.mp4", "result.mkv", "comparison.mp4", "contact_sheet.png", "preview.mp4", "poses.npz",
        "pose_report.json", "config.yaml", "environment.json", "overlay.mp4", "upscaled.mp4", "reference.png",
        "sheet.png", EVALUATION,
    }
)  # fmt: skip
"""The files of a job that are shown or downloaded; no other is."""
SHOWN_FIRST = ("result.mp4", "contact_sheet.png", "overlay.mp4")
"""What stands for a job in lists, the first of these that is there; `overlay.mp4` is of `pose`."""
LEAST = frozenset({"poses", "result"})
"""Steps without which no job is done."""
TOLD = ("model", "preset", "seed", "steps", "width", "height", "start", "duration", "stride")
"""Options that a job's card tells."""
NAME = re.compile(r"[^/\\\0.][^/\\\0]{0,199}")
"""Names of folders of jobs: never hidden ones."""
ERROR = "error: "
LOG_END = 4096
"""Bytes at the end of a log in which its last line stands."""


@dataclass(frozen=True, slots=True)
class Card:
    """What the list of jobs shows of one."""

    name: str
    kind: Kind
    state: State
    title: str
    changed: float
    options: dict[str, str] = field(default_factory=dict)
    error: str = ""
    shares: dict[str, Any] = field(default_factory=dict)
    """How far it is: `stage`, `done`, `total`, `seconds`, of the stage that runs."""


def folder_of(folders: Folders, name: str) -> Path:
    """The folder of a job, NAME or that of a video in a batch, BATCH/NAME. Raises ConfigError.

    Names come from visitors: no part may be hidden or lead upwards, and none may be a symbolic link.
    """
    parts, folder = name.split("/"), folders.jobs
    if not 1 <= len(parts) <= 2 or not all(NAME.fullmatch(part) for part in parts):
        raise ConfigError("there is no such job")
    for part in parts:
        folder = folder / part
        if folder.is_symlink() or not folder.is_dir():
            raise ConfigError("there is no such job")
    return folder


def file_of(folders: Folders, name: str, file: str) -> Path:
    """A file of a job that may be shown. Raises ConfigError for all others."""
    if file not in SERVED:
        raise ConfigError("there is no such file")
    path = folder_of(folders, name) / file
    if path.is_symlink() or not path.is_file():
        raise ConfigError("there is no such file")
    return path


def cards(folders: Folders, waiting: list[str], working: list[str]) -> list[Card]:
    """All jobs, the newest first; `waiting` and `working` are those of the queue."""
    there = [entry for entry in folders.jobs.iterdir() if is_job(entry)]
    found = [card_of(folders, entry.name, waiting, working) for entry in there]
    names = {card.name for card in found}
    found += [unborn(folders, name, "running") for name in working if name not in names]
    found += [unborn(folders, name, "waiting") for name in waiting if name not in names]
    return sorted(found, key=lambda card: -card.changed)


def unborn(folders: Folders, name: str, state: State) -> Card:
    """The card of a job that is asked for and has no folder yet."""
    path = folders.asked / f"{name}.json"
    asked = read_json(path) or {}
    since = path.stat().st_mtime if path.is_file() else time.time()
    return Card(name, asked.get("kind", "video"), state, title_of(folders, name, {}), since)


def is_job(entry: Path) -> bool:
    """Whether a folder is that of a job, a batch or a curation."""
    if entry.name.startswith(".") or entry.is_symlink():
        return False
    return (entry / ".work").is_dir()


def kind_of(folder: Path) -> Kind:
    """What a job's folder is."""
    if is_curation(folder):
        return "curation"
    if (folder / ".work" / "items.json").is_file() or (folder / "events.jsonl").is_file():
        return "batch"
    return "video"


def card_of(folders: Folders, name: str, waiting: list[str], working: list[str]) -> Card:
    """The card of one job."""
    folder = folders.jobs / name
    kind, options = kind_of(folder), options_told(folder / "config.yaml")
    changed, error, state = changed_at(folder), "", "stopped"
    if name in working or is_running(folder):
        state = "running"
    elif name in waiting:
        state = "waiting"
    else:
        error, failed_at = last_error(folders, name)
        if error and failed_at > changed:
            state = "failed"
        elif is_done(folder, kind):
            state = "done"
    shares = share_of(folder) if state == "running" else {}
    error = by_titles(folders, error) if state == "failed" else ""
    return Card(name, kind, state, title_of(folders, name, options), changed, options, error, shares)


def changed_at(folder: Path) -> float:
    """When the last step of a job ended, or it began."""
    records = [*(folder / ".work" / "records").glob("*.json"), folder / "summary.json", folder / ".work"]
    return max((path.stat().st_mtime for path in records if path.exists()), default=0.0)


def is_done(folder: Path, kind: Kind) -> bool:
    """Whether all of a job is made, by its records; what a later run began anew is not."""
    if kind != "video":
        return (folder / "summary.json").is_file()
    job = Job(folder)
    last = job.record_path(LAST)
    if not last.is_file():
        return (folder / "overlay.mp4").is_file()  # of `pose`
    newest = last.stat().st_mtime_ns
    records = [path for path in last.parent.glob("*.json") if path.stem in STEPS]
    there = {path.stem for path in records}
    return there >= LEAST and all(path.stat().st_mtime_ns <= newest for path in records)


def options_told(path: Path) -> dict[str, str]:
    """Some options of a config.yaml, as text: lines of its first level, which `write_yaml` writes."""
    found = {}
    try:
        with path.open(encoding="utf-8") as lines:
            for line in lines:
                key, colon, value = line.partition(":")
                value = value.strip().strip("'\"")
                if colon and key in (*TOLD, "driving", "reference") and value != "null":
                    found[key] = Path(value).name if key in ("driving", "reference", "model") else value
    except (OSError, UnicodeDecodeError):
        return {}
    return found


def title_of(folders: Folders, name: str, options: dict[str, str]) -> str:
    """What a job is called: as it was asked for here, or by its inputs."""
    asked = read_json(folders.asked / f"{name}.json")
    if isinstance(asked, dict) and asked.get("title"):
        return str(asked["title"])
    inputs = [options[key] for key in ("reference", "driving") if key in options]
    return f"{name}: {' × '.join(inputs)}" if inputs else name


def last_error(folders: Folders, name: str) -> tuple[str, float]:
    """The error that ended a job's last command here, and when; empty where it did not end so."""
    path = folders.logs / f"{name}.log"
    lines = last_lines(path)
    if not lines or not lines[-1].startswith(ERROR):
        return "", 0.0
    return lines[-1].removeprefix(ERROR), path.stat().st_mtime


def last_lines(path: Path) -> list[str]:
    """The last lines that a command wrote."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - LOG_END))
            text = file.read().decode("utf-8", "replace")
    except FileNotFoundError:
        return []
    return [line for line in re.split(r"[\r\n]+", text) if line.strip()]


def share_of(folder: Path) -> dict[str, Any]:
    """How far the stage is that runs; of a batch, how many videos are made."""
    progress = read_json(folder / PROGRESS)
    if stages := stages_of(progress):
        return {key: stages[-1][key] for key in ("stage", "done", "total", "seconds")}
    if isinstance(progress, dict) and "videos" in progress:
        made, left = progress["videos"]
        return {"stage": "videos", "done": made, "total": made + left, "seconds": 0}
    return {"stage": "starting", "done": 0, "total": None, "seconds": 0}


def stages_of(progress: Any) -> list[dict[str, Any]]:
    """The stages of a video's run; none of what batches and curations keep in a file of that name."""
    stages = progress.get("stages") if isinstance(progress, dict) else None
    return stages if isinstance(stages, list) else []


def detail(folders: Folders, name: str, card: Card) -> dict[str, Any]:
    """All that the page shows of one job, whose name was checked when its card was made."""
    folder = folders.jobs / name
    job = Job(folder)
    records = {name: read_record(job.record_path(name)) for name in STEPS}
    notes = [
        {"step": step, "text": by_titles(folders, note)}
        for step, record in records.items()
        if record is not None
        for note in record["facts"].get("notes", ())
    ]
    if (figures := read_evaluation(folder)) is not None:
        notes.append({"step": "evaluation", "text": line_of(figures)})
    entries = folder.iterdir() if folder.is_dir() else ()
    files = sorted(file.name for file in entries if file.name in SERVED and not file.is_symlink())
    config, log = folder / "config.yaml", folders.logs / f"{name}.log"
    progress = read_json(folder / PROGRESS)
    return {
        **asdict(card),
        "notes": notes,
        "quality": quality_line(notes),
        "files": files,
        "video": panels_of(folder) if "comparison.mp4" in files and card.state != "running" else None,
        "config": config.read_text(encoding="utf-8") if config.is_file() else "",
        "steps": [step for step, record in records.items() if record is not None],
        "stages": list(stages_told(progress)),
        "log": [by_titles(folders, without_bars(line)) for line in last_lines(log)[-12:]],
        "reused": (read_json(folders.asked / f"{name}.json") or {}).get("reused", []),
    }


def panels_of(folder: Path) -> dict[str, Any] | None:
    """Where the panels of a comparison video lie (`write_comparison`): each as high as it, in pixels."""
    try:
        whole = probe(folder / "comparison.mp4")
        results = [path for path in (folder / "result.mp4", folder / "result.mkv") if path.is_file()]
        shape = probe(results[0]) if results else whole
    except VideoError:
        return None
    width = max(2, 2 * round(shape.width * PANEL_HEIGHT / shape.height / 2))
    own = [("pose", width), ("reference", width), ("result", width)]
    if (folder / "upscaled.mp4").is_file():
        own.append(("upscaled", width))
    if (rest := whole.width - len(own) * width) > 0:
        own.insert(0, ("driving", rest))
    panels, left = [], 0
    for name, wide in own:
        panels.append({"name": name, "left": left, "width": wide})
        left += wide
    return {"height": whole.height, "fps": float(whole.fps), "frames": whole.num_frames, "panels": panels}


def quality_line(notes: list[dict[str, str]]) -> str:
    """How well the dancer was seen: what the step of poses said."""
    return next((note["text"] for note in notes if "body joints found" in note["text"]), "")


def stages_told(progress: Any) -> Iterator[dict[str, Any]]:
    """The stages of the last run, with their time."""
    for stage in stages_of(progress):
        yield {**stage, "time": str(timedelta(seconds=round(stage["seconds"])))}


def without_bars(line: str) -> str:
    """A line of a log; of a bar the words."""
    return re.sub(r"\|[█▏▎▍▌▋▊▉# \d]*\|", "", line)


def shown_of(folders: Folders, name: str) -> Path | None:
    """What stands for a job in lists: its result, or its character's picture, also while it waits.

    Raises ConfigError where there is no such job.
    """
    asked = folders.asked / f"{name}.yaml"
    if NAME.fullmatch(name) and asked.is_file() and not (folders.jobs / name / "config.yaml").is_file():
        return character_of(asked)
    folder = folder_of(folders, name)
    made = [folder / file for file in SHOWN_FIRST if (folder / file).is_file()]
    return made[0] if made else character_of(folder / "config.yaml")


def character_of(config: Path) -> Path | None:
    """The picture of the character that a job's config names, where it is there."""
    for line in config.read_text(encoding="utf-8").splitlines() if config.is_file() else ():
        key, _, value = line.partition(": ")
        path = Path(value.strip().strip("'"))
        if key == "reference" and value != "null" and path.is_file():
            return path
    return None
