"""Workers on Ray: for each stage a pool of actors, owned and replaced by the driver.

Ray restarts and retries nothing itself. A worker that dies, or makes no progress for too long and is killed,
costs the attempt it was making. One whose task failed unexpectedly is replaced: were it sick, it would fail
fast, always be the free one, and take all tasks. Where that goes on, and where a disk is full, no more is
done (`shelf.py`), as long as there is another place. A pool begins with one worker, grows with what is
queued, and gives an idle worker up when another stage waits for its cores, as after the loss of a machine.
"""

import logging
import math
import time
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ...stages.base import Stage
from ...stages.errors import ConfigError, PosedanceError
from .executor import POLL_S, Outcome, Task, held_after, in_common
from .ray_actor import end_actor, end_ray, one_line, start_actor
from .ray_worker import Pulse, Worker, stop_mark
from .shelf import SHELVED_AFTER, Place, Shelf

logger = logging.getLogger(__name__)

ROOM_S = 10.0
"""A worker that waits this long for free cores, in seconds, gets those of an idle one of another stage."""


@dataclass(frozen=True, slots=True)
class Pool:
    """A stage, and how many workers of it there may be."""

    stage: Stage[Any, Any]
    workers: int


@dataclass(slots=True)
class ActorHandle:
    """An actor as the driver sees it: `task` is None while it is set up or idle, `call` None while idle.

    `where` is the call that tells its place, which is known once it is ready; `held` is what it has open.
    """

    stage: str
    actor: Any
    pulse: Pulse
    call: Any
    where: Any
    task: Task | None = None
    began: float = 0.0
    ready: bool = False
    place: Place | None = None
    held: tuple[str, ...] = ()
    stalled: bool = False


