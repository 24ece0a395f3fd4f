"""What tests of the pipeline share: Ray, started once, small inputs, and a training that takes seconds."""

import json
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers import add_dance, add_picture

from posedance.pipeline.train import encoder, plan, vae, validation
from posedance.pipeline.train.activations import activation_bytes
from posedance.pipeline.train.config import TrainConfig
from posedance.pipeline.train.data import DataConfig
from posedance.pipeline.train.encoder import EncoderConfig, train_encoder
from posedance.pipeline.train.loop_config import LoopConfig
from posedance.pipeline.train.vae import VaeConfig, train_vae
from posedance.pipeline.workers.ray_actor import start_ray


@pytest.fixture(scope="session")
def ray_here() -> Iterator[Any]:
    """The module ray, connected to a Ray of its own on this machine."""
    import ray

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as the command line does
    start_ray(None)
    yield ray
    ray.shutdown()


@pytest.fixture(scope="session", autouse=True)
def small_trainings() -> Iterator[None]:
    """Trainings validate on two clips, and what a model's pass needs is counted once for each model."""
    counted: dict[str, tuple[int, int]] = {}

    def count_once(task: Any) -> tuple[int, int]:
        settings = task.config.model_dump(mode="json", exclude={"output", "latents"})
        settings |= {"loop": task.config.loop.precision}
        settings["data"] = {name: settings["data"][name] for name in ("width", "height", "frames")}
        key = json.dumps(settings)
        if key not in counted:
            counted[key] = activation_bytes(task)
        return counted[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan, "activation_bytes", count_once)
        for module in (encoder, vae, validation):
            patch.setattr(module, "VALIDATION_CLIPS", 2)
        yield


@pytest.fixture(scope="session")
def base(tmp_path_factory):
    """A VAE and an image encoder, trained for two steps, and the cache of the clips."""
    folder = tmp_path_factory.mktemp("base")
    data = small_data(folder)
    loop = LoopConfig(steps=2, learning_rate=1e-4, warmup=1)
    codec = train_vae(
        VaeConfig(output=folder / "vae", latent_channels=4, batch=1, frames=2, data=data, loop=loop)
    )
    reader = train_encoder(
        EncoderConfig(
            output=folder / "encoder",
            image_size=32,
            width=32,
            layers=1,
            heads=2,
            token=16,
            batch=2,
            data=data,
            loop=loop,
        )
    )
    return folder, codec, reader


def small_data(folder: Path) -> DataConfig:
    return DataConfig(width=32, height=32, canvas=96, clips=3, frames=2, cache=folder / "clips", workers=0)


@pytest.fixture(scope="session")
def config() -> Callable[..., TrainConfig]:
    """A function that makes the config of a training of a few seconds, with changes."""
    return small_training


def small_training(base, output: Path, **changes) -> TrainConfig:
    folder, vae, encoder = base
    loop = {"steps": 4, "learning_rate": 1e-3, "warmup": 1, "checkpoint_every": 2, "validate_every": 100}
    settings: dict[str, Any] = {
        "output": output,
        "model": {
            "vae": vae,
            "image_encoder": encoder,
            "unet": {"widths": [32], "head": 16},
            "controlnext": {
                "stem": 8,
                "in_channels": [8],
                "out_channels": [8],
                "groups": [1],
                "stem_groups": 1,
                "mid_groups": 1,
                "time": 8,
            },
            "width": 32,
            "height": 32,
            "canvas": 96,
            "window": 4,
            "overlap": 1,
            "steps": 2,
            "guidance_scale": 1.0,
        },
        "data": small_data(folder).model_dump(),
        "batch": 2,
        "loop": loop | changes.pop("loop", {}),
    }
    settings["data"] |= changes.pop("data", {})
    return TrainConfig.model_validate(settings | changes)


@pytest.fixture(scope="session")
def losses() -> Callable[[Path], list[float]]:
    """A function that gives the losses in a run's log."""

    def read(folder: Path) -> list[float]:
        entries = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
        return [entry["loss"] for entry in entries if "loss" in entry]

    return read


@pytest.fixture(scope="session")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two dances as pose files, two pictures with their keypoints, and manifest.csv: each with each."""
    folder = tmp_path_factory.mktemp("inputs")
    for number in (1, 2):
        add_dance(folder, f"dance{number}", number)
    for number in (6, 7):
        add_picture(folder, f"ref{number}", number)
    rows = [f"dance{dance}.npz,ref{number}.png" for dance in (1, 2) for number in (6, 7)]
    (folder / "manifest.csv").write_text("\n".join(["pose,reference", *rows]))
    return folder
