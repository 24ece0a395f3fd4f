"""How the tasks of many videos run: one scheduler, and executors that it hands tasks to.

The scheduler knows which tasks wait for which, tries each a few times, gives up on what keeps failing, and
bounds how many videos are under way. An executor knows workers: `InProcess` here, `OnRay` in `workers.py`.
Neither holds frames: tasks pass files on to each other.
"""

import errno
import heapq
import time
import traceback
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from ..stages.base import Stage
from ..stages.errors import ConfigError, PictureError, PoseError, VideoError, WeightsError
from ..stages.threads import limit_threads
from .progress import observed

HOPELESS = (ConfigError, PictureError, PoseError, VideoError, WeightsError)
"""Errors of the input: another attempt ends the same."""


@dataclass(frozen=True, slots=True)
class Task:
    """One call of a stage with `work` (plain data), after the tasks that it needs.

    `item` names the video it belongs to, None for what several share. Of a stage's tasks the one with the
    highest `rank` runs first.
    """

    name: str
    stage: str
    rank: int
    work: Any
    needs: tuple[str, ...] = ()
    item: str | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one attempt at a task ended. `hopeless`: not worth another; `full`: there is no space left."""

    verdict: Literal["done", "failed", "hopeless", "full"]
    seconds: float = 0.0
    error: str = ""
    trace: str = ""


class Executor(Protocol):
    """Runs tasks on the workers of their stages."""

    def free(self, stage: str, queued: int) -> bool:
        """Whether a worker of the stage can take a task now; may start workers for `queued` tasks."""
        ...

    def submit(self, task: Task) -> None:
        """Hand a task to a free worker."""
        ...

    def busy(self) -> bool:
        """Whether a task is under way."""
        ...

    def wait(self) -> list[tuple[Task, Outcome]]:
        """Attempts that ended; waits for one, or returns empty-handed when workers became free."""
        ...

    def close(self) -> None:
        """End all workers at once."""
        ...


Listener = Callable[[str, Task, Outcome | None, int], None]
"""Told (event, task, outcome, attempt): start, done, retry, quarantine, drop (what it needs failed)."""


def attempt(call: Callable[[], object]) -> Outcome:
    """Make one attempt; whatever it raises becomes a record that any process can read."""
    began = time.monotonic()
    try:
        call()
    except HOPELESS as error:
        return Outcome("hopeless", time.monotonic() - began, str(error), traceback.format_exc())
    except Exception as error:  # noqa: BLE001 (the border of a worker: nothing may get past it)
        cause = error.__cause__ if isinstance(error.__cause__, OSError) else error
        full = isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT)
        line = " ".join(f"{type(error).__name__}: {error}".split())
        return Outcome("full" if full else "failed", time.monotonic() - began, line, traceback.format_exc())
    return Outcome("done", time.monotonic() - began)


class InProcess:
    """Runs one task at a time in this process: the same results as on Ray, easy to debug."""

    def __init__(self, stages: Mapping[str, Stage[Any, Any]]) -> None:
        self._stages = stages
        self._ready: set[str] = set()
        self._next: Task | None = None

    def free(self, stage: str, queued: int) -> bool:
        return self._next is None

    def submit(self, task: Task) -> None:
        self._next = task

    def busy(self) -> bool:
        return self._next is not None

    def wait(self) -> list[tuple[Task, Outcome]]:
        task, self._next = self._next, None
        if task is None:
            return []
        stage = self._stages[task.stage]
        limit_threads(stage.resources.cpus)
        if task.stage not in self._ready:
            stage.setup()
            self._ready.add(task.stage)
        with observed(lambda stage, done, total: None):
            return [(task, attempt(lambda: stage(task.work)))]

    def close(self) -> None:
        for name in self._ready:
            self._stages[name].close()
        self._ready.clear()


class Scheduler:
    """Runs tasks, each after those it needs and at most `attempts` times.

    At most `max_live` items are begun and not finished. A task that fails for good drops all that need it.
    After an interrupt, or when the disk is full, no task is started and those that run are waited for.
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        executor: Executor,
        stages: Sequence[str],
        *,
        attempts: int,
        max_live: int,
        listen: Listener,
    ) -> None:
        self._tasks = {task.name: task for task in tasks}
        self._order = {task.name: index for index, task in enumerate(tasks)}
        self._executor = executor
        self._attempts, self._max_live, self._listen = attempts, max_live, listen
        self._missing = {task.name: set(task.needs) & self._tasks.keys() for task in tasks}
        self._followers: defaultdict[str, list[str]] = defaultdict(list)
        for name, needs in self._missing.items():
            for need in needs:
                self._followers[need].append(name)
        self._ready: dict[str, list[tuple[float, int, str]]] = {stage: [] for stage in reversed(stages)}
        self._tries: Counter[str] = Counter()
        self._live: set[str] = set()
        self._left = Counter(task.item for task in tasks if task.item is not None)
        for name, needs in self._missing.items():
            if not needs:
                self._queue(name)

    def run(self) -> None:
        """Until all tasks are done or dropped."""
        try:
            while any(self._ready.values()) or self._executor.busy():
                self._start_tasks()
                self._collect()
        except KeyboardInterrupt:
            self.drain()
            raise

    def drain(self) -> None:
        """Wait for the tasks that run."""
        while self._executor.busy():
            self._collect()

    def _start_tasks(self) -> None:
        for stage, queue in self._ready.items():
            while queue and self._may_begin(self._tasks[queue[0][-1]]):
                if not self._executor.free(stage, len(queue)):
                    break
                task = self._tasks[heapq.heappop(queue)[-1]]
                if task.item is not None:
                    self._live.add(task.item)
                self._tries[task.name] += 1
                self._executor.submit(task)
                self._listen("start", task, None, self._tries[task.name])

    def _may_begin(self, task: Task) -> bool:
        return task.item is None or task.item in self._live or len(self._live) < self._max_live

    def _collect(self) -> None:
        full = None
        for task, outcome in self._executor.wait():
            tries = self._tries[task.name]
            if outcome.verdict == "done":
                self._listen("done", task, outcome, tries)
                self._finish(task)
            elif outcome.verdict == "full":
                self._listen("retry", task, outcome, tries)
                full = outcome
            elif outcome.verdict == "failed" and tries < self._attempts:
                self._listen("retry", task, outcome, tries)
                self._queue(task.name, again=True)
            else:
                self._listen("quarantine", task, outcome, tries)
                self._drop(task, outcome, tries)
        if full is not None:
            self.drain()
            raise OSError(errno.ENOSPC, full.error)

    def _queue(self, name: str, again: bool = False) -> None:
        """What is tried again goes before its equals, so that a live item never waits behind new ones."""
        task = self._tasks[name]
        rank = task.rank + (0.5 if again else 0)
        heapq.heappush(self._ready[task.stage], (-rank, self._order[name], name))

    def _finish(self, task: Task) -> None:
        self._leave(task)
        for name in self._followers[task.name]:
            needs = self._missing.get(name)
            if needs is not None:
                needs.discard(task.name)
                if not needs:
                    self._queue(name)

    def _drop(self, failed: Task, outcome: Outcome, tries: int) -> None:
        self._leave(failed)
        dropped = list(self._followers[failed.name])
        while dropped:
            name = dropped.pop()
            if self._missing.pop(name, None) is not None:
                task = self._tasks[name]
                self._leave(task)
                self._listen("drop", task, outcome, tries)
                dropped += self._followers[name]

    def _leave(self, task: Task) -> None:
        if task.item is not None:
            self._left[task.item] -= 1
            if not self._left[task.item]:
                self._live.discard(task.item)
