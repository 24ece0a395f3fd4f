"""Frames over many workers: in their order, the same for any number, and what a killed process costs."""

import os
import signal
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch

from posedance.pipeline.animate.tools import Tools
from posedance.pipeline.upscale.enlarge import Enlarging, paint_here
from posedance.pipeline.upscale.options import UpscaleOptions
from posedance.pipeline.upscale.spread import FramePool, RayWorkers, paint_on_ray
from posedance.pipeline.workers.window_pool import LostWorker
from posedance.stages.errors import PosedanceError
from posedance.stages.types import Resources

HOW = Enlarging(UpscaleOptions(steps=2, strength=0.5, tile=64, overlap=16), 2, "cpu", None)


def frames(count: int) -> Iterator[np.ndarray]:
    rng = np.random.default_rng(0)
    return (rng.integers(0, 256, (16, 24, 3), np.uint8) for _ in range(count))


class Workers:
    """Workers that paint at once; those in `dying` die at a call of that number, counted over all."""

    def __init__(self, dying: set[int]) -> None:
        self.dying, self.calls, self.started, self.open = dying, 0, 0, 0

    def start(self) -> int:
        self.started += 1
        self.open += 1
        return self.started

    def paint(self, worker: int, frame: np.ndarray) -> tuple[int, np.ndarray]:
        self.calls += 1
        return self.calls, frame + 1

    def result(self, call: tuple[int, np.ndarray]) -> np.ndarray:
        number, painted = call
        if number in self.dying:
            raise LostWorker("killed")
        return painted

    def stop(self, worker: int) -> None:
        self.open -= 1


def test_frames_keep_their_order_when_workers_die() -> None:
    workers = Workers({3, 8})
    pool = FramePool(workers, 2)
    taken: list[int] = []
    given = (frame for frame in frames(7) if taken.append(1) is None)
    made = []
    for number, painted in enumerate(pool.paint(given)):
        assert len(taken) <= number + 1 + 2 * 2, "no more is read ahead than the workers have at once"
        made.append(painted)
    assert all(np.array_equal(ours, frame + 1) for ours, frame in zip(made, frames(7), strict=True))
    assert workers.started == 4
    pool.close()
    assert workers.open == 0


def test_workers_that_die_without_end_are_told() -> None:
    with pytest.raises(PosedanceError, match="6 workers died one after the other: killed"):
        list(FramePool(Workers(set(range(100))), 2).paint(frames(3)))


@pytest.mark.slow
def test_the_same_frames_for_any_number_of_workers_also_when_one_is_killed(ray_here: Any) -> None:
    tools = Tools()
    alone = list(partial(paint_here, tools.painter)(HOW, frames(6)))
    reach = RayWorkers(Resources(0.5), HOW, torch.get_num_threads())
    pool = FramePool(reach, 2)
    made = []
    for number, frame in enumerate(pool.paint(frames(6))):
        made.append(frame)
        if number == 1:
            worker = pool.workers[0]
            os.kill(ray_here.get(worker.__ray_call__.remote(lambda self: os.getpid())), signal.SIGKILL)
    pool.close()
    assert all(np.array_equal(*pair) for pair in zip(made, alone, strict=True))
    assert all(
        np.array_equal(*pair) for pair in zip(paint_on_ray(1, None, HOW, frames(2)), alone[:2], strict=True)
    )
