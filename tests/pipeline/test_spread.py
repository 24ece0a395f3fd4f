"""One video over many workers: the same bits for any number of them, also when one dies."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from posedance.datasets.puppets import make_character, reference_pose, render
from posedance.pipeline.config import AnimateConfig
from posedance.pipeline.graph import open_generator, shape_of
from posedance.pipeline.spread import Spread, actor_options
from posedance.stages.errors import ConfigError
from posedance.stages.frames import StoredFrames, write_frames
from posedance.stages.generate import Checkpoint
from posedance.stages.picture import fit_cover, read_picture, write_png


@pytest.mark.slow
def test_the_same_bits_for_one_worker_for_two_and_when_one_is_killed(ray_here: Any, tmp_path: Path) -> None:
    write_png(tmp_path / "ref.png", render(make_character(6), reference_pose(6), 0, 64, 96).image)
    rng = torch.Generator().manual_seed(0)
    drawn = torch.randint(0, 256, (14, 96, 64, 3), dtype=torch.uint8, generator=rng).numpy()
    write_frames(tmp_path / "control.zip", drawn)
    config = AnimateConfig(reference=tmp_path / "ref.png", model="tiny-random", steps=3)
    generator = open_generator(config)
    settings = shape_of(generator, config).settings
    frames = StoredFrames(tmp_path / "control.zip")
    run = partial(generator.denoise, fit_cover(read_picture(tmp_path / "ref.png"), 64, 96), frames, settings)
    kept: list[torch.Tensor] = []
    alone = run(on_step=lambda step, latents: kept.append(latents.clone()))

    def spread_over(workers: int, resume: Checkpoint | None, kill_at: int | None) -> torch.Tensor:
        video = Spread(config, tmp_path / "control.zip", workers)
        told = []

        def on_window(step: int, window: int) -> None:
            told.append((step, window))
            if len(told) == kill_at:
                ray_here.kill(video.seats[0].actor)

        latents = video.denoise(generator, *run.args, resume=resume, on_window=on_window)
        assert told == sorted(set(told)) and len(told) >= 2 * (3 if resume is None else 2)
        assert not video.seats
        return latents

    assert torch.equal(spread_over(2, None, kill_at=3), alone)
    assert torch.equal(spread_over(1, Checkpoint(1, kept[0]), kill_at=None), alone), "resumed after a step"


def test_workers_take_a_gpu_each_or_share_the_cores() -> None:
    assert actor_options({"CPU": 16, "GPU": 4}, 4, "auto")["num_gpus"] == 1
    assert actor_options({"CPU": 2}, 4, "auto")["num_cpus"] == 0.5
    assert actor_options({"CPU": 16, "GPU": 4}, 8, "cpu")["num_gpus"] == 0
    with pytest.raises(ConfigError, match="--workers 8: Ray has 4 GPUs"):
        actor_options({"CPU": 16, "GPU": 4}, 8, "auto")
