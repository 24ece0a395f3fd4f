"""What runs inside an actor of a batch, and the file by which it says that it goes on."""

import json
import os
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ...stages.allocator import keep_freed_memory
from ...stages.base import Stage
from ...stages.errors import StoppedError
from ...stages.threads import limit_threads
from ..interrupts import ending_when
from ..progress import observed
from .executor import Outcome, attempt
from .shelf import Place

BEAT_S = 1.0
"""A worker that goes on says so at most this often, in seconds."""


def stop_mark(beats: Path) -> Path:
    """The file by which a driver asks its workers, whose beats are in this folder, to end what they do."""
    return beats / "stop"


class Worker:
    """What runs inside an actor: one stage, set up once. `beat` is the file that says it is alive."""

    def __init__(self, stage: Stage[Any, Any], beat: Path) -> None:
        self._stage = stage
        self._beat = beat
        self._task = ""
        self._last = 0.0

    def setup(self) -> Outcome:
        keep_freed_memory()
        limit_threads(self._stage.resources.cpus)
        return attempt(partial(self._do, "setup", self._stage.setup))

    def place(self) -> Place:
        """Where the actor runs."""
        import ray

        context = ray.get_runtime_context()
        gpus = context.get_accelerator_ids().get("GPU", [])
        return Place(context.get_node_id(), socket.gethostname(), tuple(gpus))

    def run(self, task: str, work: Any) -> Outcome:
        self._task, self._last = task, 0.0
        stopped = ending_when(stop_mark(self._beat.parent).exists, StoppedError("stopped at a checkpoint"))
        with observed(self._tell), stopped:
            outcome = attempt(partial(self._do, "start", partial(self._stage, work)))
        self._task, self._last = "", 0.0
        with suppress(OSError):  # of a full disk the outcome tells
            self._tell("idle", 0, None)
        return outcome

    def _do(self, what: str, call: Callable[[], Any]) -> Any:
        self._tell(what, 0, None)
        return call()

    def _tell(self, what: str, done: int, total: int | None) -> None:
        now = time.time()
        if now - self._last < BEAT_S:
            return
        self._last = now
        state = {
            "task": self._task,
            "what": what,
            "done": done,
            "total": total,
            "pid": os.getpid(),
            "time": now,
        }
        temporary = self._beat.with_suffix(".new")
        temporary.write_text(json.dumps(state))
        os.replace(temporary, self._beat)


@dataclass(slots=True)
class Pulse:
    """The beats of a worker, by this machine's clock: that of the worker's may be hours off."""

    beat: Path
    told: int = 0
    heard: float = 0.0

    def silent_s(self, now: float) -> float:
        """Seconds since the file was seen to change; 0 while there is none: the worker waits for room."""
        try:
            told = self.beat.stat().st_mtime_ns
        except FileNotFoundError:
            return 0.0
        if told != self.told:
            self.told, self.heard = told, now
        return now - self.heard
