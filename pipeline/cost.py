"""`cost`: GPU hours of a video, from the seconds that one window takes on the GPU in question."""

import json
import math
from fractions import Fraction
from pathlib import Path

from ..stages.errors import ConfigError
from ..stages.windows import plan

BENCH_FILE = Path("bench.json")
"""Where `batch --dry-run` looks for what `bench --json bench.json` measured."""
ONE_WINDOW = "one window at one step, bfloat16, GPU"
"""The row of `bench` that has the seconds of a guided window of the full-size model."""
MEASURED = (576, 1024, 24)
"""Width, height and frames of that window."""


def seconds_of_a_window(path: Path) -> float | None:
    """What `bench` measured on a GPU and wrote to `path`; None where there is no such file, or was no GPU.

    Raises ConfigError for a file that `bench` did not write.
    """
    if not path.is_file():
        return None
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))["gpu"]
        return float(rows[ONE_WINDOW]["ours_s"]) if rows else None
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path} is not what `run.py bench --json` writes: move it away") from error


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
