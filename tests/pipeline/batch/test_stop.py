"""Ending what runs: the whole batch by Ctrl-C, or one of its videos by `cancel`."""

import json
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers import small_batch

from posedance.pipeline.animate.checkpoint import CHECKPOINT
from posedance.pipeline.batch.batch import batch
from posedance.pipeline.batch.cancel import cancel
from posedance.pipeline.batch.status import status
from posedance.pipeline.config import BatchConfig
from posedance.pipeline.job.job import Job
from posedance.pipeline.progress import show_log
from posedance.stages.errors import ConfigError

MANY = 24
"""Steps that take some seconds."""


@pytest.fixture
def two(inputs: Path, tmp_path: Path) -> BatchConfig:
    """A batch of two videos, a and b, in this process."""
    rows = [f"{inputs}/dance1.npz,{inputs}/ref6.png,{seed},{name}" for seed, name in ((1, "a"), (2, "b"))]
    (tmp_path / "m.csv").write_text("\n".join(["pose,reference,seed,name", *rows]))
    return small_batch(tmp_path / "m.csv", tmp_path / "out", steps=MANY)


def once(path: Path, act: Callable[[], object]) -> threading.Thread:
    """Do something as soon as there is a file."""

    def wait() -> None:
        deadline = time.monotonic() + 60
        while not path.exists() and time.monotonic() < deadline:
            time.sleep(0.002)
        act()

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


def test_ctrl_c_says_so_at_once_and_ends_a_step_at_its_checkpoint(
    two: BatchConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    show_log()
    checkpoint = two.output / "a" / CHECKPOINT
    said: list[str] = []

    def interrupt() -> None:
        capsys.readouterr()
        os.kill(os.getpid(), signal.SIGINT)
        deadline = time.monotonic() + 10
        while "once more stops at once" not in "".join(said) and time.monotonic() < deadline:
            said.append(capsys.readouterr().err)

    thread = once(checkpoint, interrupt)
    with pytest.raises(KeyboardInterrupt):
        batch(two)
    thread.join()
    assert "once more stops at once" in "".join(said)
    assert checkpoint.exists() and not Job(two.output / "a").record_path("latents").exists()
    kept = json.loads((two.output / "summary.json").read_text())
    assert kept["videos"] == {"waiting": 2} and kept["retries"] == 0


def test_one_video_is_cancelled_and_the_others_are_made(two: BatchConfig) -> None:
    thread = once(two.output / "a" / CHECKPOINT, lambda: cancel(two.output, "a"))
    assert batch(two) == 3
    thread.join()
    assert "given up: a: a/latents, after 1 attempts: cancelled: `run.py batch` with" in status(two.output)
    assert (two.output / "b" / "result.mp4").exists() and not (two.output / "a" / "result.mp4").exists()
    assert batch(two) == 3, "it stays so"
    with pytest.raises(ConfigError, match="b is done: there is nothing to cancel"):
        cancel(two.output, "b")
    with pytest.raises(ConfigError, match="has no video c"):
        cancel(two.output, "c")
    assert batch(two.model_copy(update={"retry_quarantined": True})) == 0
