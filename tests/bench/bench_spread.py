"""What spreading a video over workers costs: windows are predicted by workers that sleep as long as a UNet.

    python tests/bench/bench_spread.py                            # up to 64 workers: threads
    python tests/bench/bench_spread.py --on ray --workers 2 4 8   # real actors, real messages

The pool, its order of work, the blending and the stepping are those of `animate --workers`, on latents of
576x1024; only the UNet is missing. With `--on threads` a worker is a thread of this process and a message a
copy of its array, so that 64 workers fit on any machine: what Ray adds to a message is not in it. With
`--on ray` a worker is an actor (about 0.2 GB), and all of them share the cores of this machine.

Efficiency is the time that windows need over the time that workers were there, of a whole video from the end
of its setup to its last step. Beside it stand what it could be at most if each step waited for the end of the
one before, W / (N ceil(2 W / N) / 2) of W windows on N workers, and what the same order of work has on a
clock that counts sleep alone. What is missing to the latter, in seconds a step and in parts, is all that the
driver and the messages cost.
"""

import argparse
import math
import os
import queue
import threading
import time
from typing import Any

import numpy as np
import torch

from posedance.pipeline.workers.window_pool import Part, WindowPool, WindowQueue
from posedance.stages.svd.denoising import Denoising
from posedance.stages.windows import plan

CALL_S = 0.35
"""Seconds of one guided prediction of a window: both halves."""
LATENT = (4, 128, 72)
"""A frame of 576x1024 in latents."""
WINDOW, OVERLAP = 24, 6
GUIDANCE = torch.full((WINDOW,), 3.0)


def predict(step: int, half: bool, latents: np.ndarray) -> np.ndarray:
    """Sleep as long as the UNet works; at step 0, which only waits for all workers, not at all."""
    if step:
        time.sleep(CALL_S / 2 if half else CALL_S)
    return latents


class SleepingActor:
    def setup(self) -> None:
        pass

    def predict(self, step: int, half: bool, latents: np.ndarray) -> np.ndarray:
        return predict(step, half, latents)


class Messages:
    """Counts the bytes that go out and come back."""

    def __init__(self) -> None:
        self.bytes = 0

    def count(self, latents: torch.Tensor) -> np.ndarray:
        self.bytes += 2 * latents.nbytes
        return latents.numpy()


class SleepingActors(Messages):
    """Workers that are Ray actors."""

    def __init__(self) -> None:
        super().__init__()
        import ray

        self.ray: Any = ray
        self.remote: Any = self.ray.remote(SleepingActor).options(num_cpus=0)

    def start(self) -> tuple[Any, Any]:
        actor = self.remote.remote()
        return actor, actor.setup.remote()

    def predict(self, worker: Any, part: Part, latents: torch.Tensor) -> Any:
        half = part.half is not None
        return worker.predict.remote(part.step, half, self.count(latents))

    def wait(self, calls: list[Any], at_most_s: float) -> Any:
        return self.ray.wait(calls, num_returns=1)[0][0]

    def result(self, call: Any) -> torch.Tensor | None:
        v = self.ray.get(call)
        return None if v is None else torch.from_numpy(v.copy())

    def stop(self, worker: Any) -> None:
        self.ray.kill(worker)


class SleepingThreads(Messages):
    """Workers that are threads of this process."""

    def __init__(self) -> None:
        super().__init__()
        self.ended: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.results: dict[Any, Any] = {}
        self.threads: list[threading.Thread] = []

    def start(self) -> tuple[Any, Any]:
        tasks: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.threads.append(threading.Thread(target=self._work, args=(tasks,)))
        self.threads[-1].start()
        return tasks, self._send(tasks, (0, True, np.zeros(0, np.float32)))

    def _send(self, tasks: Any, arguments: Any) -> Any:
        call = object()
        tasks.put((call, arguments))
        return call

    def _work(self, tasks: Any) -> None:
        while (task := tasks.get()) is not None:
            call, arguments = task
            self.results[call] = predict(*arguments)
            self.ended.put(call)

    def predict(self, worker: Any, part: Part, latents: torch.Tensor) -> Any:
        half = part.half is not None
        return self._send(worker, (part.step, half, self.count(latents)))

    def wait(self, calls: list[Any], at_most_s: float) -> Any:
        return self.ended.get()

    def result(self, call: Any) -> torch.Tensor | None:
        v = self.results.pop(call)
        return torch.from_numpy(v.copy()) if v.size else None

    def stop(self, worker: Any) -> None:
        worker.put(None)


