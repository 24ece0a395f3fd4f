"""How much sooner `--estimator.name dwpose` finds poses than rtmlib's own loop, and how far both are apart.

    python tests/bench/bench_rtm.py --people 2

The networks have the inputs and outputs of YOLOX and DWPose, and their work in about the ratio of yolox_m to
rtmw-dw-l-m (74 to 18 GFLOPs of one picture, here 1.9 to 0.5), but find drawn spots. rtmlib's loop is its
`Wholebody`: detection in each frame, then each person's crop by itself. Both run in turns over one video of
walkers; the ratio is of the medians, by wall clock and by processor time.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from onnx_models import colour_detector, colour_pose, coloured

from posedance.stages.pose.estimate.rtm import DWPOSE, RTMEstimator
from posedance.stages.pose.follow.track import BATCH

SIDE, POSE = 640, (288, 384)
CHANNELS = 128
"""Of the convolution that stands for each network's work, at an eighth of the input's size."""
TALL = 220


def video(count: int, people: int) -> list[np.ndarray]:
    """Frames of one or two people who walk to and fro, uint8 RGB [640, 640, 3] each."""
    sway = 20 * np.sin(np.arange(count) / 8)
    walkers = [[(100 + x, 200 + x / 2, TALL), (540 - x, 220, TALL)][:people] for x in sway]
    return [coloured(SIDE, SIDE, *here) for here in walkers]


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds by wall clock and of processor time."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=40)
    parser.add_argument("--people", type=int, choices=(1, 2), default=1)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    frames = video(options.frames, options.people)
    with tempfile.TemporaryDirectory() as folder:
        detector = colour_detector(Path(folder, "detector.onnx"), SIDE, 1, CHANNELS)
        model = colour_pose(Path(folder, "pose.onnx"), *POSE, 1, CHANNELS)
        from rtmlib import Wholebody

        theirs = Wholebody(str(detector), (SIDE, SIDE), str(model), POSE)
        ours = RTMEstimator(DWPOSE, model, detector, "cpu")
        ours.setup()

        def all_of_ours() -> list[np.ndarray]:
            ours.start()
            batches = (frames[start : start + BATCH] for start in range(0, len(frames), BATCH))
            return [people.keypoints for batch in batches for people in ours(batch)]

        def all_of_theirs() -> list[np.ndarray]:
            return [theirs(frame)[0] for frame in frames]

        apart = [np.linalg.norm(a - b, axis=-1) for a, b in zip(all_of_ours(), all_of_theirs(), strict=True)]
        rounds = [(timed(all_of_ours), timed(all_of_theirs)) for _ in range(options.rounds)]
    for which, name in enumerate(("wall clock", "processor time")):
        mine, other = (statistics.median(each[side][which] for each in rounds) for side in (0, 1))
        sys.stdout.write(
            f"{name}: ours {1000 * mine / len(frames):.1f} ms a frame, rtmlib's loop "
            f"{1000 * other / len(frames):.1f}: {other / mine:.2f} times as fast\n"
        )
    far = np.concatenate([each.ravel() for each in apart]) / TALL
    sys.stdout.write(f"apart: median {np.median(far):.2%}, most {far.max():.2%} of a person's height\n")


if __name__ == "__main__":
    main()
