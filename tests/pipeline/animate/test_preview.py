"""`--preview-every`: a small video in the output folder while denoising goes on."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from posedance.pipeline.animate.animate import animate
from posedance.pipeline.animate.preview import Preview
from posedance.pipeline.config import AnimateConfig
from posedance.stages.media.picture import write_png
from posedance.stages.media.video import Clip, probe, read_frames
from posedance.stages.models import load_generator
from posedance.stages.pose.files import save_poses
from posedance.stages.types import NUM_KEYPOINTS, PoseSequence


def test_it_is_written_and_changes_nothing_else(tmp_path: Path) -> None:
    points = np.random.default_rng(0).uniform(20, 80, (4, NUM_KEYPOINTS, 2)).astype(np.float32)
    poses = PoseSequence(points, np.ones((4, NUM_KEYPOINTS), np.float32), (64, 96), Fraction(15))
    save_poses(tmp_path / "dance.npz", poses)
    save_poses(tmp_path / "ref.npz", poses[:1])
    write_png(tmp_path / "ref.png", np.random.default_rng(1).integers(0, 256, (96, 64, 3), np.uint8))
    config = AnimateConfig(
        pose=tmp_path / "dance.npz",
        reference=tmp_path / "ref.png",
        model="tiny-random",
        steps=2,
        output=tmp_path / "out",
    )
    animate(config)
    shown, record = tmp_path / "out/preview.mp4", tmp_path / "out/.work/records/latents.json"
    assert not shown.exists()
    shown.write_text("mine")
    animate(config.model_copy(update={"seed": 3}))
    assert shown.read_text() == "mine"
    shown.unlink()
    animate(config)
    before = record.stat().st_mtime_ns
    watched = config.model_copy(update={"preview_every": 1})
    animate(watched)
    assert record.stat().st_mtime_ns == before, "a preview is no reason to make the video again"
    animate(watched.model_copy(update={"seed": 1}))
    info = probe(shown)
    assert (info.width, info.height, info.num_frames, info.fps) == (32, 48, 4, Fraction(15))
    animate(config.model_copy(update={"seed": 2}))
    assert not shown.exists(), "it belonged to another video"


def test_every_second_step_is_shown(tmp_path: Path) -> None:
    generator, path = load_generator("tiny-random"), tmp_path / "preview.mp4"
    colours = torch.zeros(5, 3)
    colours[0] = generator.vae.config["scaling_factor"]
    preview = Preview(generator, colours, 2, Fraction(15), path)
    for step in range(1, 6):
        level = torch.full((3, 4, 4, 6), step / 5 * 2 - 1)
        preview.collect(step, [1, 2, 0], level)
        preview.write(step)
        assert path.exists() == (step >= 2)
        if step >= 2:
            (first, _) = read_frames(path, Clip())
            shown = (step - step % 2) / 5
            assert first.mean() / 255 == pytest.approx(shown, abs=0.03)
