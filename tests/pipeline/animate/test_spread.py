"""Long videos over many workers: the same bits for any number of them, and what a killed process costs."""

import os
import signal
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from posedance.datasets.puppets.render import make_character, reference_pose, render
from posedance.pipeline.animate.animate import animate
from posedance.pipeline.animate.settings import settings_of
from posedance.pipeline.animate.spread import RayWorkers, denoise, share_of, windows_of
from posedance.pipeline.config import AnimateConfig, write_yaml
from posedance.pipeline.models import open_generator
from posedance.pipeline.workers.ray_actor import token_here
from posedance.pipeline.workers.window_pool import WindowPool
from posedance.stages.errors import ConfigError
from posedance.stages.generate import Checkpoint
from posedance.stages.media.frames import StoredFrames, write_frames
from posedance.stages.media.picture import fit_cover, read_picture, write_png
from posedance.stages.pose.files import save_poses
from posedance.stages.types import PoseSequence


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
    settings = replace(settings_of(generator, config), guidance_scale=3.0)
    control = tmp_path / "control.zip"
    image, frames = fit_cover(read_picture(tmp_path / "ref.png"), 64, 96), StoredFrames(control)
    kept: list[torch.Tensor] = []
    alone = generator.denoise(
        image, frames, settings, on_step=lambda step, latents: kept.append(latents.clone())
    )

    start = Checkpoint(1, kept[0])
    resumed = denoise(config, 1, None, generator, control, image, frames, settings, resume=start)
    assert torch.equal(resumed, alone), "one worker, from a checkpoint"
    told: list[tuple[int, int]] = []

    def on_window(step: int, window: int) -> None:
        told.append((step, window))
        if len(told) == 3:
            kill_worker(ray_here, pool.slots[0].worker)

    queue = windows_of(generator, frames, settings, on_window=on_window)
    threads = torch.get_num_threads()
    actors = RayWorkers(share_of({"CPU": 2}, 4, "cpu"), config, image, control, settings, threads)
    with closing(WindowPool(actors, 4, queue)) as pool:  # two windows: in halves
        pool.run()
    assert sorted(told) == sorted(set(told)) and len(told) == 2 * 3
    assert torch.equal(queue.denoising.latents, alone)


@pytest.mark.slow
def test_a_driver_killed_amid_a_video_goes_on_after_its_last_step(
    ray_here: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "posedance")
    write_inputs(tmp_path, 12)
    still = render(make_character(6), reference_pose(6), 0, 64, 96)
    keypoints, scores = (np.stack([one] * 11) for one in (still.keypoints, still.scores))
    save_poses(tmp_path / "dance.npz", PoseSequence(keypoints, scores, (64, 96), Fraction(15)))
    save_poses(tmp_path / "ref.npz", PoseSequence(keypoints[:1], scores[:1], (64, 96), Fraction(1)))
    config = AnimateConfig(
        pose=tmp_path / "dance.npz",
        reference=tmp_path / "ref.png",
        output=tmp_path / "out",
        model="tiny-random",
        steps=8,
    )
    (tmp_path / "config.yaml").write_text(write_yaml(config))
    command = [sys.executable, "-m", "posedance.pipeline", "animate", "--workers", "2", "--ray-address"]
    run = subprocess.Popen(
        [*command, ray_here.get_runtime_context().gcs_address, "--config", tmp_path / "config.yaml"],
        env={
            **os.environ,
            "OMP_NUM_THREADS": str(torch.get_num_threads()),
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": token_here(),
        },
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while run.poll() is None and not (tmp_path / "out" / ".work" / "checkpoint.safetensors").exists():
        time.sleep(0.005)
    assert run.poll() is None, "it ended before it could be killed"
    run.kill()
    run.wait()
    assert not (tmp_path / "out" / "result.mp4").exists()
    result = animate(config, workers=2)[0]
    assert "going on after step" in caplog.text
    alone = animate(config.model_copy(update={"output": tmp_path / "alone"}))[0]
    assert result.read_bytes() == alone.read_bytes()


def test_workers_take_a_gpu_each_or_share_the_cores() -> None:
    assert share_of({"CPU": 16, "GPU": 4}, 4, "auto").gpus == 1
    assert share_of({"CPU": 2}, 4, "auto").cpus == 0.5
    assert share_of({"CPU": 16, "GPU": 4}, 8, "cpu").gpus == 0
    with pytest.raises(ConfigError, match="--workers 8: Ray has 4 GPUs"):
        share_of({"CPU": 16, "GPU": 4}, 8, "auto")


def test_kept_deep_features_and_workers_are_refused_before_anything_is_made(tmp_path: Path) -> None:
    config = AnimateConfig.model_validate(
        {"model": "tiny-random", "output": tmp_path / "out", "approximate": {"cache_interval": 2}}
    )
    with pytest.raises(ConfigError, match=r"\(cache interval 2\): use 1, or leave --workers out"):
        animate(config, workers=2)
    assert not (tmp_path / "out").exists()
