"""The scheduler and both executors, with stages that really fail: raise, abort, hang."""

import errno
import importlib
import math
import multiprocessing
import os
import sys
import time
import tracemalloc
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from posedance.pipeline.interrupts import end_here
from posedance.pipeline.workers.executor import Executor, InProcess, Outcome, Task, attempt
from posedance.pipeline.workers.ray_pool import OnRay, Pool
from posedance.pipeline.workers.ray_worker import Pulse, Worker
from posedance.pipeline.workers.scheduler import Scheduler
from posedance.pipeline.workers.shelf import SHELVED_AFTER, Place, Shelf
from posedance.stages.errors import ConfigError, PictureError, UnavailableError, VideoError
from posedance.stages.types import Resources


@dataclass
class Toy:
    """Does what its item, a word, says, and leaves a line in `folder` for each attempt and each result."""

    folder: Path
    resources: Resources = Resources(0.5)  # noqa: RUF009 (frozen)

    def setup(self) -> None:
        pass

    def __call__(self, item: str) -> None:
        fault = item.partition("-")[0]
        tries = self.folder / f"tries-{item}"
        first = not tries.exists()
        with tries.open("a") as file:
            file.write("x")
        if fault == "raise":
            raise KeyError("a", 1, "two")
        if fault == "away" and (self.folder / f"tries-{item}").stat().st_size < 4:
            raise OSError(errno.ESTALE, "Stale file handle")
        if fault == "picture":
            raise PictureError("not a picture")
        if fault == "abort" or (fault == "abortonce" and first):
            os.abort()
        while fault == "long":
            time.sleep(0.01)
            end_here()
        if fault == "hangonce" and first:
            time.sleep(600)
        with (self.folder / "results").open("a") as file:
            file.write(f"{item}\n")

    def close(self) -> None:
        pass


def run(executor: Executor, items: list[str], attempts: int = 2, **more: Any) -> Counter[tuple[str, str]]:
    """Counts of (event, item) after a run over `items`."""
    seen: Counter[tuple[str, str]] = Counter()

    def listen(event: str, task: Task, outcome: Outcome | None, tries: int) -> None:
        seen[event, task.name] += 1

    tasks = [Task(item, "toy", 0, item, item=item) for item in items]
    with closing(executor):
        Scheduler(tasks, executor, ["toy"], attempts=attempts, max_live=2, listen=listen, **more).run()
    return seen


def results(folder: Path) -> list[str]:
    return sorted((folder / "results").read_text().split())


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


@pytest.fixture(scope="module")
def by_value(ray_here: Any) -> Iterator[Any]:
    """Ray that sends this module's classes along, for workers cannot import it."""
    ray_here.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    yield ray_here
    ray_here.cloudpickle.unregister_pickle_by_value(sys.modules[__name__])


@pytest.mark.slow
def test_on_ray_a_crash_a_hang_and_an_error_cost_only_their_own_item(by_value: Any, tmp_path: Path) -> None:
    beats = tmp_path / "beats"
    beats.mkdir()
    executor = OnRay({"toy": Pool(Toy(tmp_path), 2)}, beats, timeout_s=6, attempts=2, owns_ray=False)
    good = ["ok-1", "ok-2", "ok-3", "abortonce-1", "hangonce-1"]
    seen = run(executor, ["ok-1", "abort-1", "abortonce-1", "raise-1", "hangonce-1", "ok-2", "ok-3"])
    assert results(tmp_path) == sorted(good), "nothing lost, nothing twice"
    assert seen["retry", "raise-1"] == 1 and seen["retry", "abort-1"] == 3, "deaths count apart"
    assert seen["quarantine", "raise-1"] == seen["quarantine", "abort-1"] == 1
    for item in ("abortonce-1", "hangonce-1"):
        assert seen["retry", item] == seen["done", item] == 1
    assert not list(beats.iterdir())


@dataclass
class Sick(Toy):
    """The first process of the stage fails whatever it is given, at once; the others take their time."""

    def setup(self) -> None:
        try:
            (self.folder / "first").touch(exist_ok=False)
            self.sick = True
        except FileExistsError:
            self.sick = False

    def __call__(self, item: str) -> None:
        if self.sick:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")
        time.sleep(0.1)
        super().__call__(item)


