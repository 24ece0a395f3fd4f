"""Batches under faults that are real: killed drivers, workers and machines, a full disk, files that change.

However a batch came to its end, its folder is that of an undisturbed one: nothing lost, doubled or torn.
"""

import hashlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers import add_dance, small_batch, started, wait_for

from posedance.pipeline.batch.batch import batch
from posedance.pipeline.batch.status import events, status
from posedance.pipeline.cli import main
from posedance.pipeline.config import BatchConfig, EncodeConfig

KILLS = 12
KILLS_ON_RAY = 3
OWN = {"config.yaml", "events.jsonl", "summary.json", "progress.json", "lock"}
"""Files that name the folder, the time or the process of a run."""

Start = Callable[..., Any]


def tree(root: Path) -> dict[str, str]:
    """SHA-256 of every file of a batch, without what differs between any two runs."""
    return {
        str(path.relative_to(root)): hashlib.sha256(content(path)).hexdigest()
        for path in root.rglob("*")
        if path.is_file() and path.name not in OWN and not {"locks", "workers"} & set(path.parts)
    }


def content(path: Path) -> bytes:
    """What a file holds; index.html without the sum of the last run, records without times."""
    if path.name == "index.html":
        return re.sub(rb"<pre>.*</pre>", b"", path.read_bytes(), flags=re.DOTALL)
    if path.parent.name == "records":
        return re.sub(rb'"mtime_ns": \d+', b"", path.read_bytes())
    return path.read_bytes()


def config(inputs: Path, output: Path, **changes: Any) -> BatchConfig:
    return small_batch(inputs / "manifest.csv", output, **changes)


@pytest.fixture(scope="module")
def start(inputs: Path) -> Start:
    """A function that starts a driver: a process, and its exit code is that of the command."""

    def begin(output: Path, *options: str) -> Any:
        words = ["batch", "--manifest", str(inputs / "manifest.csv"), "--output", str(output)]
        words += ["--model", "tiny-random", "--steps", "2", "--attempts", "2", *options]
        return started(words)

    return begin


@pytest.fixture(scope="module")
def whole(start: Start, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float]:
    """An undisturbed batch, and how long a driver takes for it in seconds."""
    folder = tmp_path_factory.mktemp("whole")
    start(folder / "first", "--executor", "local").join()
    began = time.monotonic()
    run = start(folder / "out", "--executor", "local")
    run.join()
    assert run.exitcode == 0
    assert tree(folder / "first") == tree(folder / "out"), "two undisturbed runs"
    assert len(list((folder / "out").glob("dance*/result.mp4"))) == 4
    return folder / "out", time.monotonic() - began


@pytest.mark.slow
def test_a_driver_killed_12_times_at_random_moments_leaves_the_same_tree(
    inputs: Path, whole: tuple[Path, float], start: Start, tmp_path: Path
) -> None:
    (_, seconds), rng = whole, random.Random(0)

    def begin(output: Path) -> Any:
        run = start(output, "--executor", "local")
        run.join(rng.uniform(0, seconds / 2))
        return run

    for output in killed_often(tmp_path, KILLS, begin):
        assert batch(config(inputs, output)) == 0
        assert tree(output) == tree(whole[0])
        assert_once(output)


def killed_often(folder: Path, kills: int, begin: Callable[[Path], Any]) -> Iterator[Path]:
    """Outputs of batches whose drivers were killed, so many times in all.

    `begin` starts a driver for an output and returns at the moment of its death.
    """
    killed, rounds = 0, 0
    while killed < kills:
        output, run = folder / str(rounds), None
        while killed < kills and (run is None or run.exitcode != 0):
            run = begin(output)
            if run.exitcode is None:
                run.kill()
                run.join()
                killed += 1
        yield output
        rounds += 1


def assert_once(output: Path) -> None:
    """No step was made twice. (A driver may die between the end of a step and its event.)"""
    done = Counter(event["task"] for event in events(output) if event["event"] == "done")
    assert set(done.values()) == {1}


@pytest.mark.slow
def test_ctrl_c_lets_the_running_step_end(
    inputs: Path, whole: tuple[Path, float], start: Start, tmp_path: Path
) -> None:
    run = start(tmp_path / "out", "--executor", "local")
    wait_for(run, tmp_path / "out" / "dance1--ref6" / ".work" / "records" / "control.json")
    os.kill(run.pid, signal.SIGINT)
    run.join()
    assert run.exitcode == 130
    seen = [event["event"] for event in events(tmp_path / "out")]
    ended = sum(map(seen.count, ("done", "skip", "stop")))
    assert seen.count("start") == ended < 21, "what was begun was ended"
    assert batch(config(inputs, tmp_path / "out")) == 0
    assert tree(tmp_path / "out") == tree(whole[0])


def test_a_full_disk_is_told_and_the_batch_goes_on_when_there_is_room(
    inputs: Path, whole: tuple[Path, float], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=400k", "none", str(disk)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a tmpfs cannot be mounted here")
    try:
        words = ["batch", "--manifest", str(inputs / "manifest.csv"), "-o", str(disk / "out")]
        words += ["--model", "tiny-random", "--steps", "2", "--executor", "local"]
        assert main(words) == 2
        last = capfd.readouterr().err.strip().splitlines()[-1]
        assert last.startswith("error: ") and "space" in last
        assert not list(disk.rglob("*.tmp"))
        subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
        assert main(words) == 0
        assert tree(disk / "out") == tree(whole[0])
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def made_since(output: Path, seen: int) -> set[str]:
    """The tasks that were done after the first `seen` events."""
    return {event["task"] for event in list(events(output))[seen:] if event["event"] == "done"}


