"""How long the sampler waits for control frames, and how many it reads: read when they are needed, and ahead.

    python tests/bench/bench_control_reads.py

A dance of 60 frames of 576x1024 in 4 steps, in the windows and with the cache of `animate`. The networks are
missing: the control module's features are empty, and the UNet is a sleep as long as half of a guided window
on an H100 is expected to take. As on a GPU with bfloat16, the features of 14 frames stay between steps. Both
ways run in turns; the ratio is of the medians.
"""

import argparse
import statistics
import tempfile
import time
from fractions import Fraction
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from posedance.datasets.puppets.render import make_character, make_motion, render
from posedance.stages.control import ControlModule
from posedance.stages.media.frames import StoredFrames, write_frames
from posedance.stages.pose.render import draw_control_frames
from posedance.stages.svd.sampling import ControlCache
from posedance.stages.types import PoseSequence
from posedance.stages.windows import even

WIDTH, HEIGHT, STEPS, WINDOW, OVERLAP = 576, 1024, 4, 24, 6
CHUNK = 8
"""Control frames that go through the control module together on a GPU that has the memory."""
KEPT = 14
"""Frames whose features stay: 1 GiB of them."""
HALF_S = 0.35
"""Seconds of one half of a guided window; assumed, not measured."""


class EmptyModule(nn.Module):
    """A control module without work, on no device: of each frame a byte stays, for a feature of 73 MB."""

    device, dtype = torch.device("meta"), torch.bfloat16

    def embed_time(self, timestep: Tensor | float, batch: int) -> Tensor:
        return torch.zeros(batch, 0)

    def encode_frames(self, frames: Tensor) -> tuple[Tensor]:
        return (torch.zeros(len(frames), 1, dtype=torch.uint8),)

    def apply_time(self, features: tuple[Tensor], embedding: Tensor) -> Tensor:
        return features[0]


class CountedFrames:
    """Stored frames, how often one was read, and the seconds that it took."""

    def __init__(self, path: Path) -> None:
        self.frames, self.reads, self.seconds = StoredFrames(path), 0, 0.0

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, part: slice) -> np.ndarray:
        before = time.perf_counter()
        found = self.frames[part]
        self.reads, self.seconds = self.reads + len(found), self.seconds + time.perf_counter() - before
        return found


def draw(path: Path, frames: int) -> None:
    """Control frames of a drawn dancer."""
    motion = make_motion(1, Fraction(15))
    shown = [render(make_character(5), motion, frame, WIDTH, HEIGHT) for frame in range(frames)]
    keypoints, scores = (np.stack([getattr(s, name) for s in shown]) for name in ("keypoints", "scores"))
    write_frames(
        path,
        draw_control_frames(PoseSequence(keypoints, scores, (WIDTH, HEIGHT), Fraction(15)), WIDTH, HEIGHT),
    )


def run(path: Path, ahead: bool) -> tuple[float, float, float]:
    """Seconds that the sampler waited, reads, and seconds of a read, of one video."""
    frames, waited = CountedFrames(path), 0.0
    module = cast(ControlModule, EmptyModule())
    cache = ControlCache(module, frames, KEPT, CHUNK, *([] if ahead else [0]))
    windows, sigma = even(len(frames), WINDOW, OVERLAP), torch.ones(())
    for step in range(STEPS):
        for index in range(len(windows)):
            before = time.perf_counter()
            cache(step, sigma, windows[index].control)
            waited += time.perf_counter() - before
            if ahead:
                following = divmod(step * len(windows) + index + 1, len(windows))
                cache.ahead(following[0], windows[following[1]].control)
            time.sleep(2 * HALF_S)
    return waited, frames.reads, frames.seconds / frames.reads


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--frames", type=int, default=61, help="the reference's own included")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "control.zip")
        draw(path, options.frames)
        rows: dict[bool, list[tuple[float, float, float]]] = {False: [], True: []}
        for _ in range(options.repeats):
            for ahead in rows:
                rows[ahead].append(run(path, ahead))
    medians = {
        ahead: [statistics.median(row) for row in zip(*found, strict=True)] for ahead, found in rows.items()
    }
    print(f"{options.frames} frames of {WIDTH}x{HEIGHT}, {STEPS} steps; medians of {options.repeats}")  # noqa: T201
    print("read            reads a frame  ms a read  waited s")  # noqa: T201
    for ahead, (waited, reads, read_s) in medians.items():
        name = "ahead, and kept" if ahead else "when needed"
        print(f"{name:15} {reads / options.frames:13.2f} {1000 * read_s:10.2f} {waited:9.3f}")  # noqa: T201
    print(f"waited: {medians[False][0] / medians[True][0]:.1f} times as long without")  # noqa: T201


if __name__ == "__main__":
    main()
