"""How far a batch is: read from its folder alone, so from any terminal, while it runs or after it ended."""

import errno
import fcntl
import json
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal, get_args

from ...stages.errors import ConfigError
from ..animate.graph import LAST
from ..job.job import Job, read_record
from ..job.system_errors import NO_LOCKS
from ..workers.shards import BEATS, shard_named

SHOWN = 20
"""Workers, and videos given up, that `status` lists."""
RUNNING = {True: "running", False: "not running", None: "whether it runs cannot be told here (no file locks)"}
EVENTS = "events.jsonl"
"""What happened, one JSON object a line."""


Status = Literal["done", "quarantined", "waiting"]


@dataclass(frozen=True, slots=True)
class ItemState:
    """One video of a batch. `stage`, `error` and `attempts` tell why it was given up."""

    name: str
    status: Status
    stage: str = ""
    error: str = ""
    attempts: int = 0


def quarantine_path(root: Path, name: str) -> Path:
    """Where it is kept why an item was given up."""
    return root / ".work" / "quarantine" / f"{name}.json"


def progress_path(root: Path, part: str) -> Path:
    """Where the driver of a batch, or of one shard (`part`), keeps the table of its stages."""
    return root / ".work" / f"progress{part}.json"


def items_path(root: Path, part: str) -> Path:
    """Where a batch, or one shard of it, keeps the keys of all steps of its videos, by their names."""
    return root / ".work" / f"items{part}.json"


