"""How far a curation is: read from its folder alone, so from any terminal, while it runs or later."""

import time
from collections import Counter
from pathlib import Path
from typing import Any

from ..batch.status import is_running, read_json, table, worker
from ..workers.shards import BEATS, shard_named


def is_curation(root: Path) -> bool:
    """Whether a folder is the output of `curate`."""
    return (root / ".work" / "content").is_dir()


def status(root: Path) -> str:
    """What `run.py status` prints."""
    running = is_running(root)
    looked = len(list((root / ".work" / "sources").glob("*.json")))
    lines = [f"{looked} sources looked at; {'running' if running else 'not running'}"]
    for path in sorted((root / ".work").glob("progress*.json")):
        progress = read_json(path)
        if isinstance(progress, dict):
            shard = shard_named(path.stem.removeprefix("progress"))
            until = progress["ended"] or (time.time() if running else path.stat().st_mtime)
            seconds = until - progress["began"]
            lines += ["", f"{f'shard {shard}' if shard else 'last run'}: {seconds:.0f} s"]
            lines += table(progress["stages"], seconds)
    if running:
        for path in sorted((root / BEATS).glob("*/*.json")):
            for beat in worker(path):
                if beat["task"]:
                    lines.append(
                        f"  {beat['task']}: {beat['what']} {beat['done']} of {beat['total'] or '?'}, "
                        f"{beat['age']:.0f} s ago"
                    )
    lines += ["", *(summary_lines(read_json(root / "summary.json")))]
    for path in sorted((root / ".work" / "quarantine").glob("*.json")):
        why: Any = read_json(path)
        if isinstance(why, dict):
            lines.append(
                f"given up: {why['item']}: {why['stage']}, after {why['attempts']} attempts: {why['error']}"
            )
    return "\n".join(lines)


def summary_lines(summary: Any) -> list[str]:
    """What the last run that ended made."""
    if not isinstance(summary, dict):
        return ["no table is written yet"]
    counts = Counter(summary["clips"])
    reasons = ", ".join(f"{count} {reason}" for reason, count in Counter(summary["reasons"]).most_common())
    return [
        f"of {summary['sources']} sources: {counts['kept']} clips kept, {counts['rejected']} rejected, "
        f"{counts['duplicate']} duplicates" + (f" ({reasons})" if reasons else "")
    ]
