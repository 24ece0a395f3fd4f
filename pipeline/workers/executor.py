"""What runs the tasks of many videos: executors, which know workers. `OnRay` is in `ray_pool.py`.

No executor holds frames: tasks pass files on to each other.
"""

import errno
import math
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from ...stages.base import Stage
from ...stages.errors import (
    CancelledError,
    ConfigError,
    PictureError,
    PoseError,
    StoppedError,
    UnavailableError,
    VideoError,
    WeightsError,
)
from ...stages.threads import limit_threads
from ..job.masking import masked
from ..progress import observed

NOT_RETRIED = (CancelledError, ConfigError, PictureError, PoseError, VideoError, WeightsError)
"""Errors of the input: another attempt ends the same."""
FULL = {errno.ENOSPC, errno.EDQUOT}
TRANSIENT = {
    errno.EIO,
    errno.ESTALE,
    errno.ETIMEDOUT,
    errno.ECONNABORTED,
    errno.ECONNREFUSED,
    errno.ECONNRESET,
    errno.EHOSTUNREACH,
    errno.ENETDOWN,
    errno.ENETUNREACH,
}
"""What the system says while a disk or a network is away, whatever was being read or written."""
POLL_S = 1.0
"""How long nothing is looked at, in seconds, while there is nothing to do but wait."""

Verdict = Literal["done", "failed", "trouble", "final", "full", "stopped"]


@dataclass(frozen=True, slots=True)
class Task:
    """One call of a stage with `work` (plain data), after the tasks that it needs.

    `item` names the video it belongs to, None for what several share. `opens` is what a worker must have
    opened for it, the costliest first, such as a model and its LoRA weights. Of a stage's tasks those run
    first for which a free worker has most of that open, and of them the one with the highest `rank`.
    """

    name: str
    stage: str
    rank: int
    work: Any
    needs: tuple[str, ...] = ()
    item: str | None = None
    opens: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one attempt at a task ended. `made` is False where there was nothing to do.

    `failed` is for the task's own sake; `trouble` comes from what it needs of others: a disk, a store, a
    process that lives. `final`: another attempt ends the same; `full`: there is no space left; `stopped`: it
    was asked to end.
    """

    verdict: Verdict
    seconds: float = 0.0
    error: str = ""
    trace: str = ""
    made: bool = True


def failure(outcome: Outcome, stage: str, attempts: int) -> dict[str, Any]:
    """What is kept of a task that is given up, as plain data: where it failed, with what, after how many."""
    return {"stage": stage, "error": outcome.error, "attempts": attempts, "trace": outcome.trace}


class Executor(Protocol):
    """Runs tasks on the workers of their stages."""

    def free(self, stage: str, queued: int) -> bool:
        """Whether a worker of the stage can take a task now; may start workers for `queued` tasks."""
        ...

    def held(self, stage: str) -> Sequence[tuple[str, ...]]:
        """What each free worker of the stage has open."""
        ...

    def suits(self, task: Task) -> bool:
        """Whether a free worker is to take the task: not where it failed, while another place may come."""
        ...

    def submit(self, task: Task) -> None:
        """Hand a task to a free worker, one that has most of what it opens."""
        ...

    def busy(self) -> bool:
        """Whether a task is under way."""
        ...

    def wait(self, at_most_s: float = math.inf) -> list[tuple[Task, Outcome]]:
        """Attempts that ended; waits for one, or returns empty-handed when workers became free or it is time.

        With nothing under way and a limit it waits for no more than POLL_S.
        """
        ...

    def workers(self) -> Mapping[str, int]:
        """How many workers each stage has now."""
        ...

    def stop(self) -> None:
        """Ask the running tasks to end where they can go on later."""
        ...

    def close(self) -> None:
        """End all workers at once."""
        ...


def in_common(opens: tuple[str, ...], held: tuple[str, ...]) -> int:
    """How much of what a task opens a worker has open."""
    pairs = enumerate(zip(opens, held, strict=False), 1)
    return next((count - 1 for count, (asked, there) in pairs if asked != there), min(len(opens), len(held)))


def held_after(held: tuple[str, ...], opens: tuple[str, ...]) -> tuple[str, ...]:
    """What a worker has open after a task: what it had stays open where it is enough."""
    return held if in_common(opens, held) == len(opens) else opens


def attempt(call: Callable[[], object]) -> Outcome:
    """Make one attempt; whatever it raises becomes a record that any process can read.

    `call` returns False where there was nothing to do.
    """
    began = time.monotonic()
    try:
        made = call() is not False
    except Exception as error:  # noqa: BLE001 (the border of a worker: nothing may get past it)
        known = isinstance(error, NOT_RETRIED)
        line = str(error) if known else " ".join(f"{type(error).__name__}: {error}".split())
        trace = masked(traceback.format_exc())
        return Outcome(verdict_of(error), time.monotonic() - began, masked(line), trace)
    return Outcome("done", time.monotonic() - began, made=made)


def verdict_of(error: Exception) -> Verdict:
    """What an error says of another attempt: by its kind, and by what the system said underneath."""
    codes, cause = set(), error
    while cause is not None:
        codes |= {cause.errno} if isinstance(cause, OSError) else set()
        cause = cause.__cause__
    if codes & FULL:
        return "full"
    if codes & TRANSIENT or isinstance(error, UnavailableError):
        return "trouble"
    if isinstance(error, StoppedError):
        return "stopped"
    return "final" if isinstance(error, NOT_RETRIED) else "failed"


class InProcess:
    """Runs one task at a time in this process: the same results as on Ray, easy to debug."""

    def __init__(self, stages: Mapping[str, Stage[Any, Any]]) -> None:
        self._stages = stages
        self._ready: set[str] = set()
        self._held: dict[str, tuple[str, ...]] = {}
        self._next: Task | None = None

    def free(self, stage: str, queued: int) -> bool:
        return self._next is None

    def held(self, stage: str) -> Sequence[tuple[str, ...]]:
        return [self._held.get(stage, ())]

    def suits(self, task: Task) -> bool:
        return True

    def submit(self, task: Task) -> None:
        self._next = task
        self._held[task.stage] = held_after(self._held.get(task.stage, ()), task.opens)

    def busy(self) -> bool:
        return self._next is not None

    def wait(self, at_most_s: float = math.inf) -> list[tuple[Task, Outcome]]:
        task, self._next = self._next, None
        if task is None:
            if at_most_s < math.inf:
                time.sleep(min(at_most_s, POLL_S))
            return []
        stage = self._stages[task.stage]
        limit_threads(stage.resources.cpus)
        if task.stage not in self._ready:
            stage.setup()
            self._ready.add(task.stage)
        with observed(lambda stage, done, total: None):
            return [(task, attempt(lambda: stage(task.work)))]

    def workers(self) -> Mapping[str, int]:
        return dict.fromkeys(self._ready, 1)

    def stop(self) -> None:
        """What runs is in this process, and has seen the signal itself."""

    def close(self) -> None:
        for name in self._ready:
            self._stages[name].close()
        self._ready.clear()
