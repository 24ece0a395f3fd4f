"""A long video needs no more memory than a short one: 3000 frames, each stage watched from inside."""

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from posedance.stages.media.encode import VideoWriter
from posedance.stages.media.picture import write_png
from posedance.stages.models import load_generator, save_generator

FRAMES = 3000
SIDE, WIDTH, HEIGHT = 128, 48, 32
"""Pixels of the driving video, and of the result."""
DRIVING_BYTES, FRAME_BYTES = 3 * SIDE * SIDE, 3 * WIDTH * HEIGHT
"""Of a frame as it is decoded; as floats it would be four times as much."""
WATCHED = Path(__file__).with_name("watched_animate.py")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_memory_is_flat_over_3000_frames_at_every_stage(tmp_path: Path) -> None:
    tiny = load_generator("tiny-random")
    small = replace(tiny.defaults, width=WIDTH, height=HEIGHT, control_canvas=HEIGHT, window_size=24)
    tiny.defaults = replace(small, window_overlap=1, steps=1, guidance_scale=1.0)
    save_generator(tiny, tmp_path / "model")
    with VideoWriter(tmp_path / "dance.mp4", SIDE, SIDE, Fraction(30), preset="veryfast") as writer:
        for picture in spot(FRAMES):
            writer.write(picture)
    write_png(tmp_path / "ref.png", next(spot(1)))
    options = {
        "driving": str(tmp_path / "dance.mp4"),
        "stride": 1,
        "reference": str(tmp_path / "ref.png"),
        "model": str(tmp_path / "model"),
        "output": str(tmp_path / "out"),
        "memory_limit": 0.06,
        "accept_poses": True,  # the spot jumps from pixel to pixel
        "encode": {"preset": "veryfast"},
    }
    command = [sys.executable, str(WATCHED), json.dumps(options)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=850)
    assert run.returncode == 0, run.stderr
    stages = json.loads(run.stdout)
    assert set(stages) == {"pose", "draw", "denoise", "decode", "comparison"}
    for stage, seen in stages.items():
        total = seen[-1][1]
        assert seen[-1][0] == total > 100
        # by the middle, what may be kept between steps (within the memory limit) is full
        early = max(size for done, _, size in seen if done <= total // 2)
        late = max(size for done, _, size in seen)
        half = FRAMES // 2 * (DRIVING_BYTES if stage == "pose" else FRAME_BYTES)
        assert late - early < half / 2, f"{stage} grew by {late - early} bytes, half of its frames are {half}"


def spot(num_frames: int) -> Iterator[np.ndarray]:
    """A bright spot that goes round on grey noise, uint8 [SIDE, SIDE, 3] each."""
    noise = np.random.default_rng(0).integers(60, 90, (SIDE, SIDE, 3), np.uint8)
    for frame in range(num_frames):
        picture, angle = noise.copy(), frame / 20
        x, y = (int(SIDE / 2 + SIDE / 6 * turn) for turn in (np.cos(angle), np.sin(angle)))
        picture[y - 3 : y + 3, x - 3 : x + 3] = 250
        yield picture
