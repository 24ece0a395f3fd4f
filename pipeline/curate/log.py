"""What a curation says while it runs: a bar for each phase, a line for what fails, events.jsonl."""

import json
import logging
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ..batch.log import event_line
from ..batch.status import EVENTS, progress_path
from ..job.job import write_text
from ..progress import bar_interval_s
from ..workers.executor import Outcome, Task

logger = logging.getLogger(__name__)

PROGRESS_S = 1.0
"""The file that `status` reads is written at most this often, in seconds."""


class Log:
    """The listener of a curation's phases. `part` names the shard in the file that each has of its own."""

    def __init__(self, root: Path, part: str) -> None:
        self._progress = progress_path(root, part)
        self._file = (root / EVENTS).open("a", encoding="utf-8", buffering=1)
        self._began = time.time()
        self.workers: Callable[[], Mapping[str, int]] = Counter
        self._stages: dict[str, Counter[str]] = {}
        self._told = 0.0
        self._bar: Any = None
        self._tell(force=True)

    def begin(self, phase: str, total: int, unit: str) -> None:
        """Show a bar for a phase of so many tasks."""
        interval = bar_interval_s()
        self._bar = tqdm(
            total=total,
            desc=f"{phase:<10}",
            unit=unit,
            file=sys.stderr,
            mininterval=interval,
            maxinterval=interval,
        )

    def end(self) -> None:
        """The phase that runs is over."""
        if self._bar is not None:
            self._bar.close()
        self._bar, self.workers = None, Counter
        self._tell(force=True)

    def __call__(self, event: str, task: Task, outcome: Outcome | None, tries: int) -> None:
        counts = self._stages.setdefault(task.stage, Counter())
        if event == "queue":
            counts["queued"] += 1
            return
        self._file.write(event_line(event, task, outcome, tries))
        if event == "start":
            counts["queued"] -= 1
            counts["running"] += 1
        else:
            counts["running"] -= 1
        if event in ("done", "skip"):
            counts["done"] += 1
        elif event in ("retry", "quarantine"):
            assert outcome is not None
            counts["failed"] += 1
            end = "failed" if event == "retry" else "was the last one: given up"
            logger.warning(f"{task.item}: attempt {tries} {end}: {outcome.error}")
        if event in ("done", "skip", "quarantine") and self._bar is not None:
            self._bar.update()
        self._tell()

    def _tell(self, force: bool = False, ended: float | None = None) -> None:
        now = time.time()
        if not force and now - self._told < PROGRESS_S:
            return
        self._told = now
        workers = self.workers()
        stages = {name: {**counts, "workers": workers.get(name, 0)} for name, counts in self._stages.items()}
        write_text(self._progress, json.dumps({"began": self._began, "ended": ended, "stages": stages}))

    def close(self) -> None:
        self.end()
        self._tell(force=True, ended=time.time())
        self._file.close()