def test_only_what_a_change_touches_is_made_again(
    inputs: Path, whole: tuple[Path, float], tmp_path: Path
) -> None:
    """An option of encoding, then a dance, then a record that is no record."""
    sources, output = tmp_path / "inputs", tmp_path / "out"
    shutil.copytree(inputs, sources)
    assert batch(config(sources, output, keep="all")) == 0

    encode = EncodeConfig(crf=30)
    seen = len(list(events(output)))
    assert batch(config(sources, output, keep="all", encode=encode)) == 0
    items = [f"dance{dance}--ref{number}" for dance in (1, 2) for number in (6, 7)]
    assert made_since(output, seen) == {f"{i}/{step}" for i in items for step in ("result", "comparison")}

    add_dance(sources, "dance2", 3)
    seen = len(list(events(output)))
    assert batch(config(sources, output, keep="all", encode=encode)) == 0
    again = made_since(output, seen)
    assert len([task for task in again if task.startswith("poses-")]) == 1
    of_items = {task for task in again if "/" in task}
    steps = ("control", "latents", "result", "comparison")
    assert of_items == {f"{item}/{step}" for item in items[2:] for step in steps}
    assert len(again) == len(of_items) + 1

    (output / items[0] / ".work" / "records" / "result.json").write_text('{"key": "')
    seen = len(list(events(output)))
    assert batch(config(sources, output, keep="all", encode=encode)) == 0
    assert made_since(output, seen) == {f"{items[0]}/result"}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Ray with two machines, that is two of everything but the hardware."""
    from ray.cluster_utils import Cluster

    store = {"object_store_memory": 80_000_000, "num_cpus": 1}
    made = Cluster(initialize_head=True, head_node_args={**store, "include_dashboard": False})
    made.add_node(**store)
    yield made
    made.shutdown()


@pytest.mark.slow
def test_on_ray_a_driver_killed_at_random_moments_leaves_the_same_tree(
    inputs: Path, whole: tuple[Path, float], start: Start, cluster: Any, tmp_path: Path
) -> None:
    """The cluster outlives the drivers. Moments are counted in events, for most of a run is its start."""
    rng = random.Random(0)

    def begin(output: Path) -> Any:
        moment = len(list(events(output))) + rng.randint(0, 20)
        run = start(output, "--ray-address", cluster.address)
        while run.exitcode is None and len(list(events(output))) < moment:
            time.sleep(0.01)
        run.join(rng.uniform(0, 0.5))
        return run

    for output in killed_often(tmp_path, KILLS_ON_RAY, begin):
        assert batch(config(inputs, output)) == 0
        assert tree(output) == tree(whole[0])
        assert_once(output)


@pytest.mark.slow
def test_on_ray_ctrl_c_lets_running_steps_end_and_a_second_one_does_not(
    inputs: Path, whole: tuple[Path, float], start: Start, cluster: Any, tmp_path: Path
) -> None:
    output, records = tmp_path / "out", Path(".work", "records")
    run = start(output, "--ray-address", cluster.address)
    wait_for(run, output / "dance1--ref6" / records / "control.json")
    os.kill(run.pid, signal.SIGINT)
    run.join()
    assert run.exitcode == 130
    seen = [event["event"] for event in events(output)]
    ended = sum(map(seen.count, ("done", "skip", "stop")))
    assert seen.count("start") == ended < 21, "what was begun was ended"
    beats = output / ".work" / "workers" / "all"
    assert not list(beats.iterdir()), "workers end with their driver"

    run = start(output, "--ray-address", cluster.address)
    while run.is_alive() and len(list(events(output))) == len(seen):
        time.sleep(0.01)
    for _ in range(2):
        os.kill(run.pid, signal.SIGINT)
        time.sleep(0.05)
    run.join()
    assert run.exitcode == 130
    assert batch(config(inputs, output)) == 0
    assert tree(output) == tree(whole[0])
    assert_once(output)


@pytest.mark.slow
def test_on_a_cluster_a_worker_and_a_machine_are_killed(
    inputs: Path, whole: tuple[Path, float], start: Start, cluster: Any, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    run = start(output, "--ray-address", cluster.address)
    wait_for(run, output / "dance1--ref6" / ".work" / "records" / "latents.json")
    assert "; running" in status(output) and "denoise" in status(output)
    for beat in (output / ".work" / "workers" / "all").glob("denoise-*.json"):
        os.kill(json.loads(beat.read_text())["pid"], signal.SIGKILL)
        break
    (lost,) = cluster.worker_nodes
    cluster.remove_node(lost, allow_graceful=False)
    run.join()
    assert run.exitcode == 0
    assert batch(config(inputs, output)) == 0
    assert tree(output) == tree(whole[0])


@pytest.mark.slow
def test_a_driver_ends_with_the_object_store_of_its_machine_and_goes_on_elsewhere(
    inputs: Path, whole: tuple[Path, float], start: Start, cluster: Any, tmp_path: Path
) -> None:
    """The store lives in the raylet."""
    output = tmp_path / "out"
    run = start(output, "--ray-address", cluster.address)
    wait_for(run, output / "dance1--ref6" / ".work" / "records" / "control.json")
    cluster.head_node.kill_raylet()
    run.join(120)
    assert run.exitcode is not None, "the driver hangs"
    assert batch(config(inputs, output)) == 0
    assert tree(output) == tree(whole[0])
