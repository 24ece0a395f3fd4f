"""Sampling one video: for each step, for each window a prediction; blended; one Euler step.

The loop owns the latents of all frames in float32 on the CPU, and nothing else that is as long as the video.
Who makes the predictions is not its concern: a `Sampler` here, or workers elsewhere, each with a `Sampler` of
the same video.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from ..controlnext.model import ControlNeXt, FrameFeatures
from ..mimicmotion.pose_net import PoseFeatures, PoseNet
from ..windows import Window, blended
from .deep_cache import DeepCache
from .denoiser import Conditioning, Denoiser, denoised, timestep_of
from .fast import CompiledRegions
from .feed_forward import ChunkedFeedForward
from .retry import in_smaller_pieces, silent
from .schedule import consistency_step, euler_step

OnEstimate = Callable[[int, Sequence[int], Tensor], None]
FreshNoise = Callable[[int, Sequence[int]], Tensor]


class ControlFrames(Protocol):
    """Control frames of one video: an array, a memory map, or anything with a length that can be sliced."""

    def __len__(self) -> int: ...

    def __getitem__(self, frames: slice, /) -> np.ndarray:
        """uint8 [n, H, W, 3], RGB."""
        ...


class ControlCache:
    """Control features of one video, computed once for each frame and step whatever windows ask for them.

    Features of a step stay while the next window may need them. The part that does not depend on time stays
    for all steps, for as many frames as fit into `keep_bytes`; the others' is computed anew at each step.
    `chunk` frames go through the module at a time. With 1, a frame's features do not depend, to the last bit,
    on which frames were asked for with it.
    """

    def __init__(
        self,
        controlnext: ControlNeXt | PoseNet,
        frames: ControlFrames,
        keep_bytes: int = 1 << 30,
        chunk: int = 1,
    ) -> None:
        self.controlnext: Any = controlnext
        self.frames = frames
        self.keep_bytes = keep_bytes
        self.chunk = chunk
        self.kept_bytes = 0
        self._kept: dict[int, FrameFeatures | PoseFeatures] = {}
        self._step = -1
        self._embedding: Tensor | None = None
        self._control: dict[int, Tensor] = {}

    def __call__(self, step: int, sigma: Tensor, indices: Sequence[int]) -> Tensor:
        """Control features [len(indices), C, h, w] at `step`, whose noise level is `sigma`."""
        if step != self._step or self._embedding is None:
            self._step, self._control = step, {}
            self._embedding = self.controlnext.embed_time(timestep_of(sigma), 1)
        missing = [index for index in dict.fromkeys(indices) if index not in self._control]
        for at in range(0, len(missing), self.chunk):
            part = missing[at : at + self.chunk]
            control = self.controlnext.apply_time(self._features(part), self._embedding)
            self._control.update(zip(part, control.split(1), strict=True))
        self._control = {index: self._control[index] for index in indices}
        return torch.cat([self._control[index] for index in indices])

    def spare(self) -> None:
        """Work one frame at a time from now on, and keep nothing between steps."""
        self.chunk, self.keep_bytes, self.kept_bytes = 1, 0, 0
        self._kept.clear()

    def _features(self, indices: list[int]) -> FrameFeatures | PoseFeatures:
        if all(index in self._kept for index in indices):
            kept = [self._kept[index] for index in indices]
            return kept[0] if len(kept) == 1 else type(kept[0])(*map(torch.cat, zip(*kept, strict=True)))
        features = self.controlnext.encode_frames(self._pixels(indices))
        size = features.nbytes() // len(indices)
        for i, index in enumerate(indices):
            if index not in self._kept and self.kept_bytes + size <= self.keep_bytes:
                self._kept[index] = type(features)(*(part[i : i + 1].clone() for part in features))
                self.kept_bytes += size
        return features

    def _pixels(self, indices: list[int]) -> Tensor:
        """[n, 3, H, W] in 0..1."""
        frames = np.concatenate([self.frames[index : index + 1] for index in indices])
        pixels = torch.from_numpy(frames).to(self.controlnext.device).permute(0, 3, 1, 2)
        return pixels.to(self.controlnext.dtype) / 255


@dataclass
class Sampler:
    """One video, ready for predictions: `predict` is what a worker does."""

    denoiser: Denoiser
    conditioning: Conditioning
    control: ControlCache
    windows: Sequence[Window]
    sigmas: Tensor
    """float32 [steps + 1] on the CPU."""
    guidance: tuple[float, float]
    """Guidance scale of a window's first and last slot."""
    guidance_interval: tuple[float, float] = (0.0, 1.0)
    """The part of the steps that is guided."""
    cache: DeepCache | None = None
    """Where deep features are kept, and after how many steps they are computed anew."""
    cache_interval: int = 1
    guidance_apart: bool = False
    """Whether guidance halves are computed one after the other."""
    feed_forward: ChunkedFeedForward | None = None
    """In how many parts the UNet's feed-forward layers run."""
    compiled: CompiledRegions | None = None
    """Compiled blocks of the UNet."""
    say: Callable[[str], None] = silent
    """Told, in one line, what went on otherwise than planned."""

    def guidance_at(self, step: int, num_slots: int) -> Tensor | None:
        """Guidance scale [num_slots] of each slot of a window at `step`; None where it is not guided."""
        low, high = self.guidance_interval
        if not low <= step / (len(self.sigmas) - 1) < high:
            return None
        return guidance_ramp(*self.guidance, num_slots)

    def predict(self, step: int, index: int, latents: Tensor) -> Tensor:
        """v [F, 4, h, w], float32 on the CPU, of window `index` at `step` from its latents [F, 4, h, w].

        One window is one call of the UNet, so the result does not depend on what else a worker does. Where
        deep features are cached, it depends on the steps of this window that were predicted here before.
        A device that runs out of memory gets a second chance with smaller pieces, the same up to rounding;
        DeviceMemoryError if that fails too.
        """
        predict = partial(self._predict, step, index, latents)
        run = predict if self.compiled is None else partial(self.compiled.run, predict)
        what = f"a window of {len(self.windows[index])} frames at step {step}"
        return in_smaller_pieces(run, self._spare, what, self.say)

    def _spare(self) -> None:
        self.guidance_apart = True
        self.control.spare()
        if self.feed_forward is not None:
            self.feed_forward.parts = max(4, 2 * self.feed_forward.parts)
        if self.cache is not None:
            self.cache.spare()

    @torch.no_grad()
    def _predict(self, step: int, index: int, latents: Tensor) -> Tensor:
        device = self.conditioning.token.device
        window, sigma = self.windows[index], self.sigmas[step].to(device)
        guidance = self.guidance_at(step, len(window))
        rows = len(window) * (1 if guidance is None else 2)
        reused = step % self.cache_interval > 0 and self.cache is not None and self.cache.has(index, rows)
        control = None if reused else self.control(step, sigma, window.control)
        with self._cached(index, rows, reused):
            v = self.denoiser.guided(
                latents[None].to(device),
                sigma,
                self.conditioning,
                control,
                None if guidance is None else guidance.to(device),
                self.guidance_apart,
            )
        return v[0].cpu()

    def _cached(self, index: int, rows: int, reused: bool) -> AbstractContextManager[None]:
        if self.cache is None:
            return nullcontext()
        return self.cache.reuse(index, rows) if reused else self.cache.fill(index)

    def predict_all(
        self, step: int, latents: Tensor, on_window: Callable[[int, int], None] | None = None
    ) -> Iterator[Tensor]:
        """Predictions of all windows, in their order, from the latents of all frames [N, 4, h, w]."""
        for index, window in enumerate(self.windows):
            yield self.predict(step, index, latents[list(window.frames)])
            if on_window is not None:
                on_window(step, index)


