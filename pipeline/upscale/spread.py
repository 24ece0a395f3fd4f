"""The frames of one video painted by many workers: Ray actors that each have the model open.

Frames come back in their order, and each is painted from itself alone, so the video is the same for any
number of workers. A worker that dies costs the frames that it had.
"""

from collections import deque
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ...stages.allocator import keep_freed_memory
from ...stages.errors import PosedanceError
from ...stages.threads import limit_threads
from ...stages.types import Resources
from ..animate.spread import share_of
from ..character.painter import open_painter
from ..job.inputs import with_whole_paths
from ..workers.ray_actor import end_actor, end_ray, one_line, start_actor, start_ray
from ..workers.window_pool import CALLS_AHEAD, LONGEST_CALL_S, MAX_LOSSES, LostWorker
from .enlarge import Enlarging, enlarge
from .options import UpscaleOptions


class FrameWorker:
    """What runs inside an actor: the model, ready to paint frames."""

    def __init__(self, how: Enlarging, threads: int) -> None:
        self._how, self._threads = how, threads
        self._painter: Any = None

    def paint(self, frame: np.ndarray) -> np.ndarray:
        """A frame uint8 [H, W, 3], painted larger; at the first the model is opened."""
        if self._painter is None:
            keep_freed_memory()
            self._painter = open_painter(
                "", self._how.options, "upscale", self._how.device, self._how.precision
            )
            limit_threads(self._threads)
        return enlarge(self._painter, self._how, frame)


class Workers(Protocol):
    """How a pool reaches its workers."""

    def start(self) -> Any:
        """Start a new worker; it is returned before it is ready."""
        ...

    def paint(self, worker: Any, frame: np.ndarray) -> Any:
        """Send a worker a frame; returns the call."""
        ...

    def result(self, call: Any) -> np.ndarray:
        """What a call brought, when it has. LostWorker where its worker died or hangs."""
        ...

    def stop(self, worker: Any) -> None:
        """End a worker at once."""
        ...


class RayWorkers:
    """Workers on Ray, each a `FrameWorker` of these arguments."""

    def __init__(self, resources: Resources, *arguments: Any) -> None:
        import ray.exceptions

        self._ray: Any = ray
        self._start = partial(start_actor, FrameWorker, resources, *arguments)

    def start(self) -> Any:
        return self._start()

    def paint(self, worker: Any, frame: np.ndarray) -> Any:
        return worker.paint.remote(frame)

    def result(self, call: Any) -> np.ndarray:
        errors = self._ray.exceptions
        try:
            return self._ray.get(call, timeout=LONGEST_CALL_S)
        except errors.RayTaskError as error:
            raise error.cause from error
        except errors.GetTimeoutError as error:
            raise LostWorker(f"no progress for {LONGEST_CALL_S:.0f} s: the worker was ended") from error
        except (errors.RayActorError, errors.ObjectLostError) as error:
            raise LostWorker(one_line(error)) from error

    def stop(self, worker: Any) -> None:
        end_actor(worker)


@dataclass(slots=True)
class Order:
    """A frame that a worker, by its number, is to paint."""

    number: int
    frame: np.ndarray
    call: Any


class FramePool:
    """`size` workers that paint frames; each has CALLS_AHEAD of them at most."""

    def __init__(self, workers: Workers, size: int) -> None:
        self.workers: list[Any] = []
        self._reach, self._size = workers, size
        self._orders: deque[Order] = deque()
        self._losses = 0

    def paint(self, frames: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
        """The frames, painted, in their order."""
        for count, frame in enumerate(frames):
            if len(self._orders) == CALLS_AHEAD * self._size:
                yield self._next()
            number = count % self._size
            if number == len(self.workers):
                self.workers.append(self._reach.start())
            self._orders.append(Order(number, frame, self._reach.paint(self.workers[number], frame)))
        while self._orders:
            yield self._next()

    def close(self) -> None:
        """End all workers at once."""
        for worker in self.workers:
            self._reach.stop(worker)
        self.workers.clear()

    def _next(self) -> np.ndarray:
        """The earliest frame; a worker that died is replaced and gets its frames again."""
        while True:
            order = self._orders[0]
            try:
                painted = self._reach.result(order.call)
            except LostWorker as error:
                self._replace(order.number, error)
            else:
                self._losses = 0
                self._orders.popleft()
                return painted

    def _replace(self, number: int, error: LostWorker) -> None:
        self._losses += 1
        if self._losses > MAX_LOSSES:
            raise PosedanceError(
                f"{self._losses} workers died one after the other: {error}: see the logs of Ray, then "
                "run the same command again to go on"
            ) from error
        self._reach.stop(self.workers[number])
        self.workers[number] = self._reach.start()
        for order in self._orders:
            if order.number == number:
                order.call = self._reach.paint(self.workers[number], order.frame)


def paint_on_ray(
    workers: int, address: str | None, how: Enlarging, frames: Iterator[np.ndarray]
) -> Iterator[np.ndarray]:
    """Paint frames on `workers` Ray actors. Ray is started where it is not, at the first frame."""
    import ray
    import torch

    own = how.options.model_dump(include=set(UpscaleOptions.model_fields))
    there = with_whole_paths({"upscaler": own}, Path.cwd())["upscaler"]
    how = replace(how, options=UpscaleOptions.model_validate(there))
    owned = start_ray(address)
    try:
        share = share_of(ray.cluster_resources(), workers, how.device)
        reach = RayWorkers(share, how, torch.get_num_threads())
        with closing(FramePool(reach, workers)) as pool:
            yield from pool.paint(frames)
    finally:
        if owned:
            end_ray()
