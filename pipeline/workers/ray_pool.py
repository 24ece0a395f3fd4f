"""Workers on Ray: for each stage a pool of actors, owned and replaced by the driver.

Ray restarts and retries nothing itself. A worker that dies, or makes no progress for too long and is killed,
costs the attempt it was making. One whose task failed unexpectedly is replaced: were it sick, it would fail
fast, always be the free one, and take all tasks. A pool begins with one worker, grows with what is queued,
and gives an idle worker up when another stage waits for its cores, as after the loss of a machine.
"""

import json
import math
import os
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ...stages.allocator import keep_freed_memory
from ...stages.base import Stage
from ...stages.errors import ConfigError, PosedanceError
from ...stages.threads import limit_threads
from ..progress import observed
from .executor import POLL_S, Outcome, Task, attempt
from .ray_actor import end_actor, one_line, start_actor

BEAT_S = 1.0
"""A worker that goes on says so at most this often, in seconds."""
ROOM_S = 10.0
"""A worker that waits this long for free cores, in seconds, gets those of an idle one of another stage."""


@dataclass(frozen=True, slots=True)
class Pool:
    """A stage, and how many workers of it there may be."""

    stage: Stage[Any, Any]
    workers: int


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

    def run(self, task: str, work: Any) -> Outcome:
        self._task, self._last = task, 0.0
        with observed(self._tell):
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


@dataclass(slots=True)
class ActorHandle:
    """An actor as the driver sees it: `task` is None while it is set up or idle, `call` None while idle."""

    stage: str
    actor: Any
    pulse: Pulse
    call: Any
    task: Task | None = None
    began: float = 0.0
    ready: bool = False
    stalled: bool = False


