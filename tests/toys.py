"""A stage whose every fault is named by its item, for tests of executors."""

import errno
import os
import time
from collections import Counter
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from posedance.pipeline.interrupts import end_here
from posedance.pipeline.workers.executor import Executor, Outcome, Task
from posedance.pipeline.workers.scheduler import Scheduler
from posedance.stages.errors import PictureError
from posedance.stages.types import Resources


@dataclass
class Toy:
    """Does what its item, a word, says, and leaves a line in `folder` for each attempt and each result."""

    folder: Path
    resources: Resources = Resources(0.5)  # noqa: RUF009 (frozen)

    def setup(self) -> None:
        pass

    def __call__(self, item: str) -> None:
        fault = item.partition("-")[0]
        tries = self.folder / f"tries-{item}"
        first = not tries.exists()
        with tries.open("a") as file:
            file.write("x")
        if fault == "raise":
            raise KeyError("a", 1, "two")
        if fault == "away" and (self.folder / f"tries-{item}").stat().st_size < 4:
            raise OSError(errno.ESTALE, "Stale file handle")
        if fault == "picture":
            raise PictureError("not a picture")
        if fault == "abort" or (fault == "abortonce" and first):
            os.abort()
        while fault == "long":
            time.sleep(0.01)
            end_here()
        if fault == "hangonce" and first:
            time.sleep(600)
        with (self.folder / "results").open("a") as file:
            file.write(f"{item}\n")

    def close(self) -> None:
        pass


def run(executor: Executor, items: list[str], attempts: int = 2, **more: Any) -> Counter[tuple[str, str]]:
    """Counts of (event, item) after a run over `items`."""
    seen: Counter[tuple[str, str]] = Counter()

    def listen(event: str, task: Task, outcome: Outcome | None, tries: int) -> None:
        seen[event, task.name] += 1

    tasks = [Task(item, "toy", 0, item, item=item) for item in items]
    with closing(executor):
        Scheduler(tasks, executor, ["toy"], attempts=attempts, max_live=2, listen=listen, **more).run()
    return seen


def results(folder: Path) -> list[str]:
    return sorted((folder / "results").read_text().split())
