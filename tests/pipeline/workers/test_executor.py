"""The scheduler and both executors, with stages that really fail: raise, abort, hang."""

import errno
import math
import os
import time
import tracemalloc
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from toys import Toy, results, run

from posedance.pipeline.workers.executor import InProcess, Outcome, Task, attempt
from posedance.pipeline.workers.ray_worker import Pulse, Worker
from posedance.pipeline.workers.scheduler import Scheduler
from posedance.stages.errors import PictureError, UnavailableError, VideoError


def test_failures_are_tried_again_and_then_given_up(tmp_path: Path) -> None:
    seen = run(InProcess({"toy": Toy(tmp_path)}), ["ok-1", "raise-1", "picture-1", "ok-2"])
    assert results(tmp_path) == ["ok-1", "ok-2"]
    assert seen["retry", "raise-1"] == seen["quarantine", "raise-1"] == 1
    assert seen["retry", "picture-1"] == 0 and seen["quarantine", "picture-1"] == 1, (
        "bad input: once is enough"
    )


def test_what_is_away_for_a_while_costs_no_attempt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A share that is stale three times: waited for longer each time, with others going on meanwhile."""
    monkeypatch.setattr("posedance.pipeline.workers.scheduler.RETRY_S", 0.2)
    began: list[float] = []

    def listen(event: str, task: Task, outcome: Outcome | None, tries: int) -> None:
        if event == "start" and task.name == "away-1":
            began.append(time.monotonic())

    tasks = [Task(item, "toy", 0, item, item=item) for item in ("away-1", "ok-1")]
    executor = InProcess({"toy": Toy(tmp_path)})
    Scheduler(tasks, executor, ["toy"], attempts=2, max_live=2, listen=listen).run()
    assert (tmp_path / "results").read_text().split() == ["ok-1", "away-1"]
    waits = [after - before for before, after in pairwise(began)]
    assert len(waits) == 3 and all(wait >= 0.1 * 2**count for count, wait in enumerate(waits))


def raised(error: Exception, cause: Exception | None = None) -> str:
    """The verdict of an attempt that raises this."""

    def call() -> None:
        raise error from cause

    return attempt(call).verdict


def test_what_the_system_said_underneath_decides_over_another_attempt() -> None:
    stale, full = OSError(errno.ESTALE, "Stale file handle"), OSError(errno.ENOSPC, "No space left")
    assert raised(VideoError("cannot be read")) == raised(PictureError("x"), OSError("truncated")) == "final"
    assert raised(VideoError("cannot be read"), stale) == raised(stale) == "trouble"
    assert raised(UnavailableError("cannot reach s3://b/x")) == "trouble"
    assert raised(VideoError("cannot be written"), full) == "full"
    assert raised(KeyError("x")) == raised(OSError(errno.EACCES, "Permission denied")) == "failed"


def test_a_pulse_is_taken_by_this_machines_clock(tmp_path: Path) -> None:
    """Beats of a machine whose clock is two hours off are beats; the same one for long is none."""
    beat, now = tmp_path / "beat.json", time.time()
    pulse = Pulse(beat)
    assert pulse.silent_s(1000.0) == 0, "it has not come to life"
    beat.touch()
    for second, skew in enumerate((-7200, -7199, 7200, 0)):
        os.utime(beat, (now + skew, now + skew))
        assert pulse.silent_s(2000.0 + 50 * second) == 0
    assert pulse.silent_s(2160.0) == 10


class AllAtOnce(InProcess):
    """What is under way ends together: a task may become ready while another is tried again."""

    def __init__(self, stages: Mapping[str, Any]) -> None:
        super().__init__(stages)
        self.under_way: list[Task] = []

    def free(self, stage: str, queued: int) -> bool:
        return all(task.stage != stage for task in self.under_way)

    def submit(self, task: Task) -> None:
        self.under_way.append(task)

    def busy(self) -> bool:
        return bool(self.under_way)

    def wait(self, at_most_s: float = math.inf) -> list[tuple[Task, Outcome]]:
        begun, self.under_way, ended = self.under_way, [], []
        for task in begun:
            super().submit(task)
            ended += super().wait()
        return ended


def test_what_is_tried_again_goes_before_its_equals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("posedance.pipeline.workers.scheduler.RETRY_S", 0.0)
    begun: list[str] = []

    def listen(event: str, task: Task, outcome: Outcome | None, tries: int) -> None:
        if event == "start":
            begun.append(task.name)

    tasks = [
        Task("ok-new", "toy", 1, "ok-new", needs=("ok-gate",)),
        Task("raise-1", "toy", 1, "raise-1"),
        Task("ok-gate", "gate", 1, "ok-gate"),
    ]
    with closing(AllAtOnce({"toy": Toy(tmp_path), "gate": Toy(tmp_path)})) as executor:
        Scheduler(tasks, executor, ["toy", "gate"], attempts=2, max_live=9, listen=listen).run()
    assert sorted(begun[:2]) == ["ok-gate", "raise-1"] and begun[2:] == ["raise-1", "ok-new"]


def test_tasks_wait_for_what_they_need_and_fall_with_it(tmp_path: Path) -> None:
    order: list[str] = []

    def listen(event: str, task: Task, outcome: Outcome | None, tries: int) -> None:
        if event != "queue":
            order.append(f"{event} {task.name}")

    tasks = [
        Task("b1", "toy", 1, "ok-b1", ("a",), "one"),
        Task("b2", "toy", 2, "ok-b2", ("b1",), "one"),
        Task("c1", "toy", 1, "ok-c1", ("a", "bad"), "two"),
        Task("c2", "toy", 2, "ok-c2", ("c1",), "two"),
        Task("a", "toy", 0, "ok-a"),
        Task("bad", "toy", 0, "raise-1"),
    ]
    executor = InProcess({"toy": Toy(tmp_path)})
    Scheduler(tasks, executor, ["toy"], attempts=1, max_live=1, listen=listen).run()
    done = [line for line in order if not line.startswith("start")]
    assert done == ["done a", "done b1", "done b2", "quarantine bad", "drop c1", "drop c2"]


def test_tasks_of_what_a_worker_has_open_go_first() -> None:
    """Rows that alternate between two models, and between LoRA weights of one of them."""
    order: list[str] = []

    def listen(event: str, task: Task, outcome: Outcome | None, tries: int) -> None:
        if event == "start":
            order.append(" ".join(task.opens))

    opened = [("a",), ("b", "x"), ("a",), ("b", "y"), ("b",), ("b", "x"), ("a",)]
    tasks = [Task(f"t{n}", "toy", n % 2, None, item=f"i{n}", opens=opens) for n, opens in enumerate(opened)]
    Scheduler(tasks, Instant({}), ["toy"], attempts=1, max_live=9, listen=listen).run()
    assert order == ["b x", "b x", "b y", "b", "a", "a", "a"]


def test_no_more_items_live_than_allowed(tmp_path: Path) -> None:
    live: set[str] = set()
    most = 0

    def listen(event: str, task: Task, outcome: Outcome | None, tries: int) -> None:
        nonlocal most
        if event == "queue":
            return
        assert task.item is not None
        live.add(task.item)
        most = max(most, len(live))
        if event == "done" and task.rank == 2:
            live.discard(task.item)

    tasks = []
    for item in "pqrstu":
        tasks.append(Task(f"{item}1", "first", 1, f"ok-{item}1", (), item))
        tasks.append(Task(f"{item}2", "second", 2, f"ok-{item}2", (f"{item}1",), item))
    executor = InProcess({"first": Toy(tmp_path), "second": Toy(tmp_path)})
    Scheduler(tasks, executor, ["first", "second"], attempts=1, max_live=2, listen=listen).run()
    assert len(results(tmp_path)) == 12 and most <= 2


class Instant(InProcess):
    """Ends every task as soon as it is waited for."""

    def wait(self, at_most_s: float = math.inf) -> list[tuple[Task, Outcome]]:
        task, self._next = self._next, None
        return [] if task is None else [(task, Outcome("done", trace="x" * 1000))]


def test_memory_of_the_driver_is_flat_however_many_videos_there_are() -> None:
    """What 3000 videos leave behind in the scheduler, from the first 600 to the last, in bytes."""
    tasks = []
    for item in map(str, range(3000)):
        tasks.append(Task(f"{item}/1", "one", 1, item, (), item))
        tasks.append(Task(f"{item}/2", "two", 2, item, (f"{item}/1",), item))
    used: list[int] = []

    def listen(event: str, task: Task, outcome: Outcome | None, tries: int) -> None:
        if event == "done" and task.name in ("600/2", "2999/2"):
            used.append(tracemalloc.get_traced_memory()[0])

    scheduler = Scheduler(tasks, Instant({}), ["one", "two"], attempts=2, max_live=4, listen=listen)
    tracemalloc.start()
    try:
        scheduler.run()
    finally:
        tracemalloc.stop()
    assert len(used) == 2 and used[1] - used[0] < 50_000


@dataclass
class Fills(Toy):
    """Finds the disk full, and so does whoever writes after it."""

    def __call__(self, item: str) -> None:
        (self.folder / "beat.json").unlink()
        self.folder.rmdir()
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_is_told_as_one_though_the_worker_cannot_say_that_it_is_idle(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    worker = Worker(Fills(tmp_path / "disk"), tmp_path / "disk" / "beat.json")
    outcome = worker.run("task", "item")
    assert outcome.verdict == "full" and "No space left" in outcome.error
    assert worker.run("task", "item").verdict == "failed", "it cannot begin without its beat"
