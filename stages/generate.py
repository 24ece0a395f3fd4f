"""Generators: what turns a reference image and control frames into the frames of a video.

The words that all models share. The table of the models is in `models`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np

from .errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor

WindowPlan = Literal["even", "published", "mimicmotion"]
"""Names of window plans (`windows.PLANS`).

`even` is ours and only cuts windows. `published` (ControlNeXt-SVD-v2) and `mimicmotion` are recipes: such a
plan also decides how the noise is drawn (`draw_noise`), how the latents are cut for decoding (`decode`) and
that the reference image is brought to size without antialiasing (`fit_cover`), as in the published code that
it is named after.
"""
RECIPE_DECODE_CHUNKS: Mapping[WindowPlan, int] = {"published": 2, "mimicmotion": 8}
"""Frames that the published scripts decode together, by their recipe."""


@dataclass(frozen=True, slots=True)
class Defaults:
    """What a generator was trained for, and how it is best used."""

    width: int
    height: int
    window_size: int | None
    """Frames in a window; None where the weights do not tell, so that the user must."""
    window_overlap: int
    steps: int
    guidance_scale: float
    control_canvas: int = 2160
    """Short side at which control frames are drawn; small models name less (`draw_control_frames`)."""
    window_plan: WindowPlan = "even"


@dataclass(frozen=True, slots=True)
class Settings:
    """How one video is made. Start from `generator.settings()` and replace what differs."""

    steps: int
    guidance_scale: float
    window_size: int
    window_overlap: int
    seed: int = 0
    min_guidance_scale: float | None = None
    """If given, guidance rises over the slots of each window from this to `guidance_scale`."""
    window_plan: WindowPlan = "even"
    """A recipe decides noise and decoding too: see `WindowPlan`."""
    schedule: Literal["fast", "published"] = "fast"
    """`published` keeps the published order of work: the same latents up to rounding, slower."""
    decode_chunk: int = 8
    """Frames that are decoded together."""
    decode_overlap: int = 2
    """Frames shared and cross-faded by neighbouring decoder chunks (plan `even`)."""
    align_your_steps: bool = False
    """Approximate: the noise levels of Align Your Steps, made for SVD in 10 steps."""
    consistency: bool = False
    """Approximate: noise levels and steps for consistency-distilled weights (AnimateLCM-SVD), 2 to 8 steps
    without guidance. Other weights lose detail."""
    guidance_interval: tuple[float, float] = (0.0, 1.0)
    """Approximate: the part of the steps, from 0 to 1, in which the prediction is guided. Outside it there is
    only the conditional prediction, at half the work (Kynkaanniemi et al. 2024, arXiv:2404.07724)."""
    cache_interval: int = 1
    """Approximate: the UNet's deep features are computed at every `cache_interval`-th step and reused at the
    others. A resumed run begins with a full step and may differ a little."""

    @property
    def is_recipe(self) -> bool:
        """Whether the window plan is that of published code, which then decides more: see `WindowPlan`."""
        return self.window_plan != "even"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Where a stopped run goes on: `step` steps are done, and `latents` [N, 4, h, w] are what they left."""

    step: int
    latents: Tensor


OnWindow = Callable[[int, int], None]
"""Called with (step, window) after each prediction."""
OnStep = Callable[[int, "Tensor"], None]
"""Called with (steps done, latents [N, 4, h, w]) after each step; copy the latents to keep them."""
OnEstimate = Callable[[int, Sequence[int], "Tensor"], None]
"""Called within each step with (steps done, frames, latents [n, 4, h, w] of these frames as they would be
without noise)."""


class ControlFrames(Protocol):
    """Control frames of one video: an array, a memory map, or anything with a length that can be sliced."""

    def __len__(self) -> int: ...

    def __getitem__(self, frames: slice, /) -> np.ndarray:
        """uint8 [n, H, W, 3], RGB."""
        ...


class Generator(Protocol):
    """Reference image and control frames in, frames out. Control frame 0 is the reference's own pose."""

    name: str
    defaults: Defaults

    @property
    def size_multiple(self) -> int:
        """Width and height of a result must be multiples of this."""
        ...

    def settings(self, window_size: int | None = None) -> Settings:
        """The defaults as settings, with windows of `window_size` frames if given.

        ConfigError where neither it nor the defaults tell the window.
        """
        ...

    def denoise(
        self,
        reference: np.ndarray,
        control_frames: ControlFrames,
        settings: Settings,
        *,
        resume: Checkpoint | None = None,
        on_window: OnWindow | None = None,
        on_step: OnStep | None = None,
        on_estimate: OnEstimate | None = None,
    ) -> Tensor:
        """Latents of all frames, the reference's (frame 0) included, float32 on the CPU.

        Args:
            reference: uint8 [H, W, 3], fitted to the size of the control frames.
            control_frames: N frames, uint8 [N, H, W, 3] by slices.
            settings: how.
            resume: a checkpoint of the same reference, control frames and settings.
            on_window, on_step, on_estimate: callbacks, for bars, checkpoints and previews (`colours`). An
                exception raised in one ends the run.
        """
        ...

    def decode(self, latents: Tensor, settings: Settings, bit_depth: int = 8) -> Iterator[np.ndarray]:
        """Frames 1 to N - 1, [H, W, 3], in step with the dance; the reference's own is left out.

        uint8, or uint16 in 0..2^bit_depth - 1 where `bit_depth` is above 8.
        """
        ...


class Sized(Protocol):
    """What makes videos of some sizes: any generator, and the figure of paper."""

    @property
    def name(self) -> str: ...
    @property
    def defaults(self) -> Defaults: ...
    @property
    def size_multiple(self) -> int: ...


def check_size(generator: Sized, width: int, height: int) -> None:
    """ConfigError, naming the nearest size, where `generator` cannot make videos of this one."""
    multiple = generator.size_multiple
    if width % multiple or height % multiple or min(width, height) < multiple:
        nearest_width, nearest_height = (nearest_multiple(value, multiple) for value in (width, height))
        raise ConfigError(
            f"{generator.name} cannot make {width}x{height}: width and height must be multiples of "
            f"{multiple}; the nearest is --width {nearest_width} --height {nearest_height}"
        )


def nearest_multiple(value: int, multiple: int) -> int:
    """The multiple of `multiple`, at least one, that is nearest to `value`; the larger of two."""
    return max(1, math.floor(value / multiple + 0.5)) * multiple
