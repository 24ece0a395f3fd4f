"""The windows of one video on a pool of workers: who predicts what, at every step.

Earlier steps have precedence, but windows whose frames are ready for the next step do not wait for the
others. A worker that dies, or that hangs and is ended, costs the windows that it had. How workers are reached
is not known here: see `Workers`.
"""

import time
from bisect import insort
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from ...stages.errors import PosedanceError
from ...stages.generate import OnStep, OnWindow

if TYPE_CHECKING:
    from torch import Tensor

    from ...stages.svd.denoising import Denoising

MAX_LOSSES = 5
"""Workers that may die one after the other, without one prediction in between, before the run is given up."""
LONGEST_CALL_S = 1800.0
"""Seconds that any call may take, as `batch --timeout` has it by default,"""
TIMES_THE_LONGEST = 10
"""and so many times as long as the longest one until then: what takes longer hangs. Assumed, not measured."""
CALLS_AHEAD = 2
"""Calls that a worker has at once: it does not wait for the driver to send the next window."""


class LostWorker(Exception):  # noqa: N818 (what happened, not a fault of ours)
    """A worker died with the calls that it had."""


@dataclass(frozen=True, slots=True, order=True)
class Part:
    """What one call predicts: a window at a step, or half of its guidance; sorted as they are handed out."""

    step: int
    window: int
    half: bool | None = None
    """None for the guided prediction; True for the conditional half alone, False for the unconditional."""


def parts_of(step: int, window: int, windows: int, workers: int) -> list[Part]:
    """The parts of a guided window, of `windows` in a step.

    Halves, where whole windows would not be two for each worker; and those that the last round of a step is
    left with, where that keeps more workers busy: `ceil(2 windows / workers)` half rounds, if a step has to
    wait for the end of the one before.
    """
    rest = windows % workers
    cut = windows if windows < 2 * workers else rest if 2 * rest <= workers else 0
    halves = (True, False) if workers > 1 and window >= windows - cut else (None,)
    return [Part(step, window, half) for half in halves]


@dataclass(slots=True)
class WindowQueue:
    """The windows of a video: which can be handed out, and what has come back of them.

    `guidance_at` tells the guidance scale [F] of (step, window's length) or None. `on_window` receives (step,
    window) after each prediction, `on_step` (steps done, latents) after each step; copy what you keep.
    """

    denoising: "Denoising"
    guidance_at: "Callable[[int, int], Tensor | None]"
    on_window: OnWindow | None = None
    on_step: OnStep | None = None
    ready: list[Part] = field(default_factory=list)
    """What can be handed out, earlier steps first."""
    halves: "dict[tuple[int, int], dict[bool, Tensor]]" = field(default_factory=dict)

    def begin(self, workers: int) -> None:
        """All windows are ready for the first step."""
        windows = range(len(self.denoising.windows))
        self.add([(self.denoising.step, index) for index in windows], workers)

    def add(self, windows: Iterable[tuple[int, int]], workers: int) -> None:
        """Windows (step, index) are ready to be handed out."""
        all_windows = self.denoising.windows
        for step, index in windows:
            if self.guidance_at(step, len(all_windows[index])) is None:
                insort(self.ready, Part(step, index))
            else:
                for part in parts_of(step, index, len(all_windows), workers):
                    insort(self.ready, part)

    def take(self, part: Part, v: "Tensor") -> list[tuple[int, int]]:
        """Take a prediction; returns the windows (step, index) that are ready because of it."""
        from ...stages.svd.guidance import guide

        if part.half is not None:
            halves = self.halves.setdefault((part.step, part.window), {})
            halves[part.half] = v
            if len(halves) < 2:
                return []
            del self.halves[part.step, part.window]
            scale = self.guidance_at(part.step, len(v))
            assert scale is not None
            v = guide(halves[False], halves[True], scale)
        ready = self.denoising.take(part.step, part.window, v)
        if self.on_window is not None:
            self.on_window(part.step, part.window)
        return ready


class Workers(Protocol):
    """How a pool reaches its workers, which know the video: on Ray in `spread.py`."""

    def start(self) -> tuple[Any, Any]:
        """A new worker, and the call that sets it up."""
        ...

    def predict(self, worker: Any, part: Part, latents: "Tensor") -> Any:
        """Send a worker a part of the video, and the latents [F, 4, h, w] of its window; returns the call."""
        ...

    def wait(self, calls: list[Any], at_most_s: float) -> Any | None:
        """Wait for one of the calls to end, and return it; None where it takes longer."""
        ...

    def result(self, call: Any) -> "Tensor | None":
        """What a call brought: v [F, 4, h, w], or None of a setup. LostWorker where its worker died."""
        ...

    def stop(self, worker: Any) -> None:
        """End a worker at once."""
        ...


