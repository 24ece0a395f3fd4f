"""What a batch says while it runs: a bar, a table, a line for what fails, events.jsonl, and a summary."""

import json
import logging
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from tqdm import tqdm

from ...stages.errors import OutputError
from ..animate.graph import LAST
from ..job.evaluation import read_evaluation
from ..job.job import write_text
from ..progress import bar_interval_s
from ..workers.executor import Outcome, Task
from .index import write_index
from .status import EVENTS, ItemState, progress_path, states_of, table

logger = logging.getLogger(__name__)

PROGRESS_S = 1.0
"""The file that `status` reads, and the table, are written at most this often, in seconds."""
INDEX_S = 30.0
"""index.html is written anew at most this often while videos become done, in seconds,"""
INDEX_PART = 0.02
"""and takes no more than this part of the driver's time: it reads the records of all videos."""


def event_line(event: str, task: Task, outcome: Outcome | None, tries: int) -> str:
    """A line of events.jsonl: what happened to a task, when, and what it cost."""
    record = {
        "time": round(time.time(), 3),
        "event": event,
        "stage": task.stage,
        "task": task.name,
        "item": task.item,
        "attempt": tries,
    }
    if outcome is not None:
        record |= {"seconds": round(outcome.seconds, 3), "error": outcome.error}
    return json.dumps(record) + "\n"