class OnRay:
    """Runs tasks on pools of Ray actors: see `Executor`.

    `beats` is a folder, shared by all machines, where workers say that they go on; one that says nothing for
    `timeout_s` seconds is killed and replaced. A stage that cannot be set up ends everything: PosedanceError.
    Needs `start_ray`; `owns_ray`: closing disconnects.
    """

    def __init__(
        self,
        pools: Mapping[str, Pool],
        beats: Path,
        *,
        timeout_s: float,
        attempts: int,
        owns_ray: bool,
    ) -> None:
        import ray.exceptions

        self._ray: Any = ray
        self._pools, self._beats = pools, beats
        self._timeout_s, self._attempts = timeout_s, attempts
        self._handles: list[ActorHandle] = []
        self._started: Counter[str] = Counter()
        self._failed_setups: Counter[str] = Counter()
        self._owns_ray = owns_ray
        for stage in pools:
            self._start(stage)

    def free(self, stage: str, queued: int) -> bool:
        handles = [handle for handle in self._handles if handle.stage == stage]
        if any(handle.call is None for handle in handles):
            return True
        coming = sum(handle.task is None for handle in handles)
        for _ in range(min(queued - coming, self._pools[stage].workers - len(handles))):
            self._start(stage)
        return False

    def submit(self, task: Task) -> None:
        handle = next(
            handle for handle in self._handles if handle.stage == task.stage and handle.call is None
        )
        handle.task = task
        handle.began = handle.pulse.heard = time.monotonic()
        handle.call = handle.actor.run.remote(task.name, task.work)

    def busy(self) -> bool:
        return any(handle.task is not None for handle in self._handles)

    def wait(self, at_most_s: float = math.inf) -> list[tuple[Task, Outcome]]:
        until = time.monotonic() + at_most_s
        while calls := {handle.call: handle for handle in self._handles if handle.call is not None}:
            left_s = max(0.0, min(POLL_S, until - time.monotonic()))
            ready, _ = self._ray.wait(list(calls), num_returns=1, timeout=left_s)
            if ready:
                return [ended for call in ready for ended in self._ended(calls[call])]
            self._check_node()
            self._kill_stalled()
            self._make_room()
            if time.monotonic() >= until:
                return []
        if at_most_s < math.inf:
            time.sleep(min(at_most_s, POLL_S))
        return []

    def workers(self) -> Mapping[str, int]:
        return Counter(handle.stage for handle in self._handles)

    def close(self) -> None:
        for handle in list(self._handles):
            self._remove(handle)
        if self._owns_ray:
            self._ray.shutdown()

    def _start(self, stage: str) -> None:
        pool, number = self._pools[stage], self._started[stage]
        self._started[stage] += 1
        resources, beat = pool.stage.resources, self._beats / f"{stage}-{number}.json"
        beat.unlink(missing_ok=True)
        actor = start_actor(Worker, resources, pool.stage, beat)
        handle = ActorHandle(stage, actor, Pulse(beat), actor.setup.remote(), began=time.monotonic())
        self._handles.append(handle)

    def _ended(self, handle: ActorHandle) -> list[tuple[Task, Outcome]]:
        """Take note that a call ended: of a task, or of a worker's setup."""
        task, call, lost = handle.task, handle.call, False
        handle.task = handle.call = None
        try:
            outcome: Outcome = self._ray.get(call)
        except self._ray.exceptions.RayError as error:
            lost, reason, verdict = True, one_line(error), "failed"
            if handle.stalled:
                reason = f"no progress for {self._timeout_s:g} s: the worker was killed"
            elif isinstance(error, self._ray.exceptions.RayActorError):
                reason, verdict = f"the worker died: {reason}", "trouble"
            outcome = Outcome(verdict, time.monotonic() - handle.began, reason)
        if task is not None:
            if lost or outcome.verdict == "failed":
                self._remove(handle)
            return [(task, outcome)]
        if outcome.verdict == "done":
            handle.ready = True
            self._failed_setups[handle.stage] = 0
        else:
            self._setup_failed(handle, outcome)
        return []

    def _setup_failed(self, handle: ActorHandle, outcome: Outcome) -> None:
        """Another is started, unless so many setups in a row failed and no worker of the stage lives."""
        self._remove(handle)
        self._failed_setups[handle.stage] += 1
        if outcome.verdict == "final":
            raise ConfigError(outcome.error)
        lives = any(other.ready for other in self._handles if other.stage == handle.stage)
        if self._failed_setups[handle.stage] >= self._attempts and not lives:
            raise PosedanceError(
                f"workers of stage {handle.stage} cannot be started ({outcome.error}): see the logs of Ray"
            )

    def _remove(self, handle: ActorHandle) -> None:
        end_actor(handle.actor)
        handle.pulse.beat.unlink(missing_ok=True)
        self._handles = [other for other in self._handles if other is not handle]

    def _check_node(self) -> None:
        """PosedanceError when the driver's own node is lost: Ray then starts no worker for it any more."""
        own = self._ray.get_runtime_context().get_node_id()
        if not any(node["NodeID"] == own and node["Alive"] for node in self._ray.nodes()):
            raise PosedanceError(
                f"Ray's node {own[:12]} here died: start it, then run the same command again to go on"
            )

    def _make_room(self) -> None:
        """End an idle worker when one of another stage has not come to life for long."""
        late = time.monotonic() - ROOM_S
        waiting = {
            handle.stage
            for handle in self._handles
            if handle.call is not None
            and handle.task is None
            and handle.began < late
            and not handle.pulse.beat.exists()
        }
        idle = (handle for handle in self._handles if handle.call is None and handle.stage not in waiting)
        if waiting and (handle := next(idle, None)):
            self._remove(handle)

    def _kill_stalled(self) -> None:
        """Kill workers that said nothing for too long. One that has not come to life yet waits for room."""
        now = time.monotonic()
        for handle in self._handles:
            if handle.call is None or handle.stalled:
                continue
            if handle.pulse.silent_s(now) > self._timeout_s:
                handle.stalled = True
                end_actor(handle.actor)
