"""What a batch says while it runs: one bar, a line for what fails, events.jsonl, and a summary at the end."""

import json
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from .executor import Outcome, Task
from .progress import LOG_INTERVAL_S, say
from .status import EVENTS, ItemState


class Log:
    """The listener of a batch of `num_items` videos to make, in the folder `root`."""

    def __init__(self, root: Path, num_items: int) -> None:
        self._file = (root / EVENTS).open("a", encoding="utf-8", buffering=1)
        self._began = time.time()
        self._running: Counter[str] = Counter()
        self._seconds: defaultdict[str, float] = defaultdict(float)
        self._done: Counter[str] = Counter()
        self._retries = 0
        interval = 0.2 if sys.stderr.isatty() else LOG_INTERVAL_S
        self._bar = tqdm(
            total=num_items,
            desc="batch",
            unit="video",
            disable=num_items == 0,
            file=sys.stderr,
            mininterval=interval,
            maxinterval=interval,
        )

    def __call__(self, event: str, task: Task, outcome: Outcome | None, tries: int) -> None:
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
        self._file.write(json.dumps(record) + "\n")
        step = task.work.step
        if event == "start":
            self._running[task.stage] += 1
        elif event != "drop":
            self._running[task.stage] -= 1
        if event == "done" and outcome is not None:
            self._done[step] += 1
            self._seconds[step] += outcome.seconds
            if step == "comparison":
                self._bar.update()
        elif event == "retry" and outcome is not None:
            self._retries += 1
            say(f"{task.name}: attempt {tries} failed: {outcome.error}")
        elif event == "quarantine" and outcome is not None:
            say(f"{task.name}: given up after {tries} attempts: {outcome.error}")
        running = [f"{stage} {count}" for stage, count in self._running.items() if count]
        self._bar.set_postfix_str(", ".join(running), refresh=False)

    def close(self) -> None:
        self._bar.close()
        self._file.close()

    def summary(self, states: Sequence[ItemState]) -> dict[str, Any]:
        """The run in numbers: videos by status; for each step how often it ran, and for how many seconds."""
        return {
            "seconds": round(time.time() - self._began, 3),
            "videos": dict(Counter(state.status for state in states)),
            "retries": self._retries,
            "steps": {
                step: {"done": count, "seconds": round(self._seconds[step], 3)}
                for step, count in self._done.items()
            },
            "quarantined": {
                state.name: {"stage": state.stage, "error": state.error, "attempts": state.attempts}
                for state in states
                if state.status == "quarantined"
            },
        }

    def lines(self, states: Sequence[ItemState]) -> Iterator[str]:
        """The summary for the user."""
        counts = Counter(state.status for state in states)
        for step, count in self._done.items():
            yield f"{step:<10} {count} times, {self._seconds[step]:.1f} s"
        yield (
            f"{counts['done']} of {len(states)} videos done, {counts['quarantined']} given up, "
            f"{counts['waiting']} waiting, {self._retries} attempts repeated; see index.html"
        )
