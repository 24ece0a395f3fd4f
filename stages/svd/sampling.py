"""Predictions for the windows of one video: its conditioning, its control features, and its guidance."""

from collections.abc import Container, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from ..control import ControlModule, FrameFeatures, feature_bytes, frame_features, join_features
from ..generate import ControlFrames
from ..media.read_ahead import FramesAhead
from ..windows import Window
from .denoiser import Conditioning, Denoiser, timestep_of, unconditional
from .guidance import Guidance, guide
from .levers.deep_cache import DeepCache
from .levers.fast import CompiledRegions
from .levers.feed_forward import ChunkedFeedForward
from .memory.retry import in_smaller_pieces


class ControlCache:
    """Control features of one video, computed once for each frame and step whatever windows ask for them.

    Features of a step stay while the next window may need them. The part that does not depend on time stays
    for all steps, for as many frames as fit into `keep_bytes`; the others' is computed anew at each step, of
    frames that stay as bytes while `keep_frame_bytes` hold them and are read again where they do not.
    `chunk` frames go through the module at a time, always the same ones together: frames 0 to chunk - 1, the
    next `chunk`, and so on. So a frame's features do not depend, to the last bit, on which frames were asked
    for with it.
    """

    def __init__(
        self,
        controlnext: ControlModule,
        frames: ControlFrames,
        keep_bytes: int = 1 << 30,
        chunk: int = 1,
        keep_frame_bytes: int = 512 << 20,
    ) -> None:
        self.controlnext = controlnext
        self.frames = frames
        self.keep_bytes = keep_bytes
        self.chunk = chunk
        self.kept_bytes = 0
        self._pictures = FramesAhead(frames, keep_frame_bytes)
        self._kept: dict[int, FrameFeatures] = {}
        self._step = -1
        self._embedding: Tensor | None = None
        self._control: dict[int, Tensor] = {}

    def __call__(self, step: int, sigma: Tensor, indices: Sequence[int]) -> Tensor:
        """Control features [len(indices), C, h, w] at `step`, whose noise level is `sigma`."""
        if step != self._step or self._embedding is None:
            self._step, self._control = step, {}
            self._embedding = self.controlnext.embed_time(timestep_of(sigma), 1)
        for part in self._chunks(indices, self._control):
            control = self.controlnext.apply_time(self._features(part), self._embedding)
            self._control.update(
                (index, made) for index, made in zip(part, control.split(1), strict=True) if index in indices
            )
        self._control = {index: self._control[index] for index in indices}
        return torch.cat([self._control[index] for index in indices])

    def ahead(self, step: int, indices: Sequence[int]) -> None:
        """Let a thread read what the call for these frames at `step` will need."""
        parts = self._chunks(indices, self._control if step == self._step else ())
        self._pictures.ahead(index for part in parts if not self._all_kept(part) for index in part)

    def pixels(self, indices: Sequence[int]) -> Tensor:
        """[n, 3, H, W] in 0..1, on the module's device and in its dtype."""
        pixels = torch.from_numpy(self._pictures(indices)).to(self.controlnext.device).permute(0, 3, 1, 2)
        return pixels.to(self.controlnext.dtype) / 255

    def use_less_memory(self) -> None:
        """Work one frame at a time from now on, and keep nothing between steps."""
        self.chunk, self.keep_bytes, self.kept_bytes = 1, 0, 0
        self._kept.clear()

    def _chunks(self, indices: Sequence[int], made: Container[int]) -> Iterator[list[int]]:
        """The frames that go through the module together, for those of `indices` that are not `made`."""
        chunks = {index // self.chunk for index in indices if index not in made}
        for start in sorted(chunk * self.chunk for chunk in chunks):
            yield list(range(start, min(start + self.chunk, len(self.frames))))

    def _all_kept(self, indices: Sequence[int]) -> bool:
        return all(index in self._kept for index in indices)

    def _features(self, indices: list[int]) -> FrameFeatures:
        if self._all_kept(indices):
            return join_features([self._kept[index] for index in indices])
        features = self.controlnext.encode_frames(self.pixels(indices))
        size = feature_bytes(features) // len(indices)
        for i, index in enumerate(indices):
            if index not in self._kept and self.kept_bytes + size <= self.keep_bytes:
                self._kept[index] = frame_features(features, i)
                self.kept_bytes += size
        if self._all_kept(indices):
            for index in indices:
                self._pictures.drop(index)
        return features


@dataclass
class Sampler:
    """One video, ready for predictions: `predict` is what a worker does."""

    denoiser: Denoiser
    conditioning: Conditioning
    control: ControlCache
    windows: Sequence[Window]
    sigmas: Tensor
    """float32 [steps + 1] on the CPU."""
    guidance: Guidance
    cache: DeepCache | None = None
    """Where deep features are kept, and after how many steps they are computed anew."""
    cache_interval: int = 1
    feed_forward: ChunkedFeedForward | None = None
    """In how many parts the UNet's feed-forward layers run."""
    compiled: CompiledRegions | None = None
    """Compiled blocks of the UNet."""
    _last: int = field(default=-1, init=False)
    """The window that was predicted last, and how far it was from the one before."""
    _stride: int = field(default=1, init=False)

    def predict(self, step: int, index: int, latents: Tensor) -> Tensor:
        """v [F, 4, h, w], float32 on the CPU, of window `index` at `step` from its latents [F, 4, h, w].

        Under guidance each half is a call of its own, here as anywhere: a batch of two gives other bits than
        two batches of one, and with halves apart it does not matter which worker makes which.
        """
        cond = self.predict_half(step, index, latents, conditional=True)
        guidance = self.guidance.scale(step, len(latents))
        if guidance is None:
            return cond
        return guide(self.predict_half(step, index, latents, conditional=False), cond, guidance)

    def predict_half(self, step: int, index: int, latents: Tensor, conditional: bool) -> Tensor:
        """One half of `predict`: one call of the UNet, so that it does not depend on what else a worker does.

        Where deep features are cached, it depends on the steps of this half that were predicted here before.
        A device that runs out of memory gets a second chance with smaller pieces, the same up to rounding;
        DeviceMemoryError if that fails too.
        """
        predict = partial(self._predict, step, index, latents, conditional)
        run = predict if self.compiled is None else partial(self.compiled.run, predict)
        what = f"a window of {len(self.windows[index])} frames at step {step}"
        return in_smaller_pieces(run, self._use_less_memory, what)

    def _use_less_memory(self) -> None:
        self.control.use_less_memory()
        if self.feed_forward is not None:
            self.feed_forward.parts = max(4, 2 * self.feed_forward.parts)
        if self.cache is not None:
            self.cache.use_less_memory()

    @torch.no_grad()
    def _predict(self, step: int, index: int, latents: Tensor, conditional: bool) -> Tensor:
        device = self.conditioning.token.device
        sigma, key = self.sigmas[step].to(device), (index, conditional)
        reused = step % self.cache_interval > 0 and self.cache is not None and self.cache.has(key)
        control = None
        if conditional and not reused:
            control = self.control(step, sigma, self.windows[index].control)
            self._look_ahead(step, index)
        known = self.conditioning if conditional else unconditional(self.conditioning)
        with self._cached(key, reused):
            v = self.denoiser(latents[None].to(device), sigma.reshape(1), known, control)
        return v[0].cpu()

    def _look_ahead(self, step: int, index: int) -> None:
        """Read the control frames of the window that will probably come next, while the UNet works.

        One worker of n mostly gets every n-th window; where another comes, only the reading was in vain.
        """
        if index > self._last >= 0:
            self._stride = index - self._last
        self._last = index
        following = index + self._stride
        if following >= len(self.windows):
            step, following = step + 1, index % self._stride
        if step < len(self.sigmas) - 1:
            self.control.ahead(step, self.windows[following].control)

    def _cached(self, key: tuple[int, bool], reused: bool) -> AbstractContextManager[None]:
        if self.cache is None:
            return nullcontext()
        return self.cache.reuse(key) if reused else self.cache.fill(key)