@dataclass(slots=True)
class WorkerSlot:
    """A worker's place: the worker, and its calls with what each is to bring (None for its setup)."""

    number: int
    worker: Any
    calls: dict[Any, Part | None]
    began: float
    """When it began its oldest call, in seconds."""
    since: int = 0
    """The same in calls that the pool has sent or received."""


class WindowPool:
    """At most `size` workers, and who of them does what of the windows in `queue`."""

    def __init__(
        self, workers: Workers, size: int, queue: WindowQueue, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.slots: list[WorkerSlot] = []
        self._clock = clock
        self._workers, self._size, self._queue = workers, size, queue
        self._losses = self._count = 0
        self._longest = 0.0

    def run(self) -> None:
        """Until the video is denoised."""
        queue = self._queue
        queue.begin(self._size)
        for number in range(min(self._size, len(queue.ready))):
            self._fill(number)
        while not queue.denoising.done:
            self._hand_out()
            self._collect()

    def close(self) -> None:
        """End all workers at once."""
        for slot in self.slots:
            self._workers.stop(slot.worker)
        self.slots.clear()

    def _fill(self, number: int) -> None:
        worker, setup = self._workers.start()
        self.slots.append(WorkerSlot(number, worker, {setup: None}, self._clock()))

    def _hand_out(self) -> None:
        """A part to each worker, then one ahead, first to those who have worked longest on what they have."""
        for depth in range(CALLS_AHEAD):
            slots = [
                slot for slot in self.slots if len(slot.calls) == depth and None not in slot.calls.values()
            ]
            for slot in sorted(slots, key=lambda slot: slot.since):
                if not self._queue.ready:
                    return
                self._send(slot)

    def _send(self, slot: WorkerSlot) -> None:
        """Send a part of the earliest step: of the slot's own windows, whose features it keeps, or any."""
        ready, denoising = self._queue.ready, self._queue.denoising
        parts = [part for part in ready if part.step == ready[0].step]
        part = min(parts, key=lambda part: part.window % self._size != slot.number)
        latents = denoising.window_latents(part.step, part.window)
        call = self._workers.predict(slot.worker, part, latents)
        ready.remove(part)
        if not slot.calls:
            self._count += 1
            slot.since, slot.began = self._count, self._clock()
        slot.calls[call] = part

    def _collect(self) -> None:
        """Wait for one call and take what it brings; the parts of a worker that died are ready again."""
        calls = {call: slot for slot in self.slots for call in slot.calls}
        patience_s = max(LONGEST_CALL_S, TIMES_THE_LONGEST * self._longest)
        slowest = min((slot for slot in self.slots if slot.calls), key=lambda slot: slot.began)
        call = self._workers.wait(list(calls), max(0.0, slowest.began + patience_s - self._clock()))
        if call is None:
            self._lose(slowest, LostWorker(f"no progress for {patience_s:.0f} s: the worker was ended"))
            return
        slot = calls[call]
        try:
            v = self._workers.result(call)
        except LostWorker as error:
            self._lose(slot, error)
            return
        part = slot.calls.pop(call)
        self._count += 1
        began, slot.since, slot.began = slot.began, self._count, self._clock()
        if part is None or v is None:
            return
        self._losses, self._longest = 0, max(self._longest, slot.began - began)
        queue = self._queue
        step = queue.denoising.step
        queue.add(queue.take(part, v), self._size)
        if queue.denoising.step > step:
            self._hand_out()  # first the windows that are ready: `on_step` may take its time
            if queue.on_step is not None:
                queue.on_step(queue.denoising.step, queue.denoising.step_latents())

    def _lose(self, slot: WorkerSlot, error: LostWorker) -> None:
        """Replace a worker that died."""
        self._losses += 1
        if self._losses > MAX_LOSSES:
            raise PosedanceError(
                f"{self._losses} workers died one after the other: {error}: see the logs of Ray, then "
                "run the same command again to go on"
            ) from error
        for part in slot.calls.values():
            if part is not None:
                insort(self._queue.ready, part)
        self._workers.stop(slot.worker)
        self.slots.remove(slot)
        self._fill(slot.number)
