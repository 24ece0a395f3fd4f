"""What lives on a GPU that is not there, beside what the memory plan promises.

    python tests/bench/bench_memory.py            # the table of docs/benchmarks.md: 15 minutes of a core
    python tests/bench/bench_memory.py --free 8 12 --size 768x768 --order published

The full-size generator makes 29 frames in 2 steps on a device without data (tests/pretended_gpu.py, which
needs a C++ compiler), for each number of GiB that are free there. `allocator` is the least memory in which a
model of torch's allocator (tests/cuda_allocator.py) finds room for the same tensors; workspaces of kernels
come on top.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
from cuda_allocator import least
from pretended_gpu import DEVICE, NoDeviceError, load_guard, pretended_gpu

from posedance.pipeline.evaluate.bench.svd import full_generator
from posedance.stages.errors import DeviceMemoryError

GIB = 1 << 30
FREE = (6, 8, 10, 10.5, 10.75, 11, 12, 16, 24, 80)
FRAMES = 30
HEAD = "| GiB free | size | order | plan | denoising | decoding | allocator | plan/trace | decoded | away |"


def row(free: float, width: int, height: int, schedule: str) -> str:
    """One plan, traced: a row of the table."""
    start = f"| {free:g} | {width}x{height} | {schedule} |"
    with pretended_gpu(int(free * GIB), pytest.MonkeyPatch()) as gpu:
        generator = full_generator("cpu").to(DEVICE, torch.bfloat16)
        settings = replace(generator.settings(), steps=2, schedule=schedule)
        try:
            plan = generator.plan_memory(FRAMES, width, height, settings)
        except DeviceMemoryError as error:
            return f"{start} refused: {error} |"
        pixels = np.zeros((FRAMES, height, width, 3), np.uint8)
        made: list[torch.Tensor] = []
        denoising = gpu.peak_of(lambda: made.append(generator.denoise(pixels[0], pixels, settings)))
        decoding = gpu.peak_of(lambda: list(generator.decode(made[0], settings)))
    peak = max(denoising, decoding)
    away = "always" if plan.offload else "while decoding" if plan.offload_decoding else "never"
    sizes = (plan.peak, denoising, decoding, least(gpu.events, peak, plan.budget))
    cells = [
        *(f"{size / GIB:.2f}" for size in sizes),
        f"{plan.peak / peak:.2f}",
        f"{plan.decode_chunk}",
        away,
    ]
    return f"{start} {' | '.join(cells)} |"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--free", type=float, nargs="+", default=FREE, help="GiB")
    parser.add_argument("--size", nargs="+", default=["576x1024", "768x768"])
    parser.add_argument("--order", nargs="+", default=["fast", "published"])
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        try:
            load_guard(Path(folder))
        except NoDeviceError as error:
            sys.exit(str(error))
    print(HEAD, flush=True)  # noqa: T201
    for schedule in options.order:
        for size in options.size:
            for free in options.free:
                print(row(free, *map(int, size.split("x")), schedule), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
