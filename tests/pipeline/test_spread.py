"""Long videos over many workers: the same bits for any number of them, and what a killed process costs."""

import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from posedance.datasets.puppets import make_character, reference_pose, render
from posedance.pipeline.config import AnimateConfig
from posedance.pipeline.graph import open_generator, shape_of
from posedance.pipeline.spread import Inputs, actor_options, denoise, open_pool, video_of
from posedance.stages.errors import ConfigError
from posedance.stages.frames import StoredFrames, write_frames
from posedance.stages.generate import Checkpoint
from posedance.stages.picture import fit_cover, read_picture, write_png


def write_inputs(folder: Path, frames: int) -> AnimateConfig:
    """A picture and control frames that are noise."""
    write_png(folder / "ref.png", render(make_character(6), reference_pose(6), 0, 64, 96).image)
    rng = torch.Generator().manual_seed(frames)
    drawn = torch.randint(0, 256, (frames, 96, 64, 3), dtype=torch.uint8, generator=rng).numpy()
    write_frames(folder / "control.zip", drawn)
    return AnimateConfig(reference=folder / "ref.png", model="tiny-random", steps=3)


def kill_worker(ray: Any, worker: Any) -> None:
    """kill -9 of the process of an actor."""
    os.kill(ray.get(worker.__ray_call__.remote(lambda self: os.getpid())), signal.SIGKILL)


@pytest.mark.slow
def test_the_same_bits_for_any_number_of_workers_also_when_one_is_killed(
    ray_here: Any, tmp_path: Path
) -> None:
    config = write_inputs(tmp_path, 12)
    generator = open_generator(config)
    settings = replace(shape_of(generator, config).settings, guidance_scale=3.0)
    control = tmp_path / "control.zip"
    arguments = (generator, fit_cover(read_picture(tmp_path / "ref.png"), 64, 96), StoredFrames(control))
    kept: list[torch.Tensor] = []
    alone = generator.denoise(
        *arguments[1:], settings, on_step=lambda step, latents: kept.append(latents.clone())
    )

    def spread_over(workers: int, **changes: Any) -> torch.Tensor:
        return denoise(config, control, workers, None, *arguments, settings, **changes)

    assert torch.equal(spread_over(1, resume=Checkpoint(1, kept[0])), alone), "resumed after a step"
    assert torch.equal(spread_over(4), alone), "two windows on four workers: in halves"
    with open_pool(config, 2) as pool:
        told, inputs = [], Inputs(tmp_path / "ref.png", control, settings)

        def on_window(step: int, window: int) -> None:
            told.append((step, window))
            if len(told) == 3:
                kill_worker(ray_here, pool.seats[0].worker)

        other = replace(settings, seed=1)
        videos = [
            video_of(generator, inputs, on_window=on_window),
            video_of(generator, replace(inputs, settings=other)),
        ]
        pool.run(iter(videos))
        assert sorted(told) == sorted(set(told)) and len(told) == 2 * 3
    assert torch.equal(videos[0].denoising.latents, alone)
    assert torch.equal(videos[1].denoising.latents, generator.denoise(*arguments[1:], other))


def test_workers_take_a_gpu_each_or_share_the_cores() -> None:
    assert actor_options({"CPU": 16, "GPU": 4}, 4, "auto")["num_gpus"] == 1
    assert actor_options({"CPU": 2}, 4, "auto")["num_cpus"] == 0.5
    assert actor_options({"CPU": 16, "GPU": 4}, 8, "cpu")["num_gpus"] == 0
    with pytest.raises(ConfigError, match="--workers 8: Ray has 4 GPUs"):
        actor_options({"CPU": 16, "GPU": 4}, 8, "auto")