def guidance_ramp(first: float, last: float, num_frames: int) -> Tensor | None:
    """Guidance scale [num_frames] of each slot of a window; None where guidance changes nothing.

    As published, guidance is off when the last scale is below 1. It is also not computed at 1 throughout,
    where the guided prediction is the conditional one.
    """
    if last < 1 or first == last == 1:
        return None
    return torch.linspace(first, last, num_frames)


def denoise(
    latents: Tensor,
    sigmas: Tensor,
    windows: Sequence[Window],
    predict: Callable[[int, Tensor], Iterable[Tensor]],
    *,
    start: int = 0,
    on_step: Callable[[int, Tensor], None] | None = None,
    on_estimate: OnEstimate | None = None,
    noise: FreshNoise | None = None,
) -> Tensor:
    """Denoise all frames together: at each step one prediction, blended over the windows, and one Euler step.

    Averaging predictions and stepping once is the published stepping in each window and averaging after, for
    the step is affine in the prediction. A frame is stepped as soon as no later window holds it, so beside
    the latents no more than two windows are in memory.

    Args:
        latents: [N, 4, h, w] at noise level sigmas[start], float32 on the CPU; changed in place.
        sigmas: [steps + 1].
        predict: (step, latents of all frames) -> v of each window [F, 4, h, w], in the order of `windows`. It
            may read a window's latents until it yields that window's prediction.
        start: steps already done; with their latents, a stopped run goes on as if it had not stopped.
        on_step: receives (steps done, latents) after each step; copy what you keep.
        on_estimate: receives (steps done, frames, x0_hat [n, 4, h, w] of these frames) within each step.
        noise: for consistency-distilled weights, whose steps are not Euler's: (step, frames) -> fresh noise.

    Returns:
        `latents`, now of the video, times the VAE's scaling factor.
    """
    for step in range(start, len(sigmas) - 1):
        for frames, v in blended(windows, predict(step, latents)):
            before, ahead = latents[frames], (sigmas[step], sigmas[step + 1])
            if on_estimate is not None:
                on_estimate(step + 1, frames, denoised(before, v, sigmas[step]))
            if noise is None:
                latents[frames] = euler_step(before, v, *ahead)
            else:
                latents[frames] = consistency_step(before, v, *ahead, noise(step, frames))
        if on_step is not None:
            on_step(step + 1, latents)
    return latents
