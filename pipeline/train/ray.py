"""Training over several GPUs and machines by Ray Train: each worker runs `train`, with accelerate inside."""

import os
from pathlib import Path
from typing import Any

from ...stages.errors import ConfigError, PosedanceError
from ...stages.threads import limit_threads
from ..progress import show_log
from ..workers.ray_actor import end_ray, start_ray
from .config import TrainConfig
from .image.config import ImageTrainConfig
from .loop import PATIENCE
from .train import train


def train_on_ray(config: TrainConfig | ImageTrainConfig, workers: int, address: str | None) -> Path:
    """Train in `workers` processes, each with a GPU where Ray has any; returns OUTPUT/model.

    All machines must see the same files under the same paths. A run that is stopped, or whose worker dies,
    goes on from its last checkpoint when it is started again. Raises what a worker raised.
    """
    os.environ.setdefault("RAY_TRAIN_V2_ENABLED", "1")
    import ray

    try:
        from ray.train import RunConfig, ScalingConfig, WorkerGroupError
        from ray.train.torch import TorchConfig, TorchTrainer
    except ImportError as error:
        raise ConfigError("--workers needs Ray Train: pip install 'posedance[ray-train]'") from error

    owned = start_ray(address)
    try:
        resources = ray.cluster_resources()
        gpus = int(resources.get("GPU", 0))
        if 0 < gpus < workers:
            raise ConfigError(f"--workers {workers}: Ray has {gpus} GPUs, and each worker takes one")
        cpus = min(1.0, resources.get("CPU", 1.0) / (workers + 1))  # the trainer's controller takes a share
        trainer = TorchTrainer(
            work,
            train_loop_config={
                "config": config.model_dump_json(),
                "pictures": isinstance(config, ImageTrainConfig),
                "folder": str(Path.cwd()),
                "cpus": cpus,
            },
            scaling_config=ScalingConfig(
                num_workers=workers,
                use_gpu=gpus > 0,
                resources_per_worker={"CPU": cpus, "GPU": int(gpus > 0)},
            ),
            torch_config=TorchConfig(timeout_s=int(PATIENCE.total_seconds())),
            run_config=RunConfig(name="ray", storage_path=str(config.output.resolve())),
        )
        trainer.fit()
    except WorkerGroupError as error:
        failures = list(error.worker_failures.values())
        found = [cause for failure in failures for cause in causes(failure)]
        raise next((cause for cause in found if isinstance(cause, PosedanceError)), failures[0]) from None
    finally:
        if owned:
            end_ray()
    return config.output / "model"


def work(settings: dict[str, Any]) -> None:
    """What runs in each worker."""
    import torch

    if not torch.cuda.is_available():
        os.environ["ACCELERATE_USE_CPU"] = "true"  # else accelerate would take each worker to be alone
    show_log()
    limit_threads(settings["cpus"])
    os.chdir(settings["folder"])
    if settings["pictures"]:
        from .image.train import train_pictures

        train_pictures(ImageTrainConfig.model_validate_json(settings["config"]))
    else:
        train(TrainConfig.model_validate_json(settings["config"]))


def causes(error: BaseException | None) -> list[BaseException]:
    """An error and what it came from."""
    return [] if error is None else [error, *causes(error.__cause__)]
