"""A dancer taught to a small model: each step once, resumed where it was stopped, and a model that dances."""

import json
import os
import signal
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from posedance.datasets.puppets.render import make_character, make_motion, render
from posedance.pipeline.config import resolve
from posedance.pipeline.teach import teach as module
from posedance.pipeline.teach.config import TeachConfig
from posedance.pipeline.teach.teach import publish, recipe_of, settled, teach
from posedance.pipeline.train.data import DataConfig
from posedance.pipeline.train.loop_config import LoopConfig
from posedance.pipeline.train.train import train
from posedance.stages.errors import ConfigError, OutputError
from posedance.stages.media.encode import VideoWriter
from posedance.stages.models import GENERATORS, load_generator

FRAMES, SIZE = 13, (144, 256)


@pytest.fixture(scope="module")
def shipped(base, config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model in place of the one that is shipped."""
    return train(config(base, tmp_path_factory.mktemp("shipped"), loop={"steps": 1}))


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("dancer") / "dancer.mp4"
    with VideoWriter(path, *SIZE, Fraction(15), preset="veryfast") as writer:
        for frame in range(FRAMES):
            writer.write(render(make_character(5), make_motion(2, Fraction(15)), frame, *SIZE).image)
    return path


def test_a_dancer_is_taught_and_a_stopped_run_goes_on(
    shipped: Path, video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first run is stopped by the signal of Ctrl-C before the network learns."""
    monkeypatch.setattr(module, "PROBE", 1)
    config = TeachConfig(video=video, output=tmp_path / "my-dancer", minutes=1e-6, stride=1)
    job = tmp_path / "my-dancer.job"

    def stopped(*_: object) -> Path:
        os.kill(os.getpid(), signal.SIGINT)
        raise AssertionError("the signal comes first")

    with monkeypatch.context() as patch:
        patch.setattr(module, "train", stopped)
        with pytest.raises(KeyboardInterrupt):
            teach(config, shipped)
    assert not config.output.exists()
    decoder = job / "decoder" / "vae" / "diffusion_pytorch_model.safetensors"
    made = {path: path.stat().st_mtime_ns for path in (job / "shards").iterdir()}
    learned = decoder.read_bytes()
    assert teach(config, shipped) == config.output
    assert made == {path: path.stat().st_mtime_ns for path in (job / "shards").iterdir()}
    assert decoder.read_bytes() == learned
    assert [json.loads((job / name / "steps.json").read_text()) for name in ("decoder", "network")] == [1, 1]
    old, new = load_generator(str(shipped)), load_generator(str(config.output))
    assert new.defaults == old.defaults
    for name, learns in (("unet", True), ("vae", True), ("image_encoder", False)):
        pairs = zip(getattr(old, name).parameters(), getattr(new, name).parameters(), strict=True)
        assert any(not torch.equal(a, b) for a, b in pairs) == learns
    figures = json.loads((job / "figures.json").read_text())
    assert set(figures) == {"psnr_before", "psnr_after"} and all(np.isfinite(v) for v in figures.values())
    assert (job / "sheet.png").stat().st_size > 1000
    with pytest.raises(ConfigError, match="another video or other options"):
        teach(config.model_copy(update={"seed": 4}), shipped)


def test_the_steps_are_those_that_fit_and_are_settled_once(tmp_path: Path) -> None:
    runs: list[int] = []

    def run(loop: LoopConfig) -> None:
        runs.append(loop.steps)
        lines = ('{"step": 10, "loss": 1.0, "steps_per_s": 2.0}', '{"step": 10, "validation_psnr": 20}')
        (tmp_path / "log.jsonl").write_text("\n".join(lines))

    loop = LoopConfig(steps=10, warmup=10, cooldown=0)
    found = settled(loop, tmp_path, 50.0, run)
    assert abs(found.steps - (10 + 2 * 50)) <= 1
    assert found.cooldown == round(0.6 * (found.steps - 10))
    assert settled(loop, tmp_path, 5000.0, run) == found and runs == [10]


def test_little_time_leaves_the_first_steps(tmp_path: Path) -> None:
    def run(loop: LoopConfig) -> None:
        (tmp_path / "log.jsonl").write_text('{"step": 10, "steps_per_s": 2.0}\n')

    assert settled(LoopConfig(steps=10), tmp_path, -3.0, run).steps == 10


def test_the_recipe_goes_on_from_the_shipped_model() -> None:
    folder = GENERATORS["demo"].shipped
    assert folder is not None
    recorded = json.loads((folder / "posedance.json").read_text())["defaults"]
    recipe = recipe_of(folder, DataConfig(frames=7, spacing=1), seed=3)
    model = recipe.model
    wanted = [recorded[name] for name in ("width", "height", "control_canvas")]
    assert [model.width, model.height, model.canvas] == wanted
    assert model.base == folder and model.unet is None and recipe.video and recipe.loop.seed == 3


def test_mistakes_are_told_before_anything_is_done(video: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--video is missing"):
        teach(TeachConfig(output=tmp_path / "a"))
    with pytest.raises(ConfigError, match="there is no video"):
        teach(TeachConfig(video=tmp_path / "absent.mp4", output=tmp_path / "b"))
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "letters.txt").write_text("mine")
    with pytest.raises(OutputError, match="no model of a training"):
        teach(TeachConfig(video=video, output=tmp_path / "c"))
    assert not (tmp_path / "b.job").exists() and not (tmp_path / "c.job").exists()
    with pytest.raises(ConfigError, match="minutes"):
        resolve(TeachConfig, TeachConfig.model_construct(minutes=-1, _fields_set={"minutes"}))


def test_a_model_replaces_an_earlier_one_whole(tmp_path: Path) -> None:
    for text in ("one", "two"):
        made = tmp_path / "network"
        made.mkdir(exist_ok=True)
        (made / "posedance.json").write_text(text)
        publish(made, tmp_path / "out")
        assert (tmp_path / "out" / "posedance.json").read_text() == text
    assert {path.name for path in tmp_path.iterdir()} == {"network", "out"}
