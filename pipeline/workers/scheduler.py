"""Which task of many videos runs next, how often it is tried, and how many videos are under way."""

import errno
import heapq
import math
import random
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence

from .executor import POLL_S, Executor, Outcome, Task, in_common

Listener = Callable[[str, Task, Outcome | None, int], None]
"""Told (event, task, outcome, attempt). Events: queue (it may start), start, done, skip (it was done before),
retry, stop (it was asked to end), quarantine, drop (what it needs failed)."""
QUARANTINED = 3
"""Exit code of a command some of whose tasks were given up."""
RETRY_S = 1.0
"""About how long the second attempt at a task waits, in seconds; each further one twice as long."""
RETRY_MOST_S = 60.0
TROUBLES_PER_ATTEMPT = 2
"""Attempts that others spoiled (`Outcome`) count apart, and so many times as many are made."""


class Queue:
    """The tasks of a stage that may start, apart by what they open."""

    def __init__(self) -> None:
        self._heaps: dict[tuple[str, ...], list[tuple[float, int, str]]] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def put(self, task: Task, rank: float, order: int) -> None:
        """Put a task in; those of the highest rank come first, and of equals those of the lowest order."""
        heapq.heappush(self._heaps.setdefault(task.opens, []), (-rank, order, task.name))
        self._count += 1

    def firsts(self) -> list[str]:
        """The first of the tasks that open the same, the first of all first."""
        return [entry[-1] for entry in sorted(heap[0] for heap in self._heaps.values())]

    def take(self, task: Task) -> None:
        """Take out a task that is one of `firsts`."""
        heap = self._heaps[task.opens]
        heapq.heappop(heap)
        if not heap:
            del self._heaps[task.opens]
        self._count -= 1


class Scheduler:
    """Runs tasks, each after those it needs and at most `attempts` times, with longer and longer waits.

    At most `max_live` items are begun and not finished. A task that fails for good drops all that need it.
    When `stopped()`, or when the disk is full, no task is started and those that run are waited for.
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
        stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        self._tasks = {task.name: task for task in tasks}
        self._order = {task.name: index for index, task in enumerate(tasks)}
        self._executor = executor
        self._attempts, self._max_live = attempts, max_live
        self._listen, self._stopped = listen, stopped
        self._missing = {task.name: set(task.needs) & self._tasks.keys() for task in tasks}
        self._followers: defaultdict[str, list[str]] = defaultdict(list)
        for name, needs in self._missing.items():
            for need in needs:
                self._followers[need].append(name)
        self._ready: dict[str, Queue] = {stage: Queue() for stage in reversed(stages)}
        self._later: list[tuple[float, str]] = []
        self._tries: Counter[str] = Counter()
        self._troubles: Counter[str] = Counter()
        self._live: set[str] = set()
        self._left = Counter(task.item for task in tasks if task.item is not None)
        for name, needs in self._missing.items():
            if not needs:
                self._queue(name)

    def run(self) -> None:
        """Until all tasks are done or dropped. Raises KeyboardInterrupt when it was stopped before."""
        while any(self._ready.values()) or self._later or self._executor.busy():
            if self._stopped():
                self._executor.stop()
                self.drain()
                raise KeyboardInterrupt
            while self._later and self._later[0][0] <= time.monotonic():
                self._queue(heapq.heappop(self._later)[1], again=True)
            self._start_tasks()
            due_s = max(0.0, self._later[0][0] - time.monotonic()) if self._later else math.inf
            self._collect(min(due_s, POLL_S))  # so that a stop is noticed while all are at work

    def drain(self) -> None:
        """Wait for the tasks that run."""
        while self._executor.busy():
            self._collect()

    def _start_tasks(self) -> None:
        for stage, queue in self._ready.items():
            while any(self._may_begin(self._tasks[name]) for name in queue.firsts()):
                if not self._executor.free(stage, len(queue)):
                    break
                task = self._choose(queue, self._executor.held(stage))
                if not self._executor.suits(task):
                    self._try_later(task.name, POLL_S)
                    continue
                if task.item is not None:
                    self._live.add(task.item)
                self._tries[task.name] += 1
                self._executor.submit(task)
                self._listen("start", task, None, self._tries[task.name])

    def _choose(self, queue: Queue, held: Sequence[tuple[str, ...]]) -> Task:
        """Take out the first task for which a free worker has most of what it opens, to open less."""
        firsts = [self._tasks[name] for name in queue.firsts()]
        task = max(
            (task for task in firsts if self._may_begin(task)),
            key=lambda task: max((in_common(task.opens, each) for each in held), default=0),
        )
        queue.take(task)
        return task

    def _may_begin(self, task: Task) -> bool:
        return task.item is None or task.item in self._live or len(self._live) < self._max_live

    def _collect(self, at_most_s: float = math.inf) -> None:
        full = None
        for task, outcome in self._executor.wait(at_most_s):
            tries = self._tries[task.name]
            if outcome.verdict == "done":
                self._listen("done" if outcome.made else "skip", task, outcome, tries)
                self._finish(task)
            elif outcome.verdict == "stopped":
                self._listen("stop", task, outcome, tries)
            elif outcome.verdict == "full":
                self._listen("retry", task, outcome, tries)
                full = outcome
            elif self._may_try_again(task, outcome):
                self._listen("retry", task, outcome, tries)
                wait_s = min(RETRY_S * 2 ** (tries - 1), RETRY_MOST_S) * random.uniform(0.5, 1.5)
                self._try_later(task.name, wait_s)
            else:
                self._listen("quarantine", task, outcome, tries)
                self._drop(task, outcome, tries)
        if full is not None:
            self.drain()
            raise OSError(errno.ENOSPC, full.error)

    def _may_try_again(self, task: Task, outcome: Outcome) -> bool:
        self._troubles[task.name] += outcome.verdict == "trouble"
        troubles = self._troubles[task.name]
        if outcome.verdict == "trouble":
            return troubles < self._attempts * TROUBLES_PER_ATTEMPT
        return outcome.verdict == "failed" and self._tries[task.name] - troubles < self._attempts

    def _try_later(self, name: str, wait_s: float) -> None:
        heapq.heappush(self._later, (time.monotonic() + wait_s, name))

    def _queue(self, name: str, again: bool = False) -> None:
        """What is tried again goes before its equals, so that a live item never waits behind new ones."""
        task = self._tasks[name]
        rank = task.rank + (0.5 if again else 0)
        self._ready[task.stage].put(task, rank, self._order[name])
        self._listen("queue", task, None, self._tries[name])

    def _finish(self, task: Task) -> None:
        self._leave(task)
        for name in self._followers.get(task.name, ()):
            needs = self._missing.get(name)
            if needs is not None:
                needs.discard(task.name)
                if not needs:
                    self._queue(name)

    def _drop(self, failed: Task, outcome: Outcome, tries: int) -> None:
        self._leave(failed)
        dropped = list(self._followers.get(failed.name, ()))
        while dropped:
            name = dropped.pop()
            if self._missing.pop(name, None) is not None:
                task = self._tasks[name]
                self._leave(task)
                self._listen("drop", task, outcome, tries)
                dropped += self._followers.get(name, ())

    def _leave(self, task: Task) -> None:
        self._tries.pop(task.name, None)
        self._troubles.pop(task.name, None)
        if task.item is not None:
            self._left[task.item] -= 1
            if not self._left[task.item]:
                self._live.discard(task.item)
