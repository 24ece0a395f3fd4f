"""The pool's order of work, on workers of a clock that only ticks when something ends."""

import math
from collections import Counter
from itertools import count
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from posedance.pipeline.workers.window_pool import (
    MAX_LOSSES,
    TIMES_THE_LONGEST,
    LostWorker,
    Part,
    WindowPool,
    WindowQueue,
    parts_of,
)
from posedance.stages.errors import PosedanceError
from posedance.stages.svd.denoising import Denoising, denoise
from posedance.stages.svd.guidance import guide
from posedance.stages.windows import even

SIGMAS = torch.tensor([5.0, 1.0, 0.0])


class ClockWorkers:
    """A whole window takes 2 ticks, half of one 1 tick. Calls named in `deadly` kill their worker, those in
    `hanging` keep it for ever."""

    def __init__(self, deadly: set[int] | None = None, hanging: set[int] | None = None) -> None:
        self.now, self.calls, self.deadly, self.hanging = 0.0, count(), deadly or set(), hanging or set()
        self.ends: dict[int, float] = {}
        self.made: dict[int, Any] = {}
        self.free: dict[int, float] = {}
        self.asked: Counter[Any] = Counter()
        self.started = 0

    def start(self) -> tuple[int, int]:
        worker, call = self.started, next(self.calls)
        self.started += 1
        self.free[worker] = self.ends[call] = self.now
        self.made[call] = None
        return worker, call

    def predict(self, worker: int, part: Part, latents: torch.Tensor) -> int:
        call = next(self.calls)
        self.asked[part] += 1
        takes = math.inf if call in self.hanging else 2 if part.half is None else 1
        self.free[worker] = max(self.now, self.free[worker]) + takes
        self.ends[call] = self.free[worker]
        self.made[call] = predicted(part, latents)
        return call

    def wait(self, calls: list[int], at_most_s: float) -> int | None:
        call = min(calls, key=lambda call: (self.ends[call], call))
        if self.ends[call] > self.now + at_most_s:
            self.now += at_most_s
            return None
        self.now = max(self.now, self.ends[call])
        return call

    def result(self, call: int) -> Any:
        if call in self.deadly:
            raise LostWorker("killed")
        return self.made.pop(call)

    def stop(self, worker: int) -> None:
        del self.free[worker]


SCALE = torch.full((5,), 3.0)


def predicted(part: Part, latents: torch.Tensor) -> torch.Tensor:
    """What a model would make of it: a guided prediction or half of one."""
    uncond, cond = latents.sin() * (1 + part.step), (latents + 1).cos() + part.window
    return guide(uncond, cond, SCALE) if part.half is None else cond if part.half else uncond


def queue_of(frames: int, told: list[Any] | None = None) -> WindowQueue:
    start = torch.randn(frames, 4, 2, 2, generator=torch.Generator().manual_seed(frames))
    denoising = Denoising(start, SIGMAS, even(frames, 5, 1))
    told = [] if told is None else told
    return WindowQueue(
        denoising, lambda step, slots: SCALE,
        lambda step, window: told.append((step, window)),
        lambda step, latents: told.append(step),
    )  # fmt: skip


def alone(frames: int) -> torch.Tensor:
    new = queue_of(frames).denoising
    return denoise(
        new.latents, SIGMAS, new.windows,
        lambda step, index, latents: predicted(Part(step, index), latents),
    )  # fmt: skip


@given(st.integers(1, 300), st.integers(1, 64))
def test_a_step_takes_as_few_rounds_as_its_halves_allow(windows: int, workers: int) -> None:
    parts = [part for index in range(windows) for part in parts_of(0, index, windows, workers)]
    done = Counter((part.window, half) for part in parts for half in ([True, False] if part.half is None
                                                                     else [part.half]))  # fmt: skip
    assert done == Counter({(index, half): 1 for index in range(windows) for half in (True, False)})
    free = [0] * workers
    for part in parts:
        worker = free.index(min(free))
        free[worker] += 2 if part.half is None else 1
    assert max(free) == math.ceil(2 * windows / workers)


@pytest.mark.parametrize("workers", [1, 2, 3, 4, 5, 8, 12])
def test_any_number_of_workers_gives_the_same_bits_in_the_theoretical_time(workers: int) -> None:
    clock, told = ClockWorkers(), []
    only = queue_of(21, told)
    windows = len(only.denoising.windows)
    WindowPool(clock, workers, only).run()
    assert torch.equal(only.denoising.latents, alone(21))
    steps = len(SIGMAS) - 1
    assert 2 * windows * steps / workers <= clock.now <= steps * math.ceil(2 * windows / workers)
    assert clock.started <= min(workers, 2 * windows)
    assert [step for step in told if isinstance(step, int)] == list(range(1, steps + 1))
    for step in range(steps):
        made = [told.index((step, index)) for index in range(windows)]
        assert max(made) < told.index(step + 1), "a step ends after its windows"
    assert len(told) == steps * (windows + 1)
    assert set(clock.asked.values()) == {1}


@pytest.mark.parametrize("workers", [4, 6, 8, 12])
def test_no_worker_waits_for_the_end_of_a_step(workers: int) -> None:
    """Nine windows leave idle workers at the end of each step that has to wait for the one before."""
    clock, sigmas = ClockWorkers(), torch.linspace(5, 0, 21)
    only = queue_of(28)
    only.denoising = Denoising(only.denoising.latents, sigmas, even(28, 5, 1))
    windows, steps = len(only.denoising.windows), len(sigmas) - 1
    assert windows == 9
    WindowPool(clock, workers, only).run()
    busy = 2 * windows * steps / workers
    assert clock.now <= 1.05 * busy + 2
    if (2 * windows) % workers:
        assert clock.now < steps * math.ceil(2 * windows / workers)


def test_a_dead_worker_costs_what_it_had_and_nothing_else() -> None:
    clock = ClockWorkers(deadly={5})
    only = queue_of(21)
    pool = WindowPool(clock, 2, only)
    pool.run()
    assert torch.equal(only.denoising.latents, alone(21))
    assert clock.started == 3
    assert 1 <= sum(times - 1 for times in clock.asked.values()) <= 2
    pool.close()
    assert not clock.free and not pool.slots


def test_a_worker_that_hangs_is_ended_and_its_windows_go_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """By then it has taken many times as long as any window did."""
    monkeypatch.setattr("posedance.pipeline.workers.window_pool.LONGEST_CALL_S", 5.0)
    clock = ClockWorkers(hanging={9})
    only = queue_of(21)
    WindowPool(clock, 2, only, lambda: clock.now).run()
    assert torch.equal(only.denoising.latents, alone(21))
    assert clock.started == 3
    assert 1 <= sum(times - 1 for times in clock.asked.values()) <= 2
    assert TIMES_THE_LONGEST * 2 < clock.now < 100


def test_workers_that_all_die_are_given_up() -> None:
    clock = ClockWorkers(deadly=set(range(1000)))
    with pytest.raises(PosedanceError, match=f"{MAX_LOSSES + 1} workers died one after the other: killed"):
        WindowPool(clock, 2, queue_of(21)).run()