@pytest.mark.slow
def test_on_ray_a_sick_worker_is_replaced_before_it_eats_the_batch(by_value: Any, tmp_path: Path) -> None:
    beats, items = tmp_path / "beats", [f"ok-{number}" for number in range(12)]
    beats.mkdir()
    executor = OnRay({"toy": Pool(Sick(tmp_path), 2)}, beats, timeout_s=60, attempts=2, owns_ray=False)
    seen = run(executor, items)
    assert results(tmp_path) == sorted(items)
    assert sum(count for (event, _), count in seen.items() if event == "retry") == 1


@dataclass
class Faint(Toy):
    """Every second process dies while it is set up."""

    def setup(self) -> None:
        with (self.folder / "setups").open("a") as file:
            file.write("x")
        if (self.folder / "setups").stat().st_size % 2 == 0:
            os.abort()


@pytest.mark.slow
def test_on_ray_lost_setups_count_in_a_row(by_value: Any, tmp_path: Path) -> None:
    """Two are lost over a run that allows one in a row."""
    beats, items = tmp_path / "beats", ["abortonce-1", "abortonce-2", "ok-1"]
    beats.mkdir()
    executor = OnRay({"toy": Pool(Faint(tmp_path), 1)}, beats, timeout_s=60, attempts=2, owns_ray=False)
    run(executor, items)
    assert results(tmp_path) == items
    assert len((tmp_path / "setups").read_text()) == 5


@dataclass
class Maker(Toy):
    """Leaves a file for each item, at once."""

    def __call__(self, item: str) -> None:
        (self.folder / item).touch()


@dataclass
class User(Toy):
    """Uses such a file up, slowly."""

    def __call__(self, item: str) -> None:
        time.sleep(0.05)
        (self.folder / item).unlink()


@pytest.mark.slow
def test_on_ray_a_step_without_end_is_left_at_its_checkpoint(by_value: Any, tmp_path: Path) -> None:
    """Stopped while all workers are at work, which ask their driver's folder."""
    (tmp_path / "beats").mkdir()
    executor = OnRay(
        {"toy": Pool(Toy(tmp_path), 1)}, tmp_path / "beats", timeout_s=60, attempts=2, owns_ray=False
    )
    events: list[tuple[str, str]] = []

    def listen(event: str, task: Task, outcome: Outcome | None, tries: int) -> None:
        events.append((event, task.name))

    stopped = (tmp_path / "tries-long-1").exists
    tasks = [Task(item, "toy", 0, item, item=item) for item in ("long-1", "ok-1")]
    with closing(executor), pytest.raises(KeyboardInterrupt):
        Scheduler(tasks, executor, ["toy"], attempts=2, max_live=2, listen=listen, stopped=stopped).run()
    assert [event for event in events if event[0] != "queue"] == [("start", "long-1"), ("stop", "long-1")]


@pytest.mark.slow
def test_on_ray_what_is_made_and_not_used_yet_is_bounded(by_value: Any, tmp_path: Path) -> None:
    """Two workers make what one uses up slowly, of 40 videos: with 5 begun at most, no more lie there."""
    beats, files, waiting = tmp_path / "beats", tmp_path / "files", []
    beats.mkdir()
    files.mkdir()
    tasks = []
    for item in map(str, range(40)):
        tasks.append(Task(f"{item}/made", "make", 1, item, (), item))
        tasks.append(Task(f"{item}/used", "use", 2, item, (f"{item}/made",), item))

    def listen(event: str, task: Task, outcome: Outcome | None, tries: int) -> None:
        waiting.append(len(list(files.iterdir())))

    pools = {"make": Pool(Maker(files, Resources(0.25)), 2), "use": Pool(User(files, Resources(0.25)), 1)}
    with closing(OnRay(pools, beats, timeout_s=60, attempts=1, owns_ray=False)) as executor:
        Scheduler(tasks, executor, list(pools), attempts=1, max_live=5, listen=listen).run()
    assert len(waiting) == 80 * 3 and waiting[-1] == 0
    assert 3 <= max(waiting) <= 5, "makers run ahead, but not far"


def test_a_place_is_shelved_after_failures_that_are_not_the_tasks_own() -> None:
    shelf, sick, well = Shelf(), Place("n1", "host", ("0",)), Place("n1", "host", ("1",))
    for number in range(SHELVED_AFTER):
        shelf.failed("denoise", sick, f"task-{number}")
        looks_sick = shelf.failed("denoise", sick, f"task-{number}")  # twice the same task is one
        assert looks_sick == (number == SHELVED_AFTER - 1)
    assert shelf.has_failed("task-0", sick) and not shelf.has_failed("task-0", well)
    shelf.shelve("denoise", sick)
    assert shelf.is_shelved("denoise", sick) and not shelf.is_shelved("pose", sick)
    assert shelf.avoided("denoise") == set(), "the other GPU of that machine works on"

    shelf.failed("denoise", well, "task-0")
    assert not shelf.is_shelved("denoise", sick), "task-0 fails everywhere: the place is not to blame"
    assert not shelf.failed("denoise", well, "task-1") and not shelf.failed("denoise", well, "task-2")

    for number in range(3, 9):
        shelf.worked("denoise", sick, f"ok-{number}")
        assert not shelf.failed("denoise", sick, f"task-{number}"), "successes lie between"