class OnRay:
    """Runs tasks on pools of Ray actors: see `Executor`.

    `beats` is a folder, shared by all machines, where workers say that they go on; one that says nothing for
    `timeout_s` seconds is killed and replaced. A stage that cannot be set up ends everything: PosedanceError.
    A worker at a sick GPU is kept, idle, for then Ray starts no other there.
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
        self._shelf = Shelf()
        self._owns_ray = owns_ray
        for stage in pools:
            self._start(stage)

    def free(self, stage: str, queued: int) -> bool:
        if self._idle(stage):
            return True
        self._leave_shelved(stage)
        handles = [handle for handle in self._handles if handle.stage == stage]
        coming = sum(handle.task is None and handle.call is not None for handle in handles)
        for _ in range(min(queued - coming, self._pools[stage].workers - len(handles))):
            self._start(stage)
        return False

    def held(self, stage: str) -> Sequence[tuple[str, ...]]:
        return [handle.held for handle in self._idle(stage)]

    def suits(self, task: Task) -> bool:
        if any(not self._shelf.has_failed(task.name, handle.place) for handle in self._idle(task.stage)):
            return True
        return not any(self._may_come(handle, task) for handle in self._handles if handle.call is not None)

    def submit(self, task: Task) -> None:
        def fitness(handle: ActorHandle) -> tuple[bool, int]:
            return not self._shelf.has_failed(task.name, handle.place), in_common(task.opens, handle.held)

        handle = max(self._idle(task.stage), key=fitness)
        handle.task, handle.held = task, held_after(handle.held, task.opens)
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

    def stop(self) -> None:
        stop_mark(self._beats).touch()

    def close(self) -> None:
        for handle in list(self._handles):
            self._remove(handle)
        stop_mark(self._beats).unlink(missing_ok=True)
        if self._owns_ray:
            end_ray()

    def _start(self, stage: str) -> None:
        pool, number = self._pools[stage], self._started[stage]
        self._started[stage] += 1
        resources, beat = pool.stage.resources, self._beats / f"{stage}-{number}.json"
        beat.unlink(missing_ok=True)
        actor = start_actor(Worker, resources, pool.stage, beat, avoid=self._shelf.avoided(stage))
        setup, place = actor.setup.remote(), actor.place.remote()
        handle = ActorHandle(stage, actor, Pulse(beat), setup, place, began=time.monotonic())
        self._handles.append(handle)

    def _ended(self, handle: ActorHandle) -> list[tuple[Task, Outcome]]:
        """Take note that a call ended: of a task, or of a worker's setup."""
        task, call, lost = handle.task, handle.call, False
        handle.task = handle.call = None
        try:
            outcome: Outcome = self._ray.get(call)
            handle.place = handle.place or self._ray.get(handle.where)
        except self._ray.exceptions.RayError as error:
            lost, reason, verdict = True, one_line(error), "failed"
            if handle.stalled:
                reason = f"no progress for {self._timeout_s:g} s: the worker was killed"
            elif isinstance(error, self._ray.exceptions.RayActorError):
                reason, verdict = f"the worker died: {reason}", "trouble"
            outcome = Outcome(verdict, time.monotonic() - handle.began, reason)
        if task is not None:
            return [(task, self._judge(handle, task, outcome, lost))]
        if outcome.verdict == "done":
            handle.ready = True
            self._failed_setups[handle.stage] = 0
        else:
            self._setup_failed(handle, outcome)
        return []

    def _judge(self, handle: ActorHandle, task: Task, outcome: Outcome, lost: bool) -> Outcome:
        """What an attempt says of its worker and its place: either may be sick, or the disk there full."""
        stage, place, shelf = task.stage, handle.place, self._shelf
        assert place is not None, "it was ready"
        if outcome.verdict == "full":
            if not self._may_start(stage, {place.node}):
                return outcome
            if not shelf.is_shelved(stage, place):
                logger.warning(f"{place} gets no more work: {outcome.error}")
            shelf.shelve_node(place.node)
            self._remove(handle)
            return replace(outcome, verdict="trouble")
        if not lost and outcome.verdict != "failed":
            shelf.worked(stage, place, task.name)
            return outcome
        self._remove(handle)
        others = (other for other in self._handles if other.stage == stage and other.ready)
        elsewhere = any(other.place != place and not self._is_shelved(other) for other in others)
        if shelf.failed(stage, place, task.name) and elsewhere and not shelf.is_shelved(stage, place):
            shelf.shelve(stage, place)
            logger.warning(
                f"{place} gets no more work of stage {stage}: {SHELVED_AFTER} tasks failed there one after "
                f"the other, the last by {outcome.error}"
            )
        return outcome

    def _idle(self, stage: str) -> list[ActorHandle]:
        """The workers of a stage that may be given a task."""
        return [
            handle
            for handle in self._handles
            if handle.stage == stage and handle.call is None and not self._is_shelved(handle)
        ]

    def _may_come(self, handle: ActorHandle, task: Task) -> bool:
        """Whether a worker that is at work or starts may do a task at a place where it has not failed."""
        if handle.stage != task.stage or self._is_shelved(handle):
            return False
        if handle.place is None:
            return handle.pulse.beat.exists() or time.monotonic() - handle.began < ROOM_S
        return not self._shelf.has_failed(task.name, handle.place)

    def _leave_shelved(self, stage: str) -> None:
        """End workers on machines that the stage avoids. If no other place is left, those come back."""
        if not self._shelf.concerns(stage):
            return
        avoided, may_start = self._shelf.avoided(stage), self._may_start(stage)
        handles = [handle for handle in self._handles if handle.stage == stage]
        for handle in handles:
            waits = handle.task is None and handle.call is not None and not handle.pulse.beat.exists()
            idles = handle.call is None and handle.place is not None and handle.place.node in avoided
            if idles or (waits and not may_start):
                self._remove(handle)
        left = [handle for handle in self._handles if handle.stage == stage]
        full = len(left) == self._pools[stage].workers
        if all(handle.call is None for handle in left) and (full or not may_start):
            logger.warning(f"{stage}: no other place is left, so those that were given up are tried again")
            self._shelf.clear(stage)

    def _is_shelved(self, handle: ActorHandle) -> bool:
        return self._shelf.is_shelved(handle.stage, handle.place)

    def _may_start(self, stage: str, without: Collection[str] = ()) -> bool:
        """Whether there is a machine where a worker of the stage may start, apart from those `without`."""
        avoided = self._shelf.avoided(stage) | set(without)
        nodes = self._ray.nodes()
        return any(
            node["Alive"] and node["Resources"].get("CPU", 0) and node["NodeID"] not in avoided
            for node in nodes
        )

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
            and not self._shelf.avoided(handle.stage)  # else there may never be room for all
        }
        idle = (
            handle
            for handle in self._handles
            if handle.call is None and handle.stage not in waiting and not self._is_shelved(handle)
        )
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
