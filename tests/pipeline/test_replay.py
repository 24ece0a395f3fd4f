"""One step of a job again, from its saved inputs."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from posedance.datasets.puppets import make_character, make_motion, reference_pose, render
from posedance.pipeline.animate import animate
from posedance.pipeline.config import AnimateConfig
from posedance.pipeline.graph import STEPS
from posedance.pipeline.replay import replay
from posedance.stages.errors import ConfigError
from posedance.stages.picture import write_png
from posedance.stages.pose.files import save_poses
from posedance.stages.types import PoseSequence

SIZE = (144, 256)


def test_a_step_is_made_again_from_what_it_reads(tmp_path: Path) -> None:
    frames = [render(make_character(5), make_motion(1, Fraction(15)), frame, *SIZE) for frame in range(4)]
    keypoints, scores = np.stack([f.keypoints for f in frames]), np.stack([f.scores for f in frames])
    save_poses(tmp_path / "dance.npz", PoseSequence(keypoints, scores, SIZE, Fraction(15)))
    still = render(make_character(6), reference_pose(6), 0, *SIZE)
    write_png(tmp_path / "ref.png", still.image)
    own = PoseSequence(still.keypoints[None], still.scores[None], SIZE, Fraction(1))
    save_poses(tmp_path / "ref.npz", own)
    output = tmp_path / "out"
    config = AnimateConfig(
        pose=tmp_path / "dance.npz",
        reference=tmp_path / "ref.png",
        model="tiny-random",
        steps=1,
        output=output,
    )
    animate(config)
    for step in STEPS:
        before = {path: path.stat().st_mtime_ns for path in (output / ".work" / "records").iterdir()}
        contents = {path.name: path.read_bytes() for path in replay(output, step)}
        changed = {path.stem for path, at in before.items() if path.stat().st_mtime_ns != at}
        assert changed == {step}
        assert contents == {path.name: path.read_bytes() for path in replay(output, step)}
    (output / ".work" / "latents.safetensors").unlink()
    with pytest.raises(ConfigError, match=r"step result reads .*latents.safetensors"):
        replay(output, "result")


@pytest.mark.parametrize(
    ("step", "expected"), [("denoise", "no step 'denoise'"), ("poses", "not a job folder")]
)
def test_what_is_not_there_is_told(tmp_path: Path, step: str, expected: str) -> None:
    with pytest.raises(ConfigError, match=expected):
        replay(tmp_path, step)
