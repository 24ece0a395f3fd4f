"""Videos that tests of encoding write, and what is in them."""

from fractions import Fraction
from pathlib import Path

import numpy as np

from posedance.stages.media.encode import VideoWriter


def moving(count: int, width: int = 64, height: int = 48):
    """Frames with something to code: a gradient that drifts."""
    y, x = np.mgrid[:height, :width]
    for index in range(count):
        yield np.stack([(x * 3 + index * 5) % 256, (y * 4) % 256, (x + y + index) % 256], -1).astype(np.uint8)


def write_video(path: Path, frames, fps=Fraction(30), audio=None, **options) -> Path:
    frames = list(frames)
    height, width = frames[0].shape[:2]
    with VideoWriter(path, width, height, fps, audio, **options) as writer:
        for frame in frames:
            writer.write(frame)
    return path
