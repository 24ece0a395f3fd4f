"""Workers on Ray: what a crash, a hang, a sick machine or a full disk costs."""

import errno
import importlib
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import toys
from toys import Toy, results, run

from posedance.pipeline.workers.executor import Outcome, Task
from posedance.pipeline.workers.ray_pool import ActorHandle, OnRay, Pool
from posedance.pipeline.workers.ray_worker import Pulse
from posedance.pipeline.workers.scheduler import Scheduler
from posedance.pipeline.workers.shelf import SHELVED_AFTER, Place, Shelf
from posedance.stages.errors import ConfigError
from posedance.stages.types import Resources

MODULES = (toys, sys.modules[__name__])


@pytest.fixture(scope="module")
def by_value(ray_here: Any) -> Iterator[Any]:
    """Ray that sends the classes of these tests along, for workers cannot import them."""
    for module in MODULES:
        ray_here.cloudpickle.register_pickle_by_value(module)
    yield ray_here
    for module in MODULES:
        ray_here.cloudpickle.unregister_pickle_by_value(module)


def test_sigterm_is_not_left_to_ray(ray_here: Any) -> None:
    """Which would dump its stack and end the process."""
    assert signal.getsignal(signal.SIGTERM) is signal.default_int_handler
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(1)


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


def test_what_failed_at_a_place_waits_for_a_worker_elsewhere(tmp_path: Path) -> None:
    """As long as one is at work or starts there; one that has long had no room does not count."""
    pool, task = OnRay.__new__(OnRay), Task("ok-1", "gpu", 0, "ok-1")
    sick, well = Place("n1", "host", ("0",)), Place("n1", "host", ("1",))
    pulse, now = Pulse(tmp_path / "beat"), time.monotonic()
    idle = ActorHandle("gpu", None, pulse, None, None, ready=True, place=sick)
    starts = ActorHandle("gpu", None, pulse, "setup", None, began=now)
    works = ActorHandle("gpu", None, pulse, "run", None, began=now, ready=True, place=well)
    other = ActorHandle("cpu", None, pulse, "run", None, began=now, ready=True, place=well)
    pool._shelf, pool._handles = Shelf(), [idle, starts]
    assert pool.suits(task), "it has failed nowhere"
    pool._shelf.failed("gpu", sick, "ok-1")
    assert not pool.suits(task)
    pool._handles = [idle, works]
    assert not pool.suits(task)
    works.call = None
    assert pool.suits(task), "one elsewhere is free"
    starts.began = now - 60
    pool._handles = [idle, other, starts]
    assert pool.suits(task), "no other may come"
    pulse.beat.touch()
    assert not pool.suits(task), "it is being set up"
    works.call = "run"
    pool._handles = [idle, works]
    pool._shelf.shelve("gpu", well)
    assert pool.suits(task), "the other place is given up"


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
    for module in MODULES:
        ray.cloudpickle.register_pickle_by_value(module)
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
