"""Threads: what is said of the cores reaches every library. Counted where the kernel lists them."""

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from posedance.stages import threads
from posedance.stages.media.video import Clip, read_frames
from posedance.stages.pose.estimators import why_unusable
from posedance.stages.pose.mediapipe import MediaPipeEstimator

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


def test_mediapipe_takes_the_share(limit: Callable[[float], None]) -> None:
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

    assert taken(6) - taken(2) == 4