class ClockWorkers:
    """Workers of a clock that counts sleep alone."""

    def __init__(self) -> None:
        self.now = 0.0
        self.free: dict[Any, float] = {}
        self.calls: dict[Any, tuple[float, torch.Tensor | None]] = {}

    def start(self) -> tuple[Any, Any]:
        worker, call = object(), object()
        self.free[worker], self.calls[call] = self.now, (self.now, None)
        return worker, call

    def predict(self, worker: Any, part: Part, latents: torch.Tensor) -> Any:
        call, seconds = object(), CALL_S if part.half is None else CALL_S / 2
        self.free[worker] = max(self.now, self.free[worker]) + (seconds if part.step else 0)
        self.calls[call] = self.free[worker], latents
        return call

    def wait(self, calls: list[Any], at_most_s: float) -> Any:
        call = min(calls, key=lambda call: self.calls[call][0])
        self.now = max(self.now, self.calls[call][0])
        return call

    def result(self, call: Any) -> torch.Tensor | None:
        return self.calls.pop(call)[1]

    def stop(self, worker: Any) -> None:
        pass


def run(
    workers: Any, frames: int, latent: tuple[int, ...], count: int, steps: int, now: Any
) -> tuple[float, float]:
    """Seconds by `now`, and processor seconds, of a step."""
    windows = plan("even", frames + 1, WINDOW, OVERLAP)
    ended: list[tuple[float, float]] = []
    denoising = Denoising(torch.zeros(frames + 1, *latent), torch.linspace(1, 0.1, steps + 2), windows)
    queue = WindowQueue(
        denoising, lambda step, slots: GUIDANCE,
        on_step=lambda step, latents: ended.append((now(), time.thread_time())),
    )  # fmt: skip
    pool = WindowPool(workers, count, queue)
    pool.run()
    pool.close()
    step_s, cpu_s = ((b - a) / steps for a, b in zip(ended[0], ended[-1], strict=True))
    return step_s, cpu_s


def measure(workers: Any, frames: int, count: int, steps: int) -> tuple[float, ...]:
    """Efficiency, the two of theory, seconds of a step beyond the second, processor seconds, MB."""
    windows = len(plan("even", frames + 1, WINDOW, OVERLAP))
    step_s, cpu_s = run(workers, frames, LATENT, count, steps, time.perf_counter)
    clock = ClockWorkers()
    clock_s, _ = run(clock, frames, (4, 1, 1), count, steps, lambda: clock.now)
    rounds_s = math.ceil(2 * windows / count) * CALL_S / 2
    efficiency, in_rounds, on_clock = (windows * CALL_S / count / s for s in (step_s, rounds_s, clock_s))
    megabytes = workers.bytes / (steps + 1) / 1e6
    return efficiency, in_rounds, on_clock, step_s - clock_s, cpu_s / windows, megabytes


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--on", choices=("threads", "ray"), default="threads")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4, 8, 16, 32, 64])
    parser.add_argument("--frames", type=int, nargs="+", default=[240, 1200, 3600])
    parser.add_argument("--steps", type=int, default=25)
    options = parser.parse_args()
    if options.on == "ray":
        import ray

        ray.init(address="local", include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    torch.set_num_threads(1)
    print(f"{os.cpu_count()} cores, workers are {options.on}")  # noqa: T201
    print("frames windows workers efficiency in rounds on clock missing s/step, part ms/window MB/step")  # noqa: T201
    for frames in options.frames:
        windows = len(plan("even", frames + 1, WINDOW, OVERLAP))
        for count in options.workers:
            workers = SleepingActors() if options.on == "ray" else SleepingThreads()
            found = measure(workers, frames, count, options.steps)
            efficiency, in_rounds, on_clock, extra_s, cpu_s, megabytes = found
            print(  # noqa: T201
                f"{frames:6} {windows:7} {count:7} {efficiency:10.3f} {in_rounds:9.3f} {on_clock:8.3f}"
                f" {extra_s:14.3f} {1 - efficiency / on_clock:5.1%} {1000 * cpu_s:9.2f} {megabytes:7.1f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
