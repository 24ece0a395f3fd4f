"""How far a batch is: read from its folder alone, so from any terminal, while it runs or after it ended."""

import errno
import fcntl
import html
import json
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ...stages.errors import ConfigError
from ..animate.graph import GRAPH, STEPS
from ..job.job import Job, read_record, write_text
from ..job.system_errors import NO_LOCKS

BEATS = Path(".work", "workers")
"""Where workers say, one file each, what they do."""
RUNNING = {True: "running", False: "not running", None: "whether it runs cannot be told here (no file locks)"}
EVENTS = "events.jsonl"
"""What happened, one JSON object a line."""


@dataclass(frozen=True, slots=True)
class ItemState:
    """One video of a batch. `stage`, `error` and `attempts` tell why it was given up."""

    name: str
    status: Literal["done", "quarantined", "waiting"]
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
        raise ConfigError(f"{root} is not the output folder of a batch")
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
    last = GRAPH[-1].name
    record = read_record(Job(root / name).record_path(last))
    if record is not None and record.get("key") == keys[last]:
        return ItemState(name, "done")
    why = read_json(quarantine_path(root, name))
    if isinstance(why, dict) and why.get("keys") == keys:
        return ItemState(name, "quarantined", why["stage"], why["error"], why["attempts"])
    return ItemState(name, "waiting")


def status(root: Path) -> str:
    """What `run.py status` prints. Raises ConfigError for a folder without a batch."""
    states = states_of(root)
    counts, running = Counter(state.status for state in states), is_running(root)
    lines = [
        f"{len(states)} videos: {counts['done']} done, {counts['quarantined']} given up, "
        f"{counts['waiting']} waiting; {RUNNING[running]}",
    ]
    for part in sorted(current_parts(root)):
        path = progress_path(root, part)
        progress = read_json(path)
        if isinstance(progress, dict):
            shard = part.removeprefix("-").replace("-of-", "/")
            seconds = (progress["ended"] or (time.time() if running else path.stat().st_mtime)) - progress[
                "began"
            ]
            lines += ["", f"{f'shard {shard}' if shard else 'last run'}: {seconds:.0f} s"]
            lines += table(progress["stages"], seconds)
    beats = [beat for path in sorted((root / BEATS).glob("*/*.json")) for beat in worker(path)]
    lines += [
        f"  {beat['task']}: {beat['what']} {beat['done']} of {beat['total'] or '?'}, {beat['age']:.0f} s ago"
        for beat in beats
        if beat["task"] and running
    ]
    lines += [
        f"given up: {state.name}: {state.stage}, after {state.attempts} attempts: {state.error}"
        for state in states
        if state.status == "quarantined"
    ]
    return "\n".join(lines)


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


def result_of(root: Path, name: str) -> str:
    """The name of a finished video in its folder."""
    record = read_record(Job(root / name).record_path("result"))
    return STEPS["result"].writes[0] if record is None else next(iter(record["files"]))


def write_index(root: Path, states: Sequence[ItemState], lines: Sequence[str] = ()) -> None:
    """Write index.html: every video's comparison, or why there is none; `lines` sum up the run that ended."""
    counts = Counter(state.status for state in states)
    rows = []
    for state in sorted(states, key=lambda state: (state.status != "quarantined", state.name)):
        name = html.escape(state.name)
        if state.status == "done":
            result = result_of(root, state.name)
            body = (
                f'<video src="{name}/comparison.mp4" controls muted loop preload="metadata"></video>'
                f'<p><a href="{name}/{result}">result</a> · <a href="{name}/">files</a></p>'
            )
        elif state.status == "quarantined":
            body = (
                f"<p>{html.escape(state.stage)}, after {state.attempts} attempts: "
                f"{html.escape(state.error)}</p>"
            )
        else:
            body = "<p>not made yet</p>"
        rows.append(f'<section class="{state.status}"><h2>{name}</h2>{body}</section>')
    title = f"{len(states)} videos: {counts['done']} done, {counts['quarantined']} given up"
    write_text(
        root / "index.html",
        PAGE.format(title=title, lines=html.escape("\n".join(lines)), rows="\n".join(rows)),
    )


PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>
body {{ font: 15px/1.4 system-ui, sans-serif; margin: 2rem; }}
main {{ display: grid; grid-template-columns: repeat(auto-fill, minmax(28rem, 1fr)); gap: 1rem; }}
section {{ border: 1px solid #ccc; border-radius: 6px; padding: 0 1rem; overflow-wrap: anywhere; }}
section.quarantined {{ border-color: #c33; background: #fff4f2; }}
h2 {{ font-size: 1rem; }} video {{ width: 100%; }}
</style></head><body><h1>{title}</h1><pre>{lines}</pre><main>
{rows}
</main></body></html>
"""
