"""The figure of paper in commands: `pose --reference`, and `animate --model cutout`."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from helpers import SIZE, add_dance, add_picture

from posedance.pipeline.animate import paper
from posedance.pipeline.animate.graph import step_keys
from posedance.pipeline.animate.pose import POSE_GRAPH, pose
from posedance.pipeline.animate.video import Video
from posedance.pipeline.config import AnimateConfig, PoseConfig
from posedance.stages.errors import ConfigError
from posedance.stages.media.picture import read_picture
from posedance.stages.media.video import Clip, probe, read_frames


@pytest.fixture
def dance(make_video, tmp_path: Path) -> AnimateConfig:
    """A drawn character, a dance of 8 frames, and a video with sound from which it is said to be."""
    add_dance(tmp_path, "poses", 2, 8)
    add_picture(tmp_path, "ref", 3)
    make_video(tmp_path / "driving.mp4", 8, Fraction(15), size=(48, 32), sound=np.zeros(8000, np.float32))
    return AnimateConfig(
        driving=tmp_path / "driving.mp4", stride=1, reference=tmp_path / "ref.png", output=tmp_path / "out"
    )


def test_an_animatic_moves_the_character_and_keeps_the_sound(dance: AnimateConfig, tmp_path: Path) -> None:
    dance.output.mkdir()
    reads = {"poses": (tmp_path / "poses.npz",), "reference": (tmp_path / "ref.npz",)}
    paper.animatic(Video(dance.output, dance, "0", reads, ()), None)
    for name in ("animatic.mp4", "fitted.mp4"):
        info = probe(dance.output / name)
        assert (info.num_frames, info.fps, info.has_audio) == (8, Fraction(15), True)
    frames = np.stack(list(read_frames(dance.output / "animatic.mp4", Clip()))).astype(int)
    assert frames.shape[1:3] == SIZE[::-1]
    assert np.abs(frames[0] - frames[5]).max(-1).mean() > 1, "nobody moves"
    still = read_picture(tmp_path / "ref.png").astype(int)
    assert np.median(np.abs(frames[3] - still)) < 6, "the room is not the picture's"
    assert read_picture(dance.output / "fitted_sheet.png").shape[0] > 4 * 200


def test_pose_asks_for_an_animatic_only_of_a_picture(dance: AnimateConfig) -> None:
    bare = dance.model_copy(update={"reference": None})
    assert {"reference", "animatic"} == {step.name for step in POSE_GRAPH if not step.asked(bare)}
    assert all(step.asked(dance) for step in POSE_GRAPH)
    with pytest.raises(ConfigError, match="--align wan without --reference"):
        pose(PoseConfig(driving=dance.driving, align="wan"))


@pytest.mark.parametrize(
    ("change", "steps"),
    [
        ({"align": "wan"}, {"animatic"}),
        ({"align": "none"}, {"animatic", "reference"}),  # may lack a person
        ({"encode": {"crf": 30}}, {"animatic", "overlay"}),
        ({"max_gap": 3}, {"animatic", "overlay", "poses", "json"}),
    ],
)
def test_keys_of_pose(dance: AnimateConfig, change: dict[str, object], steps: set[str]) -> None:
    if "max_gap" in change:
        change = {"estimator": {"max_gap": 3}}
    other = AnimateConfig.model_validate({**dance.model_dump(), **change})
    before, after = (step_keys(each, POSE_GRAPH) for each in (dance, other))
    assert {name for name in before if before[name] != after[name]} == steps
