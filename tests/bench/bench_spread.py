"""What spreading a video over workers costs: windows are predicted by workers that sleep as long as a UNet.

    python tests/bench/bench_spread.py --workers 1 2 4 8 --frames 240 1200

The order of work, the messages and the blending are real. The theory is that of whole rounds: with more
workers than windows, or windows that do not divide evenly, workers wait. Needs about 0.2 GB for each worker.
"""

import argparse
import math
import time

import numpy as np
import ray
import torch

from posedance.pipeline.spread import Seat, WindowPool
from posedance.stages.svd.sampling import denoise
from posedance.stages.windows import plan

CALL_S = 0.35
"""Seconds of one UNet call at full size."""
LATENT = (4, 128, 72)
"""A frame of 576x1024 in latents."""
WINDOW, OVERLAP = 24, 6


class SleepingWorker:
    """Sleeps at every step but the first, which only waits until all workers are there."""

    def setup(self) -> None:
        pass

    def predict(self, step: int, window: int, latents: np.ndarray) -> np.ndarray:
        time.sleep(CALL_S if step else 0.0)
        return latents


def measure(frames: int, workers: int, steps: int) -> tuple[float, float, float, float]:
    """Efficiency measured and in theory, seconds a step beyond the theory, and MB that go out and back."""
    windows = plan("even", frames + 1, WINDOW, OVERLAP)
    seats: list[Seat] = []
    remote = ray.remote(SleepingWorker).options(num_cpus=0)
    pool = WindowPool(seats, workers, remote.remote, windows)
    times = []
    start, sigmas = torch.zeros(frames + 1, *LATENT), torch.linspace(1, 0.1, steps + 2)
    denoise(
        start, sigmas, windows, pool.predict_all, on_step=lambda step, _: times.append(time.perf_counter())
    )
    pool.close()
    step_s = (times[-1] - times[0]) / steps
    rounds = math.ceil(len(windows) / workers)
    megabytes = 2 * len(windows) * WINDOW * math.prod(LATENT) * 4 / 1e6
    work_s = len(windows) * CALL_S
    return work_s / (workers * step_s), len(windows) / (workers * rounds), step_s - rounds * CALL_S, megabytes


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4, 8, 16])
    parser.add_argument("--frames", type=int, nargs="+", default=[240, 1200])
    parser.add_argument("--steps", type=int, default=2)
    options = parser.parse_args()
    ray.init(address="local", include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    print("frames workers  efficiency  theory  beyond theory s/step   MB/step")  # noqa: T201
    for frames in options.frames:
        for workers in options.workers:
            measured, theory, extra, megabytes = measure(frames, workers, options.steps)
            print(f"{frames:6} {workers:7} {measured:11.3f} {theory:7.3f} {extra:21.3f} {megabytes:9.1f}")  # noqa: T201
    ray.shutdown()


if __name__ == "__main__":
    main()
