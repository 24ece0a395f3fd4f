"""Curations under faults that are real: killed drivers, Ctrl-C. Nothing is lost and nothing doubled."""

import json
import multiprocessing
import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from curations import LENGTH, config_of, results, rows

from posedance.pipeline.curate.curate import curate
from posedance.stages.errors import UnavailableError

KILLS = 5
DRIVER = "import sys; from posedance.pipeline.cli import main; sys.exit(main(words))"

Start = Callable[..., Any]


@pytest.fixture(scope="module")
def start(few_sources: Path) -> Start:
    """A function that starts a driver, a process of its own, in a moment: its modules are loaded before."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["posedance.pipeline.cli_curate", "posedance.pipeline.curate.curate", "mediapipe"]
    )

    def begin(output: Path, executor: str = "local") -> Any:
        words = ["curate", "--sources", str(few_sources), "-o", str(output), "--executor", executor]
        words += ["--width", "144", "--height", "256", "--attempts", "1", "--per-shard", "1"]
        run = context.Process(target=exec, args=(DRIVER, {"words": words}))
        run.start()
        return run

    return begin


@pytest.mark.slow
def test_a_driver_killed_at_random_moments_leaves_the_same_bytes(
    few_sources: Path, few_curated: tuple[Path, float], start: Start, tmp_path: Path
) -> None:
    (undisturbed, seconds), rng, killed, rounds = few_curated, random.Random(0), 0, 0
    while killed < KILLS:
        output, run = tmp_path / str(rounds), None
        rounds += 1
        while killed < KILLS and (run is None or run.exitcode != 0):
            run = start(output)
            run.join(rng.uniform(0, seconds / 2))
            if run.exitcode is None:
                run.kill()
                run.join()
                killed += 1
        assert curate(config_of(few_sources, output)) == 0
        assert results(output) == results(undisturbed)
        assert not [path for path in output.rglob(".*.tmp") if ".work/content" not in str(path)]


@pytest.mark.slow
def test_ctrl_c_lets_the_running_task_end_and_the_folder_is_held_meanwhile(
    few_sources: Path, few_curated: tuple[Path, float], start: Start, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    run = start(output)
    events = output / "events.jsonl"
    while not events.exists() or '"clip"' not in events.read_text():
        assert run.exitcode is None
        time.sleep(0.01)
    with pytest.raises(UnavailableError, match="in use"):
        curate(config_of(few_sources, output))
    os.kill(run.pid, signal.SIGINT)
    run.join()
    assert run.exitcode == 130
    seen = [json.loads(line)["event"] for line in events.read_text().splitlines()]
    assert seen.count("start") == seen.count("done") + seen.count("skip"), "what was begun was ended"
    assert not (output / "clips.parquet").exists()
    assert curate(config_of(few_sources, output)) == 0
    assert results(output) == results(few_curated[0])


@pytest.mark.slow
def test_on_ray_the_bytes_are_the_same(
    few_sources: Path, few_curated: tuple[Path, float], ray_here: Any, tmp_path: Path
) -> None:
    assert curate(config_of(few_sources, tmp_path / "out", executor="ray")) == 0
    assert results(tmp_path / "out") == results(few_curated[0])
    assert rows(tmp_path / "out")["two.mp4", LENGTH]["reason"] == "left_hand"
