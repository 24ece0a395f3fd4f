"""One long video over many workers: at every denoise step its windows are spread over Ray actors.

The driver owns the latents of all frames. It sends a worker one window's latents and gets its prediction,
adds predictions up in the order of the windows whoever made them, and takes the step: the result is the same
to the last bit for any number of workers, and without any. A worker that dies costs one window of one step.
Who gets what is decided in `window_pool.py`, which takes several videos at once as well.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...stages.errors import ConfigError
from ...stages.generate import Checkpoint, Settings
from ...stages.media.frames import StoredFrames
from ...stages.media.picture import place, read_picture
from ...stages.media.placement import Placement, centre_crop
from ...stages.threads import limit_threads
from ...stages.windows import plan
from ..config import AnimateConfig
from ..job.storage import localize
from ..models import open_generator
from ..workers.ray_pool import start_ray
from ..workers.window_pool import LostWorker, Part, Video, WindowPool

if TYPE_CHECKING:
    from torch import Tensor

    from ...stages.svd.denoising import OnEstimate
    from ...stages.svd.generator import PreparedVideo, SvdGenerator
    from ...stages.svd.sampling import ControlFrames, Sampler


@dataclass(frozen=True, slots=True)
class Inputs:
    """What a worker opens a video from: files that all machines see under the same path."""

    reference: Path
    control: Path
    settings: Settings
    placement: Placement | None = None
    """Where the reference image lies in the frames; None where it covers them with its middle."""


class WindowWorker:
    """What runs inside an actor: the model, ready to predict windows of any video."""

    def __init__(self, config: AnimateConfig, threads: int) -> None:
        self._config, self._threads = config, threads
        self._generator: SvdGenerator
        self._keep_bytes = 0
        self._videos: dict[Inputs, PreparedVideo] = {}
        self._open: Inputs | None = None
        self._sampler: Sampler
        self._stack = ExitStack()

    def setup(self) -> None:
        self._generator = open_generator(self._config)
        self._keep_bytes = self._generator.keep_control_bytes
        limit_threads(self._threads)

    def predict(self, inputs: Inputs, part: Part, latents: np.ndarray) -> np.ndarray:
        """v [F, 4, h, w] of a window or of a half of it, from its latents [F, 4, h, w]; float32."""
        import torch

        self._turn_to(inputs)
        own = torch.from_numpy(latents.copy())
        if part.half is None:
            return self._sampler.predict(part.step, part.window, own).numpy()
        return self._sampler.predict_half(part.step, part.window, own, conditional=part.half).numpy()

    def forget(self, inputs: Inputs) -> None:
        """Release what is kept of a video."""
        self._videos.pop(inputs, None)

    def _turn_to(self, inputs: Inputs) -> None:
        """Sample this video from now on. Videos share the memory that one may keep control features in."""
        if self._open == inputs:
            return
        self._stack.close()
        self._open = None
        if inputs not in self._videos:
            frames = StoredFrames(inputs.control)
            height, width = frames[0:1].shape[1:3]
            picture = read_picture(localize(inputs.reference, beside=".npz"))
            placed = inputs.placement or centre_crop((picture.shape[1], picture.shape[0]), (width, height))
            image = place(picture, placed, published=inputs.settings.window_plan != "even")
            kept = sum(video.control.kept_bytes for video in self._videos.values())
            self._generator.keep_control_bytes = max(0, self._keep_bytes - kept)
            self._videos[inputs] = self._generator.prepare(image, frames, inputs.settings)
        self._sampler = self._stack.enter_context(self._generator.sampling(self._videos[inputs]))
        self._open = inputs


class RayWorkers:
    """Workers of a `WindowPool` on Ray."""

    def __init__(self, config: AnimateConfig, options: Mapping[str, Any]) -> None:
        import ray.exceptions
        import torch

        self._ray: Any = ray
        self._config, self._threads = config, torch.get_num_threads()
        self._remote: Any = self._ray.remote(WindowWorker).options(**options)

    def start(self) -> tuple[Any, Any]:
        actor = self._remote.remote(self._config, self._threads)
        return actor, actor.setup.remote()

    def predict(self, worker: Any, video: Video, part: Part) -> Any:
        latents = video.denoising.window_latents(part.step, part.window).numpy()
        return worker.predict.remote(video.inputs, part, latents)

    def forget(self, worker: Any, video: Video) -> None:
        worker.forget.remote(video.inputs)

    def wait(self, calls: list[Any]) -> Any:
        return self._ray.wait(calls, num_returns=1)[0][0]

    def result(self, call: Any) -> "Tensor | None":
        import torch

        errors = self._ray.exceptions
        try:
            v = self._ray.get(call)
        except errors.RayTaskError as error:
            raise error.cause from error
        except (errors.RayActorError, errors.ObjectLostError) as error:
            raise LostWorker(" ".join(str(error).split())) from error
        return None if v is None else torch.from_numpy(v.copy())

    def stop(self, worker: Any) -> None:
        self._ray.kill(worker, no_restart=True)


@contextmanager
def open_pool(config: AnimateConfig, workers: int, ray_address: str | None = None) -> Iterator[WindowPool]:
    """A pool of `workers` actors with the model that `config` names. Ray is started where it is not."""
    import ray

    owned = start_ray(ray_address)
    try:
        options = actor_options(ray.cluster_resources(), workers, config.device)
        with closing(WindowPool(RayWorkers(config, options), workers)) as pool:
            yield pool
    finally:
        if owned:
            ray.shutdown()


def denoise(
    config: AnimateConfig,
    workers: int,
    ray_address: str | None,
    generator: "SvdGenerator",
    control: Path,
    reference: np.ndarray,
    control_frames: "ControlFrames",
    settings: Settings,
    *,
    placement: Placement | None = None,
    resume: Checkpoint | None = None,
    on_window: Callable[[int, int], None] | None = None,
    on_step: "Callable[[int, Tensor], None] | None" = None,
    on_estimate: "OnEstimate | None" = None,
) -> "Tensor":
    """What `generator.denoise` makes of the other arguments, with the windows spread over `workers` actors.

    Actors read the model and the reference image of `config`, and the control frames from the file `control`.
    `placement` is where that image lies in them; None where it covers them with its middle.
    """
    check_settings(settings)
    assert config.reference is not None
    inputs = Inputs(config.reference, control.resolve(), settings, placement)
    video = video_of(generator, inputs, resume, on_window, on_step, on_estimate)
    with open_pool(config, workers, ray_address) as pool:
        pool.run([video])
    return video.denoising.latents


def video_of(
    generator: "SvdGenerator",
    inputs: Inputs,
    resume: Checkpoint | None = None,
    on_window: Callable[[int, int], None] | None = None,
    on_step: "Callable[[int, Tensor], None] | None" = None,
    on_estimate: "OnEstimate | None" = None,
) -> Video:
    """One video for a `WindowPool`, at its beginning or where it was stopped."""
    from ...stages.svd.denoising import Denoising
    from ...stages.svd.guidance import guidance_of

    settings = inputs.settings
    frames = StoredFrames(inputs.control)
    height, width = frames[0:1].shape[1:3]
    if resume is None:
        latents, start = generator.initial_latents(len(frames), width, height, settings), 0
    else:
        latents, start = resume.latents.to("cpu", copy=True), resume.step
    windows = plan(settings.window_plan, len(frames), settings.window_size, settings.window_overlap)
    noise = generator.fresh_noise(width, height, settings)
    denoising = Denoising(latents, generator.sigmas(settings), windows, start, on_estimate, noise)
    return Video(inputs, denoising, guidance_of(settings).scale, on_window, on_step)


def check_settings(settings: Settings) -> None:
    """ConfigError for settings whose result would depend on who predicts which window."""
    if settings.schedule == "published":
        raise ConfigError("the published order of work runs in one process: leave --workers out")
    if settings.cache_interval > 1:
        raise ConfigError(
            f"with --workers each window may be predicted by another worker at each step, so deep features "
            f"cannot be reused (cache interval {settings.cache_interval}): use 1, or leave --workers out"
        )


def actor_options(resources: Mapping[str, float], workers: int, device: str) -> dict[str, Any]:
    """What a worker takes of the cluster: a whole GPU where there are any, else its part of the cores."""
    gpus = 0 if device == "cpu" else int(resources.get("GPU", 0))
    if 0 < gpus < workers:
        raise ConfigError(f"--workers {workers}: Ray has {gpus} GPUs, and each worker takes one")
    cpus = min(1.0, resources.get("CPU", 1.0) / workers)
    return {
        "num_cpus": cpus,
        "num_gpus": 1 if gpus else 0,
        "max_restarts": 0,
        "max_task_retries": 0,
        "runtime_env": {"env_vars": {"OMP_WAIT_POLICY": "PASSIVE"}},
    }