def test_a_machine_without_gpus_is_shelved_as_a_whole_and_a_full_one_for_all_stages() -> None:
    shelf, one, other = Shelf(), Place("n1", "host1"), Place("n2", "host2", ("0",))
    shelf.shelve("pose", one)
    assert shelf.avoided("pose") == {"n1"} and shelf.avoided("draw") == set()
    shelf.shelve_node("n2")
    assert shelf.avoided("draw") == {"n2"} and shelf.is_shelved("denoise", other)
    shelf.clear("pose")
    assert not shelf.concerns("pose") and not shelf.is_shelved("pose", one)


@dataclass
class Placed(Toy):
    """Fails on the GPU 0, and finds the disk of the machine full where the first without a GPU was set up."""

    def setup(self) -> None:
        import ray

        self.node, gpu = ray.get_runtime_context().get_node_id(), os.environ.get("CUDA_VISIBLE_DEVICES", "")
        self.sick, self.full = gpu == "0", False
        if not self.resources.gpus:
            try:
                with (self.folder / "first").open("x") as file:
                    file.write(self.node)
            except FileExistsError:
                pass
            self.full = (self.folder / "first").read_text() == self.node

    def __call__(self, item: str) -> None:
        if self.sick:
            with (self.folder / "failures").open("a") as file:
                file.write("x")
            raise RuntimeError("CUDA error: an illegal memory access was encountered")
        if self.full:
            raise OSError(errno.ENOSPC, "No space left on device")
        time.sleep(0.3)
        super().__call__(item)


def run_on_two_machines(folder: Path) -> None:
    """16 tasks on two GPUs, of which one is sick, and 4 on two machines, of which one has a full disk."""
    from ray.cluster_utils import Cluster

    ray: Any = importlib.import_module("ray")
    store: dict[str, Any] = {"object_store_memory": 80_000_000, "num_cpus": 2}
    cluster = Cluster(
        initialize_head=True, head_node_args={**store, "num_gpus": 2, "include_dashboard": False}
    )
    cluster.add_node(**store)
    ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    pools = {
        "gpu": Pool(Placed(folder, Resources(0.5, 1)), 2),
        "cpu": Pool(Placed(folder, Resources(0.5)), 2),
    }
    tasks = [Task(f"ok-{number}", "gpu", 0, f"ok-{number}") for number in range(16)]
    tasks += [Task(f"ok-{number}", "cpu", 0, f"ok-{number}") for number in range(16, 20)]
    given_up: list[str] = []

    def listen(event: str, task: Task, outcome: Outcome | None, tries: int) -> None:
        if event == "quarantine":
            given_up.append(task.name)

    with closing(OnRay(pools, folder / "beats", timeout_s=60, attempts=2, owns_ray=True)) as executor:
        Scheduler(tasks, executor, list(pools), attempts=2, max_live=9, listen=listen).run()
    cluster.shutdown()
    assert not given_up


@pytest.mark.slow
def test_on_ray_a_sick_gpu_and_a_full_disk_get_no_more_work(tmp_path: Path) -> None:
    (tmp_path / "beats").mkdir()
    run = multiprocessing.get_context("spawn").Process(target=run_on_two_machines, args=(tmp_path,))
    run.start()
    run.join(120)
    assert run.exitcode == 0
    assert results(tmp_path) == sorted(f"ok-{number}" for number in range(20))
    assert len((tmp_path / "failures").read_text()) == SHELVED_AFTER, "then its worker only keeps its place"


class Unusable(Toy):
    def setup(self) -> None:
        raise ConfigError("no such model")


@pytest.mark.slow
def test_on_ray_a_stage_that_cannot_be_set_up_ends_the_run(by_value: Any, tmp_path: Path) -> None:
    executor = OnRay({"toy": Pool(Unusable(tmp_path), 1)}, tmp_path, timeout_s=60, attempts=2, owns_ray=False)
    with pytest.raises(ConfigError, match="no such model"):
        run(executor, ["ok-1"])
