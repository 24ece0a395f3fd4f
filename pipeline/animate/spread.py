"""One long video over many workers: at every denoise step its windows are spread over Ray actors.

The driver owns the latents of all frames. It sends a worker one window's latents and gets its prediction,
adds predictions up in the order of the windows whoever made them, and takes the step: the result is the same
to the last bit for any number of workers, and without any. A worker that dies costs one window of one step.
Who gets what is decided in `window_pool.py`.
"""

from collections.abc import Mapping
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...stages.allocator import keep_freed_memory
from ...stages.errors import ConfigError
from ...stages.generate import Checkpoint, ControlFrames, OnEstimate, OnStep, OnWindow, Settings
from ...stages.media.frames import StoredFrames
from ...stages.threads import limit_threads
from ...stages.types import Resources
from ...stages.windows import plan
from ..config import AnimateConfig
from ..models import open_generator
from ..workers.ray_actor import end_actor, end_ray, one_line, start_actor, start_ray
from ..workers.window_pool import LostWorker, Part, WindowPool, WindowQueue

if TYPE_CHECKING:
    from torch import Tensor

    from ...stages.svd.generator import SvdGenerator
    from ...stages.svd.sampling import Sampler


class WindowWorker:
    """What runs inside an actor: the model, ready to predict windows of one video.

    `image` is the reference image at the size of the video, `control` its control frames in a file that all
    machines see.
    """

    def __init__(
        self, config: AnimateConfig, image: np.ndarray, control: Path, settings: Settings, threads: int
    ) -> None:
        self._config, self._image, self._control = config, image, control
        self._settings, self._threads = settings, threads
        self._sampler: Sampler
        self._stack = ExitStack()

    def setup(self) -> None:
        keep_freed_memory()
        generator = open_generator(self._config)
        limit_threads(self._threads)
        video = generator.prepare(self._image, StoredFrames(self._control), self._settings)
        self._sampler = self._stack.enter_context(generator.sampling(video))

    def predict(self, part: Part, latents: np.ndarray) -> np.ndarray:
        """v [F, 4, h, w] of a window or of a half of it, from its latents [F, 4, h, w]; float32."""
        import torch

        own = torch.from_numpy(latents.copy())
        if part.half is None:
            return self._sampler.predict(part.step, part.window, own).numpy()
        return self._sampler.predict_half(part.step, part.window, own, conditional=part.half).numpy()


class RayWorkers:
    """Workers of a `WindowPool` on Ray: each a `WindowWorker` of these arguments."""

    def __init__(self, resources: Resources, *arguments: Any) -> None:
        import ray.exceptions

        self._ray: Any = ray
        self._resources, self._arguments = resources, arguments

    def start(self) -> tuple[Any, Any]:
        actor = start_actor(WindowWorker, self._resources, *self._arguments)
        return actor, actor.setup.remote()

    def predict(self, worker: Any, part: Part, latents: "Tensor") -> Any:
        return worker.predict.remote(part, latents.numpy())

    def wait(self, calls: list[Any], at_most_s: float) -> Any | None:
        return next(iter(self._ray.wait(calls, num_returns=1, timeout=at_most_s)[0]), None)

    def result(self, call: Any) -> "Tensor | None":
        import torch

        errors = self._ray.exceptions
        try:
            v = self._ray.get(call)
        except errors.RayTaskError as error:
            raise error.cause from error
        except (errors.RayActorError, errors.ObjectLostError) as error:
            raise LostWorker(one_line(error)) from error
        return None if v is None else torch.from_numpy(v.copy())

    def stop(self, worker: Any) -> None:
        end_actor(worker)


def denoise(
    config: AnimateConfig,
    workers: int,
    ray_address: str | None,
    generator: "SvdGenerator",
    control: Path,
    reference: np.ndarray,
    control_frames: ControlFrames,
    settings: Settings,
    *,
    resume: Checkpoint | None = None,
    on_window: OnWindow | None = None,
    on_step: OnStep | None = None,
    on_estimate: OnEstimate | None = None,
) -> "Tensor":
    """What `generator.denoise` makes of the other arguments, with the windows spread over `workers` actors.

    Actors read the model that `config` names, and the control frames from the file `control`. Ray is started
    where it is not.
    """
    import ray
    import torch

    if settings.schedule == "published":
        raise ConfigError("the published order of work runs in one process: leave --workers out")
    queue = windows_of(generator, control_frames, settings, resume, on_window, on_step, on_estimate)
    owned = start_ray(ray_address)
    try:
        share = share_of(ray.cluster_resources(), workers, config.device)
        threads = torch.get_num_threads()
        actors = RayWorkers(share, config, reference, control.resolve(), settings, threads)
        with closing(WindowPool(actors, workers, queue)) as pool:
            pool.run()
    finally:
        if owned:
            end_ray()
    return queue.denoising.latents


def windows_of(
    generator: "SvdGenerator",
    frames: ControlFrames,
    settings: Settings,
    resume: Checkpoint | None = None,
    on_window: OnWindow | None = None,
    on_step: OnStep | None = None,
    on_estimate: OnEstimate | None = None,
) -> WindowQueue:
    """The windows of a video for a `WindowPool`, at its beginning or where it was stopped."""
    from ...stages.svd.denoising import Denoising
    from ...stages.svd.guidance import guidance_of

    height, width = frames[0:1].shape[1:3]
    if resume is None:
        latents, start = generator.initial_latents(len(frames), width, height, settings), 0
    else:
        latents, start = resume.latents.to("cpu", copy=True), resume.step
    windows = plan(settings.window_plan, len(frames), settings.window_size, settings.window_overlap)
    noise = generator.fresh_noise(width, height, settings)
    return WindowQueue(
        Denoising(latents, generator.sigmas(settings), windows, start, on_estimate, noise),
        guidance_of(settings).scale,
        on_window,
        on_step,
    )


def share_of(cluster: Mapping[str, float], workers: int, device: str) -> Resources:
    """What a worker takes of the cluster: a whole GPU where there are any, else its part of the cores."""
    gpus = 0 if device == "cpu" else int(cluster.get("GPU", 0))
    if 0 < gpus < workers:
        raise ConfigError(f"--workers {workers}: Ray has {gpus} GPUs, and each worker takes one")
    return Resources(min(1.0, cluster.get("CPU", 1.0) / workers), 1.0 if gpus else 0.0)
