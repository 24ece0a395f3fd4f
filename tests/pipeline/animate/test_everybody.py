"""`pose --person all`: a pose file for each person, the numbers on the video, and what is not made again."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from posedance.pipeline.animate.everybody import pose_everybody
from posedance.pipeline.animate.tools import Tools
from posedance.pipeline.config import AnimateConfig, ClipConfig, EstimatorConfig
from posedance.pipeline.job.job import open_job
from posedance.stages.media.encode import VideoWriter
from posedance.stages.media.video import Clip, read_frames
from posedance.stages.pose.base import Detections, detections
from posedance.stages.pose.files import load_poses

FRAMES = 12
SIZE = (96, 64)
SHAPE = np.random.default_rng(0).uniform(0, 1, (133, 2))


class TwoPeople:
    """An estimator that sees one person at the right in all frames, and one at the left from frame 2 on."""

    def __init__(self) -> None:
        self.frame = 0

    def start(self, *, static: bool = False) -> None:
        self.frame = 0

    def __call__(self, frames: Sequence[np.ndarray]) -> list[Detections]:
        found = []
        for _ in frames:
            right, left = (
                ((SHAPE * SIZE[0] / 4 + (x * SIZE[0], SIZE[1] / 3)).astype(np.float32), np.full(133, 0.9))
                for x in (0.7, 0.1)
            )
            found.append(detections([right, left] if self.frame >= 2 else [right], *SIZE))
            self.frame += 1
        return found


class Stub(Tools):
    """Tools that have this estimator, and count how often it is asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0

    @contextmanager
    def estimator(self, options: EstimatorConfig) -> Iterator[TwoPeople]:
        self.asked += 1
        yield TwoPeople()


def test_everybody_gets_a_file_and_a_number(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    video = tmp_path / "dance.mp4"
    with VideoWriter(video, *SIZE, Fraction(12), None, crf=30, preset="veryfast") as writer:
        for _ in range(FRAMES):
            writer.write(np.zeros((SIZE[1], SIZE[0], 3), np.uint8))
    config = AnimateConfig(driving=video, output=tmp_path / "out", stride=1, smooth=0)
    tools = Stub()
    with open_job(config.output) as job, caplog.at_level("INFO"):
        paths = pose_everybody(config, job, tools)
        assert pose_everybody(config, job, tools) == paths and tools.asked == 1
    names = ["poses_1.npz", "poses_2.npz", "overlay.mp4", "contact_sheet.png"]
    assert [path.name for path in paths] == names and all(path.is_file() for path in paths)
    left, right = (load_poses(path) for path in paths[:2])
    assert left.scores.any(1).tolist() == [False] * 2 + [True] * 10 and right.scores.any(1).all()
    assert left.keypoints[5, 0, 0] < SIZE[0] / 2 < right.keypoints[5, 0, 0]
    assert "person 1: in 10 of 12 frames" in caplog.text and "person 2: in 12 of 12" in caplog.text
    assert len(list(read_frames(paths[2], Clip()))) == FRAMES
    with open_job(config.output) as job:
        later = pose_everybody(config.model_copy(update={"stride": 8}), job, tools)
    assert [path.name for path in later] == names[:1] + names[2:] and tools.asked == 2
    assert not paths[1].exists(), "of the two frames none shows the second person"


def test_all_is_for_pose_alone():
    assert ClipConfig(person="all").person == "all"
    with pytest.raises(ValueError, match="all is for the command pose"):
        AnimateConfig(person="all")