class Log:
    """The listener of a batch of `num_items` videos to make, in the folder `root`.

    `part` names the shard in files that each has of its own; `left_out` counts what was asked for and is not
    made, by reason. `workers` tells how many each stage has, `notes` what is to stand in the summary too.
    """

    def __init__(self, root: Path, part: str, num_items: int, left_out: Mapping[str, int]) -> None:
        self._root, self._left_out = root, dict(left_out)
        self._progress = progress_path(root, part)
        self._unwritten: set[str] = set()
        self._file: BinaryIO | None = None
        with self.spared(EVENTS):
            self._file = (root / EVENTS).open("ab", buffering=0)
        self._began = time.time()
        self.workers: Callable[[], Mapping[str, int]] = Counter
        self._stages: dict[str, Counter[str]] = {}
        self._seconds: defaultdict[str, float] = defaultdict(float)
        self._done: Counter[str] = Counter()
        self._skipped = self._retries = 0
        self._videos, self._left = 0, num_items
        self.notes: list[str] = []
        self._told = self._index_due = 0.0
        terminal, interval = sys.stderr.isatty(), bar_interval_s()
        self._bar = tqdm(
            total=num_items,
            desc="batch",
            unit="video",
            disable=num_items == 0,
            file=sys.stderr,
            mininterval=interval,
            maxinterval=interval,
        )
        self._terminal = terminal and num_items > 0
        self._rows: list[Any] = []

    def __call__(self, event: str, task: Task, outcome: Outcome | None, tries: int) -> None:
        counts = self._stages.setdefault(task.stage, Counter())
        if event == "queue":
            counts["queued"] += 1
            return
        if self._file is not None:
            with self.spared(EVENTS):
                self._file.write(event_line(event, task, outcome, tries).encode())
        if event == "start":
            counts["queued"] -= 1
            counts["running"] += 1
        elif event != "drop":
            counts["running"] -= 1
        if outcome is not None:
            self._ended(event, task, outcome, tries, counts)
        self._tell()

    def _ended(self, event: str, task: Task, outcome: Outcome, tries: int, counts: Counter[str]) -> None:
        step = task.work.step
        if event == "done":
            counts["done"] += 1
            self._done[step] += 1
            self._seconds[step] += outcome.seconds
        elif event == "skip":
            self._skipped += 1
        elif event in ("retry", "quarantine"):
            counts["failed"] += 1
            self._retries += event == "retry"
            end = "failed" if event == "retry" else "was the last one: given up"
            logger.warning(f"{task.name}: attempt {tries} {end}: {outcome.error}")
        if step == LAST and event in ("done", "skip", "quarantine", "drop"):
            self._left -= 1
            if event in ("done", "skip"):
                self._videos += 1
                self._bar.update()

    def _tell(self, ended: float | None = None) -> None:
        """Write what `status` reads, and show the same table under the bar of a terminal."""
        now = time.time()
        if ended is None and now - self._told < PROGRESS_S:
            return
        self._told = now
        workers = {} if ended else self.workers()
        stages = {name: {**counts, "workers": workers.get(name, 0)} for name, counts in self._stages.items()}
        with self.spared(self._progress.name):
            videos = [self._videos, self._left]
            progress = {"began": self._began, "ended": ended, "videos": videos, "stages": stages}
            write_text(self._progress, json.dumps(progress))
        if self._terminal:
            lines = table(stages, now - self._began)
            while len(self._rows) < len(lines):
                self._rows.append(
                    tqdm(
                        bar_format="{desc}", position=len(self._rows) + 1, file=sys.stderr, leave=bool(ended)
                    )
                )
            for row, line in zip(self._rows, lines, strict=True):
                row.set_description_str(line)
        running = [
            f"{stage} {counts['running']}" for stage, counts in stages.items() if counts.get("running")
        ]
        self._bar.set_postfix_str(", ".join(running), refresh=False)
        if ended is None and now > self._index_due:
            with self.spared("index.html"):
                write_index(self._root, states_of(self._root))
            self._index_due = time.time() + max(INDEX_S, (time.time() - now) / INDEX_PART)

    @contextmanager
    def spared(self, name: str) -> Iterator[None]:
        """Within this, a file that only tells of the batch may fail to be written: it is said once."""
        try:
            yield
        except (OSError, OutputError) as error:
            if name not in self._unwritten:
                self._unwritten.add(name)
                logger.warning(f"{error}: the batch goes on without {name}")

    def close(self) -> None:
        self._tell(ended=time.time())
        for row in self._rows:
            row.close()
        self._bar.close()
        if self._file is not None:
            self._file.close()

    def summary(self, states: Sequence[ItemState], done_before: int) -> dict[str, Any]:
        """The run in numbers: videos by status; what was skipped, left out, given up; each step's seconds."""
        return {
            "seconds": round(time.time() - self._began, 3),
            "videos": dict(Counter(state.status for state in states)),
            "skipped": {"videos": done_before, "steps": self._skipped},
            "filtered": self._left_out,
            "retries": self._retries,
            "notes": self.notes,
            "steps": {
                step: {"done": count, "seconds": round(self._seconds[step], 3)}
                for step, count in self._done.items()
            },
            "evaluated": dict(self._evaluated(states)),
            "quarantined": {
                state.name: {"stage": state.stage, "error": state.error, "attempts": state.attempts}
                for state in states
                if state.status == "quarantined"
            },
        }

    def _evaluated(self, states: Sequence[ItemState]) -> Iterator[tuple[str, dict[str, Any]]]:
        """What `evaluate result` found in finished videos, by their names."""
        for state in states:
            figures = read_evaluation(self._root / state.name) if state.status == "done" else None
            if figures is not None:
                yield state.name, figures

    def lines(self, states: Sequence[ItemState], done_before: int) -> Iterator[str]:
        """The summary for the user."""
        counts = Counter(state.status for state in states)
        for step, count in self._done.items():
            yield f"{step:<10} {count} times, {self._seconds[step]:.1f} s"
        yield f"skipped, for they were done before: {done_before} videos, {self._skipped} steps of others"
        left_out = ", ".join(f"{count} {reason}" for reason, count in self._left_out.items() if count)
        if left_out:
            yield f"filtered: {left_out}"
        yield from self.notes
        yield (
            f"{counts['done']} of {len(states)} videos done, {counts['quarantined']} given up, "
            f"{counts['waiting']} waiting, {self._retries} attempts repeated; see index.html"
        )
