"""Memory of a batch's driver: a process of its own, watched from outside."""

import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from helpers import add_dance, add_picture, command

from posedance.pipeline.batch.status import events
from posedance.stages.pose.files import load_poses, save_poses

FEW, MANY = 20, 40
ONE_ARENA = {**os.environ, "MALLOC_ARENA_MAX": "1"}
"""Else glibc opens arenas for threads that wait for one another, as under load, which keep what they had."""
GROWTH_BYTES = 10_000_000
"""Noise. One frame kept of each comparison video would be three times as much."""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_videos(
    tmp_path: Path,
) -> None:
    """All stages of 40 videos of one frame, in one process: the least that it holds beside its work."""
    add_dance(tmp_path, "dance", 1)
    poses = load_poses(tmp_path / "dance.npz")
    still = replace(poses, keypoints=poses.keypoints[:1], scores=poses.scores[:1])
    save_poses(tmp_path / "dance.npz", still)
    add_picture(tmp_path, "ref", 6)
    rows = [f"dance.npz,ref.png,{seed}" for seed in range(MANY)]
    (tmp_path / "videos.csv").write_text("\n".join(["pose,reference,seed", *rows]))
    options = {"--manifest": tmp_path / "videos.csv", "-o": tmp_path / "out", "--executor": "local"}
    options |= {"--model": "tiny-random", "--steps": 1, "--encode.preset": "veryfast"}
    used: dict[int, int] = {}
    with (tmp_path / "log").open("w") as log:
        run = subprocess.Popen(command("batch", options), stderr=log, stdout=log, env=ONE_ARENA)
        while run.poll() is None:
            ended = [event["task"].split("/")[-1] for event in events(tmp_path / "out")].count("comparison")
            done = ended // 2  # events: start and done
            used[done] = min(own_bytes(run.pid), used.get(done, sys.maxsize))
            time.sleep(0.1)
    assert run.returncode == 0, (tmp_path / "log").read_text()
    few = min(size for done, size in used.items() if FEW <= done < FEW + 5)
    many = min(size for done, size in used.items() if MANY - 5 <= done < MANY)
    assert many - few < GROWTH_BYTES, {done: size >> 10 for done, size in used.items()}


def own_bytes(pid: int) -> int:
    """What a process holds by itself: of its libraries the system keeps as much as it likes."""
    memory = psutil.Process(pid).memory_info()
    return memory.rss - memory.shared
