"""Training over several GPUs and machines by Ray Train: each worker runs `train`, with accelerate inside."""

import os
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

from ...stages.errors import ConfigError, PosedanceError, StoppedError
from ...stages.threads import limit_threads
from ..interrupts import deferred_interrupts, ending_when
from ..progress import show_log
from ..workers.executor import POLL_S
from ..workers.ray_actor import end_ray, start_ray
from .config import TrainConfig
from .image.config import ImageTrainConfig
from .loop import PATIENCE
from .train import train


def train_on_ray(config: TrainConfig | ImageTrainConfig, workers: int, address: str | None) -> Path:
    """Train in `workers` processes, each with a GPU where Ray has any; returns OUTPUT/model.

    All machines must see the same files under the same paths. At Ctrl-C or SIGTERM the step that runs is
    kept. A run that was stopped, or whose worker died, goes on from its last checkpoint when it is started
    again. Raises what a worker raised.
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
        fit(trainer, stop_mark(config.output))
    except WorkerGroupError as error:
        raise most_telling(list(error.worker_failures.values())) from None
    finally:
        if owned:
            end_ray()
    return config.output / "model"


def stop_mark(output: Path) -> Path:
    """The file that asks the workers, on whatever machine, to end at the step that runs."""
    return output.resolve() / ".stop"


def fit(trainer: Any, mark: Path) -> None:
    """Train until the end, or until Ctrl-C or SIGTERM: then the workers end the step that runs, and keep it.

    Raises KeyboardInterrupt when it was stopped; a second Ctrl-C does not wait for the step.
    """
    failures: list[BaseException] = []

    def run() -> None:
        try:
            trainer.fit()
        except BaseException as error:  # noqa: BLE001 (it is raised in the main thread)
            failures.append(error)

    mark.parent.mkdir(parents=True, exist_ok=True)
    mark.unlink(missing_ok=True)
    thread = threading.Thread(target=run, name="fit", daemon=True)
    try:
        with deferred_interrupts() as stopped:
            thread.start()
            while thread.is_alive():
                thread.join(POLL_S)
                if stopped():
                    mark.touch()
    finally:
        mark.unlink(missing_ok=True)
    if failures:
        raise failures[0]
    if stopped():
        raise KeyboardInterrupt


def work(settings: dict[str, Any]) -> None:
    """What runs in each worker."""
    import torch

    if not torch.cuda.is_available():
        os.environ["ACCELERATE_USE_CPU"] = "true"  # else accelerate would take each worker to be alone
    show_log()
    limit_threads(settings["cpus"])
    os.chdir(settings["folder"])
    pictures = settings["pictures"]
    config = (ImageTrainConfig if pictures else TrainConfig).model_validate_json(settings["config"])
    asked = stop_mark(config.output).exists
    with suppress(KeyboardInterrupt, StoppedError), ending_when(asked, StoppedError("stopped")):
        if isinstance(config, ImageTrainConfig):
            from .image.train import train_pictures

            train_pictures(config)
        else:
            train(config)


def most_telling(failures: list[Exception]) -> BaseException:
    """Of what the workers raised an error of ours, wherever it is; or else the first worker's.

    When one worker ends, the others fail too, for they wait for it.
    """
    found = [cause for failure in failures for cause in causes(failure)]
    return next((cause for cause in found if isinstance(cause, PosedanceError)), failures[0])


def causes(error: BaseException | None) -> list[BaseException]:
    """An error and what it came from."""
    return [] if error is None else [error, *causes(error.__cause__)]
