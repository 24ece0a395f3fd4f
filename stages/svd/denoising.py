"""Denoising all frames of one video together: for each step, for each window a prediction; blended; one step.

A `Denoising` owns the latents of all frames in float32 on the CPU, and nothing else that is as long as the
video. Who makes the predictions is not its concern: a `Sampler` here, or workers elsewhere, each with a
`Sampler` of the same video.
"""

from collections.abc import Callable, Iterable, Sequence

from torch import Tensor

from ..generate import OnEstimate, OnStep, OnWindow
from ..windows import Blending, Window
from .denoiser import denoised
from .schedule import consistency_step, euler_step

FreshNoise = Callable[[int, Sequence[int]], Tensor]
"""Makes the noise that frames get after a step: (step, frames) -> [n, 4, h, w]."""


class Denoising:
    """The latents of one video on their way from noise.

    At each step one prediction of every window, blended over the windows, and one Euler step. Predictions may
    come in any order and are added up in the order of the windows, so the bits do not depend on who made them
    and when. A frame takes its step as soon as all windows that count for it are in. A window is ready for
    its next step as soon as its own frames have taken this one: it does not wait for the others, except that
    no step begins before the last but one has ended for all frames.

    Latents change in place. Beside them are in memory the predictions that came too early, two windows of
    sums, and the latents that a frame had before its step where somebody still asks for them.

    Averaging predictions and stepping once is the published stepping in each window and averaging after, for
    the step is affine in the prediction.

    Args:
        latents: [N, 4, h, w] at noise level sigmas[start], float32 on the CPU; changed in place. At the end
            those of the video, times the VAE's scaling factor.
        sigmas: [steps + 1].
        windows: their plan.
        start: steps already done; with their latents, a stopped run goes on as if it had not stopped.
        on_estimate: receives (steps done, frames, x0_hat [n, 4, h, w] of these frames) within each step.
        noise: for consistency-distilled weights, whose steps are not Euler's: (step, frames) -> fresh noise.
    """

    def __init__(
        self,
        latents: Tensor,
        sigmas: Tensor,
        windows: Sequence[Window],
        start: int = 0,
        on_estimate: OnEstimate | None = None,
        noise: FreshNoise | None = None,
    ) -> None:
        self.latents, self.sigmas, self.windows = latents, sigmas, windows
        self.step = start
        """Steps that all frames have taken."""
        self._on_estimate, self._noise = on_estimate, noise
        self._holders: dict[int, list[int]] = {}
        for index, window in enumerate(windows):
            for frame in window.frames:
                self._holders.setdefault(frame, []).append(index)
        self._begun: dict[int, StepInWork] = {}
        self._before: dict[tuple[int, int], Tensor] = {}
        """(step, frame) -> latents before a step that the frame has taken, where they are still asked for."""
        self._release(start + 1, range(len(windows)))

    @property
    def done(self) -> bool:
        """Whether all steps are taken."""
        return self.step == len(self.sigmas) - 1

    def window_latents(self, step: int, index: int) -> Tensor:
        """Latents [F, 4, h, w] of a window that is ready for `step`, to make its prediction from; a copy."""
        return self._latents_before(step, self.windows[index].frames)

    def step_latents(self) -> Tensor:
        """Latents [N, 4, h, w] after `step` steps, when it has just ended: some frames may be ahead."""
        if not any(step == self.step for step, _ in self._before):
            return self.latents
        return self._latents_before(self.step, range(len(self.latents)))

    def take(self, step: int, index: int, v: Tensor) -> list[tuple[int, int]]:
        """Take the prediction v [F, 4, h, w] of a window at `step`.

        Returns which (step, window) are ready because of it. After it `step` may be one more.
        """
        work = self._work(step)
        ready: list[tuple[int, int]] = []
        work.early[index] = v
        while (index := work.blending.next) in work.early:
            frames, v = work.blending.add(work.early.pop(index))
            if frames:
                self._take_step(step, index, frames, v)
                ready += self._release(step + 1, [holder for f in frames for holder in self._holders[f]])
        if step == self.step and work.blending.next == len(self.windows):
            ready += self._end_step()
        return ready

    def _work(self, step: int) -> "StepInWork":
        if step not in self._begun:
            self._begun[step] = StepInWork(self.windows)
        return self._begun[step]

    def _release(self, step: int, holders: Iterable[int]) -> list[tuple[int, int]]:
        """The windows that are ready for `step` now that each of `holders` waits for one thing less."""
        if step >= len(self.sigmas) - 1:
            return []
        waiting, ready = self._work(step).waiting, []
        for index in holders:
            waiting[index] -= 1
            if not waiting[index]:
                ready.append((step, index))
        return ready

    def _end_step(self) -> list[tuple[int, int]]:
        """All frames have taken the step; returns the windows that waited for just this."""
        del self._begun[self.step]
        self._before = {key: latents for key, latents in self._before.items() if key[0] > self.step}
        self.step += 1
        return [] if self.done else self._release(self.step + 1, range(len(self.windows)))

    def _latents_before(self, step: int, frames: Sequence[int]) -> Tensor:
        latents = self.latents[list(frames)]
        for place, frame in enumerate(frames):
            if (step, frame) in self._before:
                latents[place] = self._before[step, frame]
        return latents

    def _take_step(self, step: int, index: int, frames: list[int], v: Tensor) -> None:
        """Step `frames`, for which window `index` was the last that counts."""
        before, ahead = self.latents[frames], (self.sigmas[step], self.sigmas[step + 1])
        for frame, latents in zip(frames, before, strict=True):
            if step > self.step or self._holders[frame][-1] > index:
                self._before[step, frame] = latents.clone()
        if self._on_estimate is not None:
            self._on_estimate(step + 1, frames, denoised(before, v, ahead[0]))
        if self._noise is None:
            self.latents[frames] = euler_step(before, v, *ahead)
        else:
            self.latents[frames] = consistency_step(before, v, *ahead, self._noise(step, frames))


class StepInWork:
    """A step that has begun: the sums of its predictions, and those that came too early.

    `waiting` tells of each window for how many things it waits: the step before of each of its frames, and
    the end for all frames of the one before that.
    """

    def __init__(self, windows: Sequence[Window]) -> None:
        self.blending = Blending(windows)
        self.early: dict[int, Tensor] = {}
        self.waiting = [len(window) + 1 for window in windows]


def denoise(
    latents: Tensor,
    sigmas: Tensor,
    windows: Sequence[Window],
    predict: Callable[[int, int, Tensor], Tensor],
    *,
    start: int = 0,
    on_window: OnWindow | None = None,
    on_step: OnStep | None = None,
    on_estimate: OnEstimate | None = None,
    noise: FreshNoise | None = None,
) -> Tensor:
    """Denoise all frames together, one window after the other: see `Denoising`, also for the arguments.

    `predict` makes v [F, 4, h, w] of (step, window, its latents). `on_window` receives (step, window) after
    each prediction, `on_step` (steps done, latents) after each step; copy what you keep. Returns `latents`.
    """
    video = Denoising(latents, sigmas, windows, start, on_estimate, noise)
    while not video.done:
        for index in range(len(windows)):
            step = video.step
            video.take(step, index, predict(step, index, video.window_latents(step, index)))
            if on_window is not None:
                on_window(step, index)
        if on_step is not None:
            on_step(video.step, video.latents)
    return video.latents
