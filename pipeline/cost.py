"""`cost`: GPU hours of a video, from the seconds that one window takes on the GPU in question."""

import math
from fractions import Fraction

from ..stages.windows import plan


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
    frame: no worker waits for the end of a step, but a window waits for its own last step, and its two halves
    are the least that a worker does. Sampling takes S max(W / N, 1/2) t_w, up to a last round, and

        GPU hours = N (ceil(2 S max(W / N, 1/2)) t_w / 2) / 3600 + F t_f / 3600

    The first part counts workers that have nothing to do; the last, decoding, is done by one GPU.
    """
    frames = max(1, round(60 * minutes * fps))
    windows = len(plan("even", frames + 1, window_size, window_overlap))
    halves = math.ceil(steps * max(Fraction(2 * windows, workers), 1))
    sampling_s, decoding_s = halves * window_seconds / 2, frames * frame_seconds
    hours = (workers * sampling_s + decoding_s) / 3600
    return "\n".join(
        [
            f"frames      {frames} in {windows} windows of {window_size}, overlap {window_overlap}",
            f"work        {steps * windows} predictions of a window in {steps} steps: "
            f"{steps * windows * window_seconds:.1f} GPU seconds, and {decoding_s:.1f} for decoding",
            f"workers     {workers}: efficiency {2 * steps * windows / (workers * halves):.3f}",
            f"time        {sampling_s + decoding_s:.1f} s",
            f"GPU hours   {hours:.4f}, which is {hours / float(minutes):.4f} for each minute of video",
        ]
    )
