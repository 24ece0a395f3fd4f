"""One step of a job again, from its saved inputs."""

from collections.abc import Callable
from pathlib import Path

import pytest

from posedance.pipeline.animate import animate
from posedance.pipeline.config import AnimateConfig
from posedance.pipeline.graph import STEPS
from posedance.pipeline.replay import replay
from posedance.stages.errors import ConfigError


def test_a_step_is_made_again_from_what_it_reads(
    tmp_path: Path, add_dance: Callable[..., None], add_picture: Callable[..., None]
) -> None:
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
