"""One step of a job again, from its saved inputs."""

from pathlib import Path

import pytest
from helpers import add_dance, add_picture, made_at

from posedance.pipeline.animate.animate import animate
from posedance.pipeline.animate.graph import steps_of
from posedance.pipeline.animate.replay import replay
from posedance.pipeline.config import AnimateConfig, write_yaml
from posedance.pipeline.job.job import open_job, write_text
from posedance.stages.errors import ConfigError


def test_a_step_is_made_again_from_what_it_reads(tmp_path: Path) -> None:
    add_dance(tmp_path, "dance", 1)
    add_picture(tmp_path, "ref", 6)
    output = tmp_path / "out"
    config = AnimateConfig(
        pose=tmp_path / "dance.npz",
        reference=tmp_path / "ref.png",
        model="tiny-random",
        steps=1,
        output=output,
    )
    animate(config)
    for step in (step.name for step in steps_of(config)):
        before = made_at(output)
        contents = {path.name: path.read_bytes() for path in replay(output, step)}
        assert {name for name, at in made_at(output).items() if before[name] != at} == {step}
        assert contents == {path.name: path.read_bytes() for path in replay(output, step)}
    (output / ".work" / "latents.safetensors").unlink()
    with pytest.raises(ConfigError, match=r"step result reads .*latents.safetensors"):
        replay(output, "result")


def test_a_job_whose_inputs_are_gone_is_left_as_it_is(tmp_path: Path) -> None:
    add_dance(tmp_path, "dance", 1)
    add_picture(tmp_path, "ref", 6)
    (tmp_path / "out").mkdir()
    config = AnimateConfig(
        pose=tmp_path / "dance.npz", reference=tmp_path / "ref.png", output=tmp_path / "out"
    )
    write_text(tmp_path / "out" / "config.yaml", write_yaml(config))
    with open_job(tmp_path / "out") as job:
        job.commit("poses", "key", [])
    (tmp_path / "dance.npz").rename(tmp_path / "moved.npz")
    with pytest.raises(ConfigError, match=r"there is no file .*dance\.npz"):
        replay(tmp_path / "out", "poses")
    assert job.is_done("poses", "key")


@pytest.mark.parametrize(
    ("step", "expected"), [("denoise", "no step 'denoise'"), ("poses", "not a job folder")]
)
def test_what_is_not_there_is_told(tmp_path: Path, step: str, expected: str) -> None:
    with pytest.raises(ConfigError, match=expected):
        replay(tmp_path, step)
