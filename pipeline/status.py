"""How far a batch is: read from its folder alone, so from any terminal, while it runs or after it ended."""

import fcntl
import html
import json
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ..stages.errors import ConfigError
from .job import Job, read_record, write_text

BEATS = Path(".work", "workers")
"""Where workers say, one file each, what they do."""
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


def read_json(path: Path) -> Any:
    """What a JSON file holds; None where there is none that can be read."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None


def states_of(root: Path) -> list[ItemState]:
    """The state of every video of a batch, of all shards, by its records. Files are not read again."""
    lists = sorted((root / ".work").glob("items*.json"))
    if not lists:
        raise ConfigError(f"{root} is not the output folder of a batch")
    states = {}
    for path in lists:
        for name, keys in (read_json(path) or {}).items():
            states[name] = state_of(root, name, keys)
    return list(states.values())


def state_of(root: Path, name: str, keys: dict[str, str]) -> ItemState:
    """The state of one video, whose steps have these keys."""
    record = read_record(Job(root / name).record_path("comparison"))
    if record is not None and record.get("key") == keys["comparison"]:
        return ItemState(name, "done")
    why = read_json(quarantine_path(root, name))
    if isinstance(why, dict) and why.get("keys") == keys:
        return ItemState(name, "quarantined", why["stage"], why["error"], why["attempts"])
    return ItemState(name, "waiting")


def status(root: Path) -> str:
    """What `run.py status` prints. Raises ConfigError for a folder without a batch."""
    states = states_of(root)
    counts = Counter(state.status for state in states)
    lines = [
        f"{len(states)} videos: {counts['done']} done, {counts['quarantined']} given up, "
        f"{counts['waiting']} waiting; {'running' if is_running(root) else 'not running'}",
        "",
        f"{'stage':<10} {'workers':>7} {'running':>7} {'done':>6} {'failed':>6} {'seconds each':>13}",
    ]
    beats = [beat for path in sorted((root / BEATS).glob("*.json")) for beat in worker(path)]
    if not is_running(root):
        beats = []
    for stage, row in stage_table(root).items():
        own = [beat for beat in beats if beat["stage"] == stage]
        busy = sum(bool(beat["task"]) for beat in own)
        mean = row["seconds"] / row["done"] if row["done"] else 0.0
        lines.append(
            f"{stage:<10} {len(own):>7} {busy:>7} {row['done']:>6.0f} {row['failed']:>6.0f} {mean:>13.2f}"
        )
    lines += [
        f"  {beat['task']}: {beat['what']} {beat['done']} of {beat['total'] or '?'}, {beat['age']:.0f} s ago"
        for beat in beats
        if beat["task"]
    ]
    lines += [
        f"given up: {state.name}: {state.stage}, after {state.attempts} attempts: {state.error}"
        for state in states
        if state.status == "quarantined"
    ]
    return "\n".join(lines)


def worker(path: Path) -> Iterator[dict[str, Any]]:
    """What one worker said last, with its stage and the seconds since; nothing if it just ended."""
    beat = read_json(path)
    if isinstance(beat, dict):
        yield beat | {"stage": path.stem.rpartition("-")[0], "age": time.time() - path.stat().st_mtime}


def stage_table(root: Path) -> dict[str, dict[str, float]]:
    """For each stage: attempts that were done, their seconds in all, and attempts that failed."""
    table: defaultdict[str, dict[str, float]] = defaultdict(lambda: {"done": 0, "failed": 0, "seconds": 0.0})
    for event in events(root):
        row = table[event["stage"]]
        if event["event"] == "done":
            row["done"] += 1
            row["seconds"] += event["seconds"]
        elif event["event"] in ("retry", "quarantine"):
            row["failed"] += 1
    return dict(table)


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


def is_running(root: Path) -> bool:
    """Whether a driver holds the batch's lock."""
    with (root / ".work" / "lock").open() as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def write_index(root: Path, states: Sequence[ItemState]) -> None:
    """Write index.html: every video's comparison, or why there is none."""
    counts = Counter(state.status for state in states)
    rows = []
    for state in sorted(states, key=lambda state: (state.status != "quarantined", state.name)):
        name = html.escape(state.name)
        if state.status == "done":
            body = (
                f'<video src="{name}/comparison.mp4" controls muted loop preload="metadata"></video>'
                f'<p><a href="{name}/result.mp4">result</a> · <a href="{name}/">files</a></p>'
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
    write_text(root / "index.html", PAGE.format(title=title, rows="\n".join(rows)))


PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>
body {{ font: 15px/1.4 system-ui, sans-serif; margin: 2rem; }}
main {{ display: grid; grid-template-columns: repeat(auto-fill, minmax(28rem, 1fr)); gap: 1rem; }}
section {{ border: 1px solid #ccc; border-radius: 6px; padding: 0 1rem; overflow-wrap: anywhere; }}
section.quarantined {{ border-color: #c33; background: #fff4f2; }}
h2 {{ font-size: 1rem; }} video {{ width: 100%; }}
</style></head><body><h1>{title}</h1><main>
{rows}
</main></body></html>
"""
