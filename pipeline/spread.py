"""One long video over many workers: at every denoise step its windows are spread over Ray actors.

The driver owns the latents of all frames. It sends a worker one window's latents and gets its prediction,
blends predictions in the order of the windows whoever made them, and takes the step: the result is the same
to the last bit for any number of workers, and without any. A worker that dies costs one window of one step.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..stages.errors import ConfigError, PosedanceError
from ..stages.frames import StoredFrames
from ..stages.generate import Checkpoint, Settings
from ..stages.picture import fit_cover, read_picture
from ..stages.threads import limit_threads
from ..stages.windows import Window, plan
from .config import AnimateConfig
from .graph import open_generator
from .workers import start_ray

if TYPE_CHECKING:
    from torch import Tensor

    from ..stages.svd.generator import SvdGenerator
    from ..stages.svd.sampling import ControlFrames, OnEstimate

MAX_LOSSES = 5
"""Workers that may die one after the other, without one prediction in between, before the run is given up."""


CALLS_AHEAD = 2
"""Calls that a worker has at once: it never waits for the driver to send the next window."""


class WindowWorker:
    """What runs inside an actor: the model, ready to predict windows of one video."""

    def __init__(self, video: "Spread", settings: Settings, threads: int) -> None:
        self._video, self._settings, self._threads = video, settings, threads
        self._stack = ExitStack()
        self._sampler: Any = None

    def setup(self) -> None:
        frames = StoredFrames(self._video.control)
        height, width = frames[0:1].shape[1:3]
        config = self._video.config
        assert config.reference is not None
        image = fit_cover(read_picture(config.reference), width, height)
        generator = open_generator(config)
        limit_threads(self._threads)
        self._sampler = self._stack.enter_context(generator.sampler(image, frames, self._settings))

    def predict(self, step: int, window: int, latents: np.ndarray) -> np.ndarray:
        """v [F, 4, h, w] of one window at `step`, from its latents [F, 4, h, w]; float32 both."""
        import torch

        return self._sampler.predict(step, window, torch.from_numpy(latents.copy())).numpy()


@dataclass(slots=True)
class Seat:
    """A worker's place: its actor, and its calls under way with the window of each (None for its setup)."""

    number: int
    actor: Any
    calls: dict[Any, int | None]


@dataclass(frozen=True, slots=True)
class Spread:
    """One video, its windows spread over `workers` actors.

    All machines read the reference image of `config`, the model, and the control frames `control`.
    """

    config: AnimateConfig
    control: Path
    workers: int
    ray_address: str | None = None
    seats: list[Seat] = field(default_factory=list, compare=False)

    def __reduce__(self) -> tuple[Any, ...]:
        """Workers get the video without the seats."""
        return Spread, (self.config, self.control, self.workers, self.ray_address)

    def denoise(
        self,
        generator: "SvdGenerator",
        reference: np.ndarray,
        control_frames: "ControlFrames",
        settings: Settings,
        *,
        resume: Checkpoint | None = None,
        on_window: Callable[[int, int], None] | None = None,
        on_step: "Callable[[int, Tensor], None] | None" = None,
        on_estimate: "OnEstimate | None" = None,
    ) -> "Tensor":
        """Latents of all frames, as `generator.denoise` makes them. Workers read `reference` themselves."""
        import ray
        import torch

        from ..stages.svd.sampling import denoise

        check_settings(settings)
        num_frames = len(control_frames)
        height, width = control_frames[0:1].shape[1:3]
        windows = plan(settings.window_plan, num_frames, settings.window_size, settings.window_overlap)
        start = 0 if resume is None else resume.step
        if resume is None:
            latents = generator.initial_latents(num_frames, width, height, settings)
        else:
            latents = resume.latents.to("cpu", torch.float32, copy=True)
        owned = start_ray(self.ray_address)
        options = actor_options(ray.cluster_resources(), self.workers, self.config.device)
        remote, threads = ray.remote(WindowWorker).options(**options), torch.get_num_threads()
        pool = WindowPool(
            self.seats, self.workers, lambda: remote.remote(self, settings, threads), windows, on_window
        )
        try:
            sigmas = generator.sigmas(settings)
            return denoise(
                latents,
                sigmas,
                windows,
                pool.predict_all,
                start=start,
                on_step=on_step,
                on_estimate=on_estimate,
                noise=generator.fresh_noise(width, height, settings),
            )
        finally:
            pool.close()
            if owned:
                ray.shutdown()


class WindowPool:
    """The actors of one video, in `seats`, and who does what. `new_actor` starts one like `WindowWorker`."""

    def __init__(
        self,
        seats: list[Seat],
        workers: int,
        new_actor: Callable[[], Any],
        windows: Sequence[Window],
        on_window: Callable[[int, int], None] | None = None,
    ) -> None:
        import ray.exceptions

        self._ray: Any = ray
        self._seats, self._new_actor = seats, new_actor
        self._windows, self._on_window = windows, on_window
        self._losses = 0
        for number in range(min(workers, len(windows))):
            self._fill(number)

    def predict_all(self, step: int, latents: "Tensor") -> "Iterator[Tensor]":
        """Predictions of all windows in their order, from the latents of all frames."""
        pending, found = list(range(len(self._windows))), {}
        for index in range(len(self._windows)):
            while index not in found:
                self._hand_out(pending, step, latents)
                self._collect(pending, found)
            yield found.pop(index)
            if self._on_window is not None:
                self._on_window(step, index)

    def close(self) -> None:
        for seat in self._seats:
            self._ray.kill(seat.actor, no_restart=True)
        self._seats.clear()

    def _fill(self, number: int) -> None:
        actor = self._new_actor()
        self._seats.append(Seat(number, actor, {actor.setup.remote(): None}))

    def _hand_out(self, pending: list[int], step: int, latents: "Tensor") -> None:
        """A window to each worker, then one ahead: those nearest to its own part, whose features it keeps."""
        for depth in range(CALLS_AHEAD):
            for seat in self._seats:
                if pending and len(seat.calls) == depth and None not in seat.calls.values():
                    home = (seat.number + 0.5) * len(self._windows) / len(self._seats) - 0.5
                    window = min(pending, key=lambda index: abs(index - home))
                    pending.remove(window)
                    own = latents[list(self._windows[window].frames)].numpy()
                    seat.calls[seat.actor.predict.remote(step, window, own)] = window

    def _collect(self, pending: list[int], found: "dict[int, Tensor]") -> None:
        """Wait for one call and take what it brings; the windows of a worker that died are pending again."""
        import torch

        calls = {call: seat for seat in self._seats for call in seat.calls}
        (call,), _ = self._ray.wait(list(calls), num_returns=1)
        seat = calls[call]
        try:
            prediction = self._ray.get(call)
        except self._ray.exceptions.RayActorError as error:
            pending += [window for window in seat.calls.values() if window is not None]
            self._lose(seat, error)
            return
        window = seat.calls.pop(call)
        if window is not None:
            self._losses = 0
            found[window] = torch.from_numpy(prediction.copy())

    def _lose(self, seat: Seat, error: Exception) -> None:
        """Replace a worker that died."""
        self._losses += 1
        if self._losses > MAX_LOSSES:
            reason = " ".join(str(error).split())
            raise PosedanceError(f"{self._losses} workers died one after the other: {reason}") from error
        self._seats.remove(seat)
        self._fill(seat.number)


def check_settings(settings: Settings) -> None:
    """ConfigError for settings whose result would depend on who predicts which window."""
    if settings.schedule == "reference":
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
