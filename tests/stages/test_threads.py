"""Threads: what is said of the cores reaches every library. Counted where the kernel lists them."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from posedance.stages import threads
from posedance.stages.media.video import Clip, read_frames
from posedance.stages.pose.estimate.mediapipe import MediaPipeEstimator
from posedance.stages.pose.estimators import why_unusable

pytestmark = pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="threads are counted on Linux")


@pytest.fixture
def limit() -> Iterator[Callable[[float], None]]:
    """`limit_threads`, taken back at the end."""
    before, opencv = torch.get_num_threads(), cv2.getNumThreads()
    yield threads.limit_threads
    threads._limit = None
    torch.set_num_threads(before)
    cv2.setNumThreads(opencv)


def running() -> int:
    """Threads of this process."""
    return len(list(Path("/proc/self/task").iterdir()))


@pytest.mark.parametrize(("cpus", "expected"), [(0.25, 1), (1.0, 1), (3.0, 3)])
def test_torch_and_opencv_take_the_share(limit: Callable[[float], None], cpus: float, expected: int) -> None:
    limit(cpus)
    assert threads.thread_limit() == torch.get_num_threads() == cv2.getNumThreads() == expected


def test_decoding_takes_the_share(
    limit: Callable[[float], None], make_video: Callable[..., Path], tmp_path: Path
) -> None:
    video = make_video(tmp_path / "v.mp4")

    def taken(cpus: float) -> int:
        limit(cpus)
        before = running()
        with closing(read_frames(video, Clip())) as frames:
            next(frames)
            return running() - before

    assert taken(5) - taken(1) >= 4, "one thread decodes in the caller's own"


def test_mediapipe_takes_no_threads_of_its_own(limit: Callable[[float], None]) -> None:
    if reason := why_unusable("mediapipe"):
        pytest.skip(reason)
    frame = np.full((96, 64, 3), 200, np.uint8)

    def taken(cpus: float) -> int:
        limit(cpus)
        before = running()
        with closing(MediaPipeEstimator()) as estimator:
            estimator.setup()
            estimator.start()
            estimator([frame])
            return running() - before

    assert min(taken(6) for _ in range(3)) <= 0, "those of other libraries come and go"


def cgroups(system: Path, groups: str, files: dict[str, str]) -> Path:
    """A root of files in which Linux tells of control groups: those of a process, and their limits."""
    for name, text in {"proc/self/cgroup": groups, **files}.items():
        (system / name).parent.mkdir(parents=True, exist_ok=True)
        (system / name).write_text(text)
    return system


V2, V1 = "sys/fs/cgroup", "sys/fs/cgroup/cpu,cpuacct"
NO_QUOTA, ONE_CORE = {f"{V2}/a/cpu.max": "max 100000\n"}, {f"{V2}/a/cpu.max": "100000 100000\n"}


@pytest.mark.parametrize(
    ("groups", "files", "one"),
    [
        ("0::/a/b\n", NO_QUOTA, False),
        ("0::/a/b\n", ONE_CORE, True),
        ("0::/a/b\n", {**ONE_CORE, f"{V2}/a/b/cpu.max": "900000 100000\n"}, True),
        ("0::/\n", {f"{V2}/cpu.max": "150000 100000\n"}, True),
        ("0::/\n", {f"{V2}/cpu.max": "5000 100000\n"}, True),
        ("0::/hidden\n", {f"{V2}/cpu.max": "100000 100000\n"}, True),
        (
            "4:cpu,cpuacct:/docker/x\n",
            {f"{V1}/cpu.cfs_quota_us": "-1", f"{V1}/cpu.cfs_period_us": "1000"},
            False,
        ),
        (
            "4:cpu,cpuacct:/docker/x\n",
            {f"{V1}/cpu.cfs_quota_us": "1000", f"{V1}/cpu.cfs_period_us": "1000"},
            True,
        ),
        ("4:cpuset:/a\n", {f"{V2}/cpuset/a/cpu.max": "1 1"}, False),
    ],
)
def test_quotas_of_control_groups_count(
    tmp_path: Path, groups: str, files: dict[str, str], one: bool
) -> None:
    expected = 1 if one else len(os.sched_getaffinity(0))
    assert threads.usable_cpus(cgroups(tmp_path, groups, files)) == expected
    assert threads.usable_cpus(tmp_path / "nowhere") == len(os.sched_getaffinity(0))


def test_a_process_of_one_core_takes_one_thread_and_gives_ray_one_core() -> None:
    """As under `srun --cpus-per-task=1`: in a process of its own, for the choice is for good."""
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("there is one core")
    script = """
import os
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
from posedance.pipeline.workers.ray_actor import start_ray
from posedance.stages.threads import heed_usable_cpus, thread_limit
heed_usable_cpus()
import ray, torch
start_ray(None)
print(thread_limit(), torch.get_num_threads(), ray.cluster_resources()["CPU"])
ray.shutdown()
"""
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["1", "1", "1.0"]
