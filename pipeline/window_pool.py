"""Windows of videos on a pool of workers: who predicts what, at every step of every video.

The first video has precedence. Where it leaves a worker without work, at the end of a step or because it has
fewer windows than there are workers, windows of the next video fill the hole. A worker that dies costs the
windows that it had. How workers are reached is not known here: see `Workers`.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from ..stages.errors import PosedanceError

if TYPE_CHECKING:
    from torch import Tensor

    from ..stages.svd.sampling import Denoising

MAX_LOSSES = 5
"""Workers that may die one after the other, without one prediction in between, before the run is given up."""
CALLS_AHEAD = 2
"""Calls that a worker has at once: it does not wait for the driver to send the next window."""


class LostWorker(Exception):  # noqa: N818 (what happened, not a fault of ours)
    """A worker died with the calls that it had."""


@dataclass(frozen=True, slots=True)
class Part:
    """What one call predicts: a window, or one half of its guidance."""

    window: int
    half: bool | None = None
    """None for the guided prediction; True for the conditional half alone, False for the unconditional."""


def parts_of(windows: int, workers: int, guided: bool) -> list[Part]:
    """The parts of one step. Of the windows that the last round is left with, each is cut in two halves where
    that keeps more workers busy: `ceil(2 windows / workers)` half rounds, with the fewest calls.
    """
    rest = windows % workers
    cut = rest if guided and 2 * rest <= workers else 0
    halves = [Part(index, half) for index in range(windows - cut, windows) for half in (True, False)]
    return [Part(index) for index in range(windows - cut)] + halves


@dataclass(slots=True)
class Video:
    """One video in a pool.

    `inputs` is what a worker opens it from. `guidance_at` tells the guidance scale [F] of (step, window's
    length) or None. `on_window` receives (step, window) after each prediction, `on_step` (steps done,
    latents) after each step; copy what you keep.
    """

    inputs: Any
    denoising: "Denoising"
    guidance_at: "Callable[[int, int], Tensor | None]"
    on_window: Callable[[int, int], None] | None = None
    on_step: "Callable[[int, Tensor], None] | None" = None
    pending: list[Part] = field(default_factory=list)
    halves: "dict[int, dict[bool, Tensor]]" = field(default_factory=dict)

    def begin_step(self, workers: int) -> None:
        """Everything of the next step is to be handed out."""
        windows = self.denoising.windows
        guided = self.guidance_at(self.denoising.step, len(windows[0])) is not None
        self.pending = parts_of(len(windows), workers, guided)

    def take(self, part: Part, v: "Tensor") -> bool:
        """Take a prediction; returns whether it ends the step."""
        from ..stages.svd.denoiser import guide

        step = self.denoising.step
        if part.half is not None:
            halves = self.halves.setdefault(part.window, {})
            halves[part.half] = v
            if len(halves) < 2:
                return False
            del self.halves[part.window]
            scale = self.guidance_at(step, len(v))
            assert scale is not None
            v = guide(halves[False], halves[True], scale)
        ended = self.denoising.take(part.window, v)
        if self.on_window is not None:
            self.on_window(step, part.window)
        return ended


class Workers(Protocol):
    """How a pool reaches its workers: on Ray in `spread.py`."""

    def start(self) -> tuple[Any, Any]:
        """A new worker, and the call that sets it up."""
        ...

    def predict(self, worker: Any, video: Video, part: Part) -> Any:
        """Send a worker a part of the video's step; returns the call."""
        ...

    def forget(self, worker: Any, video: Video) -> None:
        """Tell a worker that a video is done."""
        ...

    def wait(self, calls: list[Any]) -> Any:
        """Wait for one of the calls to end, and return it."""
        ...

    def result(self, call: Any) -> "Tensor | None":
        """What a call brought: v [F, 4, h, w], or None of a setup. LostWorker where its worker died."""
        ...

    def stop(self, worker: Any) -> None:
        """End a worker at once."""
        ...


@dataclass(slots=True)
class Seat:
    """A worker's place: the worker, and its calls with what each is to bring (None for its setup)."""

    number: int
    worker: Any
    calls: dict[Any, tuple[Video, Part] | None]


class WindowPool:
    """At most `size` workers, and who does what."""

    def __init__(self, workers: Workers, size: int) -> None:
        self.seats: list[Seat] = []
        self._workers, self._size = workers, size
        self._live: list[Video] = []
        self._losses = 0

    def run(self, videos: Iterable[Video]) -> None:
        """Until all videos are denoised. One more is begun whenever a worker has nothing to do."""
        waiting = iter(videos)
        more = True
        while more or self._live:
            while more and self._wants_more():
                video = next(waiting, None)
                more = video is not None
                if video is not None:
                    self._begin(video)
            self._hand_out()
            if self._live:
                self._collect()

    def close(self) -> None:
        """End all workers at once."""
        for seat in self.seats:
            self._workers.stop(seat.worker)
        self.seats.clear()

    def _wants_more(self) -> bool:
        """Whether a worker would be without work, or could be started."""
        idle = sum(not seat.calls for seat in self.seats) + self._size - len(self.seats)
        return idle > sum(len(video.pending) for video in self._live)

    def _begin(self, video: Video) -> None:
        self._live.append(video)
        video.begin_step(self._size)
        wanted = sum(len(video.pending) for video in self._live)
        for number in range(len(self.seats), min(self._size, wanted)):
            self._fill(number)

    def _fill(self, number: int) -> None:
        worker, setup = self._workers.start()
        self.seats.append(Seat(number, worker, {setup: None}))

    def _hand_out(self) -> None:
        """A part to each worker, then one ahead; not in the last round: who is free first makes that."""
        for depth in range(CALLS_AHEAD):
            for seat in self.seats:
                if len(seat.calls) != depth or None in seat.calls.values():
                    continue
                left = sum(len(video.pending) for video in self._live)
                if left > (len(self.seats) if depth else 0):
                    self._send(seat, next(video for video in self._live if video.pending))

    def _send(self, seat: Seat, video: Video) -> None:
        """The first part that is the seat's own, whose control features it keeps, or else the first."""
        part = min(video.pending, key=lambda part: part.window % self._size != seat.number)
        call = self._workers.predict(seat.worker, video, part)
        video.pending.remove(part)
        seat.calls[call] = (video, part)

    def _collect(self) -> None:
        """Wait for one call and take what it brings; the parts of a worker that died are pending again."""
        calls = {call: seat for seat in self.seats for call in seat.calls}
        call = self._workers.wait(list(calls))
        seat = calls[call]
        try:
            v = self._workers.result(call)
        except LostWorker as error:
            self._lose(seat, error)
            return
        work = seat.calls.pop(call)
        if work is None or v is None:
            return
        self._losses = 0
        video, part = work
        if video.take(part, v):
            self._end_step(video)

    def _end_step(self, video: Video) -> None:
        """Send the next step's windows first: `on_step` may take its time."""
        denoising = video.denoising
        if denoising.done:
            self._live.remove(video)
            for seat in self.seats:
                self._workers.forget(seat.worker, video)
        else:
            video.begin_step(self._size)
            self._hand_out()
        if video.on_step is not None:
            video.on_step(denoising.step, denoising.latents)

    def _lose(self, seat: Seat, error: LostWorker) -> None:
        """Replace a worker that died."""
        self._losses += 1
        if self._losses > MAX_LOSSES:
            raise PosedanceError(f"{self._losses} workers died one after the other: {error}") from error
        for work in seat.calls.values():
            if work is not None:
                video, part = work
                video.pending.insert(0, part)
        self._workers.stop(seat.worker)
        self.seats.remove(seat)
        self._fill(seat.number)
