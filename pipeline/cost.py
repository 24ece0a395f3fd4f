"""`cost`: GPU hours of a video, from the seconds that one window takes on the GPU in question."""

import math
from fractions import Fraction

from ..stages.windows import plan
from .window_pool import parts_of


def cost(
    minutes: Fraction,
    fps: Fraction,
    window_seconds: float,
    frame_seconds: float,
    workers: int,
    steps: int,
    window_size: int,
    window_overlap: int,
) -> str:
    """What `run.py cost` prints.

    For F frames in W windows, S steps and N workers, with t_w seconds for a guided window and t_f to decode a
    frame: a step takes ceil(2 W / N) / 2 rounds of t_w, and

        GPU hours = N (S ceil(2 W / N) / 2 t_w) / 3600 + F t_f / 3600

    The first part counts workers that wait in a round; the last, decoding, is done by one GPU.
    """
    frames = max(1, round(60 * minutes * fps))
    windows = len(plan("even", frames + 1, window_size, window_overlap))
    halves = sum(2 if part.half is None else 1 for part in parts_of(windows, workers, guided=True))
    rounds = math.ceil(halves / workers) / 2
    sampling_s, decoding_s = steps * rounds * window_seconds, frames * frame_seconds
    hours = (workers * sampling_s + decoding_s) / 3600
    return "\n".join(
        [
            f"frames      {frames} in {windows} windows of {window_size}, overlap {window_overlap}",
            f"work        {steps * windows} predictions of a window in {steps} steps: "
            f"{steps * windows * window_seconds:.1f} GPU seconds, and {decoding_s:.1f} for decoding",
            f"workers     {workers}: {rounds:g} rounds a step, efficiency {windows / (workers * rounds):.3f}",
            f"time        {sampling_s + decoding_s:.1f} s",
            f"GPU hours   {hours:.4f}, which is {hours / float(minutes):.4f} for each minute of video",
        ]
    )
