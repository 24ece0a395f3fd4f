"""The pose stage against a plain loop of MediaPipe's Holistic over the same frames, in turns: ratios.

    python tests/bench/bench_pose.py dance.mp4
    python tests/bench/bench_pose.py dance.mp4 --command      # all of `pose`, overlay and sheet included

Both read the video themselves. The plain loop makes nothing of what it finds; ours follows people, looks a
second time for hands and gives poses. Without a video a drawn dancer of 576x1024 is taken. Wall clock and
processor time are medians of the runs; other work on the machine makes the first unsure.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import mediapipe

from posedance.datasets.puppets.render import make_character, make_motion, render
from posedance.pipeline.animate.pose import pose
from posedance.pipeline.config import PoseConfig
from posedance.stages.media.encode import VideoWriter
from posedance.stages.media.video import Clip, probe, read_frames
from posedance.stages.pose.estimate.mediapipe import MediaPipeEstimator
from posedance.stages.pose.estimate.mediapipe_graph import without_noise
from posedance.stages.pose.follow.track import estimate_poses


def draw(path: Path, frames: int = 96) -> None:
    """A drawn dancer of 576x1024."""
    character, motion = make_character(5), make_motion(1, Fraction(30))
    with VideoWriter(path, 576, 1024, Fraction(30)) as writer:
        for frame in range(frames):
            writer.write(render(character, motion, frame, 576, 1024).image)


def plain_loop(video: Path, stride: int) -> None:
    """Holistic in video mode, as its documentation shows it."""
    with without_noise():
        holistic = mediapipe.solutions.holistic.Holistic()  # pyright: ignore[reportAttributeAccessIssue]
    with holistic, av.open(str(video)) as container:
        for index, frame in enumerate(container.decode(video=0)):
            if index % stride == 0:
                holistic.process(frame.to_ndarray(format="rgb24"))


def pose_stage(video: Path, stride: int) -> None:
    """The frames' poses, as the step `poses` finds them."""
    estimator = MediaPipeEstimator()
    estimator.setup()
    clip = Clip(stride=stride)
    frames, fps = read_frames(video, clip), probe(video).fps / stride
    estimate_poses(frames, estimator, fps=fps, min_score=0.3, max_gap=5, name=video.name)
    estimator.close()


def pose_command(video: Path, stride: int) -> None:
    """The command `pose`: poses, JSON, overlay and contact sheet."""
    with tempfile.TemporaryDirectory() as folder:
        pose(PoseConfig(driving=video, stride=stride, output=Path(folder, "out")))


def timed(work: Callable[[], None]) -> tuple[float, float]:
    """Seconds by the wall clock and of the processor."""
    wall, used = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - used


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("video", type=Path, nargs="?")
    parser.add_argument("--stride", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--command", action="store_true", help="measure the whole command")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        video = options.video
        if video is None:
            video = Path(folder, "dance.mp4")
            draw(video)
        ours = pose_command if options.command else pose_stage
        ways = {"plain Holistic": plain_loop, "ours": ours}
        rows: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
        for _ in range(options.repeats):
            for name, way in ways.items():
                rows[name].append(timed(lambda way=way: way(video, options.stride)))
    medians = {
        name: [statistics.median(row) for row in zip(*runs, strict=True)] for name, runs in rows.items()
    }
    for name, (wall, used) in medians.items():
        print(f"{name:16} {wall:8.2f} s by the clock {used:8.2f} s of the processor")  # noqa: T201
    wall, used = (a / b for a, b in zip(*medians.values(), strict=True))
    print(f"{ours.__name__}: {wall:.2f} times as fast by the clock, {used:.2f} by the processor")  # noqa: T201


if __name__ == "__main__":
    main()
