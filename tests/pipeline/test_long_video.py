"""A long video needs no more memory than a short one: 3000 frames, each stage watched from inside."""

import json
import subprocess
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from posedance.stages.generate import load_generator, save_generator
from posedance.stages.picture import write_png
from posedance.stages.pose.files import save_poses
from posedance.stages.types import PoseSequence

FRAMES = 3000
SIDE = 64
FRAME_BYTES = SIDE * SIDE * 3
"""Of one frame as it is decoded; as floats it would be four times as much."""

WATCHED = """
import json, sys
from pathlib import Path
from posedance.pipeline import report
from posedance.pipeline.animate import animate
from posedance.pipeline.config import AnimateConfig
from posedance.pipeline.progress import observed

report.PANEL_HEIGHT = 64  # as large as the frames are: the encoder would take most of the time
seen = {}

def watch(stage, done, total):
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    seen.setdefault(stage, []).append((done, total, pages * 4096))

with observed(watch):
    animate(AnimateConfig(**json.loads(sys.argv[1])))
print(json.dumps(seen))
"""


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_memory_is_flat_over_3000_frames_at_every_stage(tmp_path: Path) -> None:
    tiny = load_generator("tiny-random")
    small = replace(tiny.defaults, width=SIDE, height=SIDE, control_canvas=SIDE, steps=1, guidance_scale=1.0)
    tiny.defaults = replace(small, window_size=24, window_overlap=1)
    save_generator(tiny, tmp_path / "model")
    rng = np.random.default_rng(0)
    places = rng.uniform(8, SIDE - 8, (133, 2)) + rng.normal(0, 1, (FRAMES, 133, 2))
    dance = PoseSequence(
        places.astype(np.float32), np.ones((FRAMES, 133), np.float32), (SIDE, SIDE), Fraction(30)
    )
    save_poses(tmp_path / "dance.npz", dance)
    write_png(tmp_path / "ref.png", np.full((SIDE, SIDE, 3), 90, np.uint8))
    save_poses(tmp_path / "ref.npz", dance[:1])
    options = {
        "pose": str(tmp_path / "dance.npz"),
        "reference": str(tmp_path / "ref.png"),
        "model": str(tmp_path / "model"),
        "output": str(tmp_path / "out"),
        "memory_limit": 0.1,
        "encode": {"preset": "veryfast"},
    }
    run = subprocess.run(
        [sys.executable, "-c", WATCHED, json.dumps(options)], capture_output=True, text=True, timeout=850
    )
    assert run.returncode == 0, run.stderr
    stages = json.loads(run.stdout)
    assert set(stages) == {"draw", "denoise", "decode", "comparison"}
    grown = {}
    for stage, seen in stages.items():
        total = seen[-1][1]
        assert seen[-1][0] == total > 100
        # by the middle, what may be kept between steps (within the memory limit) is full
        early = max(size for done, _, size in seen if done <= total // 2)
        late = max(size for done, _, size in seen)
        grown[stage] = late - early
    assert max(grown.values()) < FRAMES * FRAME_BYTES / 4, grown  # half of the frames would be twice as much
