"""What a batch of many rows takes before its first video, once it is done, and to tell of itself.

    python tests/bench/bench_plan.py                # 10,000 rows: 100 dances with 100 pictures
    python tests/bench/bench_plan.py --rows 1000

Files are made up, no video is made: finished ones are folders with the records and files that a batch leaves,
a few bytes each. The model is the demo's, whose files count for the keys. Prints seconds by the clock, and of
this process's own time, which others on the machine change less.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from posedance.pipeline.animate.graph import steps_of
from posedance.pipeline.batch.index import write_index
from posedance.pipeline.batch.plan import Plan, find_items, plan_items, tasks_of
from posedance.pipeline.batch.status import items_path, states_of, status
from posedance.pipeline.config import BatchConfig
from posedance.pipeline.job.job import Job
from posedance.pipeline.job.once import looking_once

FILES = 100
"""Dances, and pictures."""


def write_manifest(folder: Path, rows: int) -> Path:
    """Files of a few bytes, and a manifest of so many rows with them."""
    lines = ["driving,reference,seed"]
    for number in range(FILES):
        (folder / f"dance{number}.mp4").write_text(f"dance {number}")
        (folder / f"picture{number}.png").write_text(f"picture {number}")
    for row in range(rows):
        lines.append(f"dance{row % FILES}.mp4,picture{row // FILES % FILES}.png,{row}")
    (folder / "videos.csv").write_text("\n".join(lines))
    return folder / "videos.csv"


def planned(config: BatchConfig) -> Plan:
    """What a batch does before its first task."""
    answers: dict[Any, Any] = {}
    with looking_once(answers):
        items, _ = find_items(config)
    with looking_once(answers):
        plan = plan_items(config.output, items, config)
    tasks_of(config.output, plan.todo, plan.keys, ("pose", "draw", "denoise", "compare"))
    return plan


def finish(plan: Plan, root: Path) -> None:
    """Make the folders of finished videos up."""
    for item in plan.todo:
        job = Job(root / item.name)
        (job.work / "records").mkdir(parents=True)
        for step in steps_of(item.config):
            entries = {}
            if step.is_result:
                for file in step.files(job.folder, item.config):
                    file.write_text(item.name)
                    about = file.stat()
                    entries[file.name] = {"size": about.st_size, "mtime_ns": about.st_mtime_ns, "sha256": ""}
            record = {
                "step": step.name,
                "key": plan.keys[item.name][step.name],
                "files": entries,
                "facts": {},
            }
            job.record_path(step.name).write_text(json.dumps(record))
    items_path(root, "").write_text(json.dumps(plan.keys))


@contextmanager
def timed(what: str) -> Iterator[None]:
    """Print how long it takes."""
    clock, own = time.perf_counter(), time.process_time()
    yield
    sys.stdout.write(
        f"{what:<28}{time.perf_counter() - clock:>7.2f} s, {time.process_time() - own:.2f} s of its own\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=10_000)
    rows = parser.parse_args().rows
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        root = folder / "out"
        (root / ".work").mkdir(parents=True)
        config = BatchConfig(manifest=write_manifest(folder, rows), output=root, model="demo")
        with timed(f"{rows} new rows planned"):
            plan = planned(config)
        assert len(plan.todo) == rows
        finish(plan, root)
        with timed(f"{rows} finished rows read"):
            plan = planned(config)
        assert len(plan.done) == rows
        with timed("index.html written"):
            write_index(root, states_of(root))
        with timed("status"):
            status(root)


if __name__ == "__main__":
    main()