def read_json(path: Path) -> Any:
    """What a JSON file holds; None where there is none that can be read."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None


def states_of(root: Path) -> list[ItemState]:
    """The state of every video of a batch, of all shards, by its records. Files are not read again."""
    asked: dict[str, dict[str, str]] = {}
    for part in reversed(current_parts(root)):
        asked |= read_json(items_path(root, part)) or {}
    return [state_of(root, name, keys) for name, keys in asked.items()]


def current_parts(root: Path) -> list[str]:
    """The runs that say what a batch is, newest first, as their files are named: "" or shards, "-0-of-2".

    What is older than a run of the whole, or than all shards of so many, was asked for before and is not now.
    """
    paths = sorted(
        (root / ".work").glob("items*.json"), key=lambda path: path.stat().st_mtime_ns, reverse=True
    )
    if not paths:
        raise ConfigError(f"{root} is not the output folder of a batch: name the one given to `batch -o`")
    parts: list[str] = []
    seen: Counter[str] = Counter()
    for path in paths:
        part = path.stem.removeprefix("items")
        parts.append(part)
        count = part.rpartition("-")[-1]  # of how many shards it is one
        seen[count] += 1
        if not part or seen[count] == int(count):
            break
    return parts


def state_of(root: Path, name: str, keys: dict[str, str]) -> ItemState:
    """The state of one video, whose steps have these keys."""
    record = read_record(Job(root / name).record_path(LAST))
    if record is not None and record.get("key") == keys[LAST]:
        return ItemState(name, "done")
    why = read_json(quarantine_path(root, name))
    if isinstance(why, dict) and why.get("keys") == keys:
        return ItemState(name, "quarantined", why["stage"], why["error"], why["attempts"])
    return ItemState(name, "waiting")


@dataclass(frozen=True, slots=True)
class Run:
    """What the driver of a batch, or of one shard ("0/2"), said last.

    `videos` are those that it made so far, `left` those that it is still to make; `ended` is None while it
    runs and where it was killed.
    """

    shard: str
    seconds: float
    ended: float | None
    videos: int
    left: int
    stages: dict[str, dict[str, int]]

    @property
    def per_hour(self) -> float:
        """Videos an hour, since the run began."""
        return 3600 * self.videos / max(self.seconds, 1e-3)


def runs_of(root: Path, running: bool | None) -> list[Run]:
    """The last runs of a batch: one of the whole, or one for each shard."""
    found = []
    for part in sorted(current_parts(root)):
        path = progress_path(root, part)
        progress = read_json(path)
        if isinstance(progress, dict):
            until = progress["ended"] or (time.time() if running else path.stat().st_mtime)
            shard, seconds = shard_named(part), until - progress["began"]
            made, left = progress["videos"]
            found.append(Run(shard, seconds, progress["ended"], made, left, progress["stages"]))
    return found


def report(root: Path) -> dict[str, Any]:
    """How far a batch is, in numbers: what `run.py status --json` prints.

    Raises ConfigError for a folder without a batch.
    """
    states, running = states_of(root), is_running(root)
    runs = runs_of(root, running)
    going = [run for run in runs if running and run.ended is None]
    counts = Counter(state.status for state in states)
    per_hour = sum(run.per_hour for run in going)
    eta_s = max((3600 * run.left / run.per_hour for run in going if run.videos), default=None)
    beats = (beat for path in sorted((root / BEATS).glob("*/*.json")) for beat in worker(path))
    return {
        "videos": {"all": len(states), **{status: counts[status] for status in get_args(Status)}},
        "running": running,
        "videos_per_hour": round(per_hour, 3) if going else None,
        "eta_seconds": None if eta_s is None else round(eta_s),
        "runs": [asdict(run) for run in runs],
        "workers": [beat for beat in beats if beat["task"]] if running else [],
        "given_up": [asdict(state) for state in states if state.status == "quarantined"],
    }


def status(root: Path) -> str:
    """What `run.py status` prints. Raises ConfigError for a folder without a batch."""
    told = report(root)
    counts = told["videos"]
    lines = [
        f"{counts['all']} videos: {counts['done']} done, {counts['quarantined']} given up, "
        f"{counts['waiting']} waiting; {RUNNING[told['running']]}",
    ]
    if told["eta_seconds"] is not None:
        left = timedelta(seconds=told["eta_seconds"])
        lines.append(f"{told['videos_per_hour']:.1f} videos an hour, about {left} to go")
    for run in told["runs"]:
        name = f"shard {run['shard']}" if run["shard"] else "last run"
        lines += ["", f"{name}: {run['seconds']:.0f} s", *table(run["stages"], run["seconds"])]
    lines += bounded(
        f"  {beat['task']}: {beat['what']} {beat['done']} of {beat['total'] or '?'}, {beat['age']:.0f} s ago"
        for beat in told["workers"]
    )
    lines += bounded(
        f"given up: {state['name']}: {state['stage']}, after {state['attempts']} attempts: {state['error']}"
        for state in told["given_up"]
    )
    return "\n".join(lines)


def bounded(lines: Iterable[str]) -> list[str]:
    """The first SHOWN of the lines, and how many more there are."""
    found = list(lines)
    more = len(found) - SHOWN
    return [*found[:SHOWN], f"  and {more} more: --json tells all"] if more > 0 else found


def table(stages: Mapping[str, Mapping[str, int]], seconds: float) -> list[str]:
    """The stages of a run of so many seconds: their workers, and tasks by state; per s are those done."""
    columns = ("workers", "queued", "running", "done", "failed")
    lines = [f"{'stage':<10}" + "".join(f"{column:>9}" for column in (*columns, "per s"))]
    for name, counts in stages.items():
        cells = "".join(f"{counts.get(column, 0):>9}" for column in columns)
        lines.append(f"{name:<10}{cells}{counts.get('done', 0) / max(seconds, 1e-3):>9.2f}")
    return lines


def worker(path: Path) -> Iterator[dict[str, Any]]:
    """What one worker said last, with the seconds since; nothing if it just ended."""
    beat = read_json(path)
    if isinstance(beat, dict):
        yield beat | {"age": time.time() - beat["time"]}


def events(root: Path) -> Iterator[dict[str, Any]]:
    """The events of all runs. A line that a killed driver left half is passed over."""
    path = root / EVENTS
    if not path.is_file():
        return
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            try:
                yield json.loads(line)
            except ValueError:
                continue


def is_running(root: Path) -> bool | None:
    """Whether a driver holds the batch's lock: it is tried for a moment, which a new driver waits out.

    None where that cannot be told: the file system has no locks, or those alone who may write.
    """
    try:
        with (root / ".work" / "lock").open() as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return False
    except OSError as error:
        if error.errno in (*NO_LOCKS, errno.EACCES):
            return None
        raise
    return False
