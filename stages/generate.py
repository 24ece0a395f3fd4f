"""Generators: what turns a reference image and control frames into the frames of a video.

A generator is named in a table or is a folder that `save_generator`, training or conversion wrote. The
heavy libraries are imported when one is loaded.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np

from .errors import ConfigError, WeightsError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from .svd.decoder import Decoder
    from .svd.generator import SvdGenerator
    from .svd.sampling import ControlFrames

DEMO_FOLDER = "demo"
"""Where the shipped model lies inside the package `posedance.stages`."""


WindowPlan = Literal["even", "published", "mimicmotion"]
"""Names of window plans (`windows.PLANS`).

`even` is ours and only cuts windows. `published` (ControlNeXt-SVD-v2) and `mimicmotion` are recipes: such a
plan also decides how the noise is drawn (`noise`) and how the latents are cut for decoding (`decode`), as in
the published code that it is named after.
"""


@dataclass(frozen=True, slots=True)
class Defaults:
    """What a generator was trained for, and how it is best used."""

    width: int
    height: int
    window_size: int
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


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Where a stopped run goes on: `step` steps are done, and `latents` [N, 4, h, w] are what they left."""

    step: int
    latents: Tensor


class Generator(Protocol):
    """Reference image and control frames in, frames out. Control frame 0 is the reference's own pose."""

    name: str
    defaults: Defaults

    @property
    def size_multiple(self) -> int:
        """Width and height of a result must be multiples of this."""
        ...

    def settings(self) -> Settings:
        """The defaults as settings."""
        ...

    def denoise(
        self,
        reference: np.ndarray,
        control_frames: ControlFrames,
        settings: Settings,
        *,
        resume: Checkpoint | None = None,
        on_window: Callable[[int, int], None] | None = None,
        on_step: Callable[[int, Tensor], None] | None = None,
        on_estimate: Callable[[int, Sequence[int], Tensor], None] | None = None,
    ) -> Tensor:
        """Latents of all frames, the reference's (frame 0) included, float32 on the CPU.

        Args:
            reference: uint8 [H, W, 3], fitted to the size of the control frames.
            control_frames: N frames, uint8 [N, H, W, 3] by slices.
            settings: how.
            resume: a checkpoint of the same reference, control frames and settings.
            on_window: called with (step, window) after each prediction.
            on_step: called with (steps done, latents) after each step; copy the latents to keep them.
            on_estimate: called with (steps done, frames, latents of these frames as they would be without
                noise) within each step, for previews (`colours`).

        An exception raised in a callback ends the run.
        """
        ...

    def decode(self, latents: Tensor, settings: Settings) -> Iterator[np.ndarray]:
        """Frames 1 to N - 1, uint8 [H, W, 3], in step with the driver; the reference's own is left out."""
        ...


def check_size(generator: Generator, width: int, height: int) -> None:
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


def save_generator(generator: SvdGenerator, folder: str | Path) -> None:
    """Write a folder that `load_generator` reads."""
    from .svd.files.folder import save_folder

    save_folder(generator, Path(folder))


def load_generator(
    name: str,
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = None,
    memory_limit: int | None = None,
    compile: bool = False,
    base: str | Path | None = None,
    controlnext: str | Path | None = None,
    unet: str | Path | None = None,
    mimicmotion: str | Path | None = None,
) -> SvdGenerator:
    """A generator by its name in the table, or by the folder that holds it, ready on `device`.

    Args:
        name: `tiny-random`, `demo`, `svd-xt-1.1`, `mimicmotion`, or a folder.
        dtype: of the weights; by default float32 on a CPU with enough memory, and bfloat16 elsewhere.
        memory_limit: bytes of the device that may be taken, weights included; all that is free by default.
        compile: fuse element-wise work by torch.compile.
        base: for `svd-xt-1.1` and `mimicmotion`: Stable Video Diffusion in diffusers layout, a folder or a
            hub id.
        controlnext, unet: for `svd-xt-1.1`: the ControlNeXt weights, and the UNet's published with them.
        mimicmotion: for `mimicmotion`: its published weights, one file.

    Raises ConfigError for a name that is neither, and WeightsError for weights that are missing or unfit.
    """
    import torch

    from .svd.memory.plan import choose_dtype

    files = {"base": base, "controlnext": controlnext, "unet": unet, "mimicmotion": mimicmotion}
    for key, value in files.items():
        if value and key not in FILES.get(name, ()):
            owners = " or ".join(model for model, keys in FILES.items() if key in keys)
            raise ConfigError(f"{key} belongs to the model {owners}, not to {name}")
    if name in GENERATORS:
        generator = GENERATORS[name](files)
    elif Path(name).is_dir():
        generator = _from_folder(Path(name), name)
    else:
        raise ConfigError(
            f"no model {name!r}: use one of {', '.join(GENERATORS)}, or a folder written by train or convert"
        )
    generator.memory_limit, generator.compile = memory_limit, compile
    return generator.to(device, dtype or choose_dtype(generator, torch.device(device)))


def load_decoder(
    name: str,
    *,
    device: str | torch.device = "cpu",
    memory_limit: int | None = None,
    compile: bool = False,
    base: str | Path | None = None,
) -> Decoder:
    """What `decode` of a generator needs, without its other networks: to the same frames.

    See `load_generator`, also for the errors.
    """
    import torch

    from .svd.decoder import Decoder
    from .svd.files.folder import load_vae

    if name in FILES:
        from .svd.files.published import find_base

        _check_given(name, dict.fromkeys(FILES[name], "") | {"base": base}, "in diffusers layout")
        vae = load_vae(find_base(str(base)))
    elif name == "demo" and not why_unusable(name):
        with resources.as_file(_demo_folder()) as folder:
            vae = load_vae(folder)
    elif name not in GENERATORS and Path(name).is_dir():
        vae = load_vae(Path(name))
    else:
        vae = load_generator(name).vae
    return Decoder(name, vae, torch.device(device), memory_limit, compile)


def why_unusable(name: str) -> str:
    """Why the generator `name` of the table cannot be used as it is; empty if it can."""
    if name == "demo" and not _demo_folder().joinpath("posedance.json").is_file():
        return "its weights are not part of this installation; train them with `make demo-model`"
    if name in FILES:
        return f"needs local files: name them with {_options(FILES[name])}"
    return ""


Files = dict[str, str | Path | None]
BASE_FILES = ("*/*.json", "vae/*.safetensors", "image_encoder/*.safetensors")
"""What is used of a base in diffusers layout: all but the UNet's weights."""
FILES = {"svd-xt-1.1": ("base", "controlnext", "unet"), "mimicmotion": ("base", "mimicmotion")}
"""The files that a generator of the table is made of, for those whose weights are not shipped."""


def _tiny_random(files: Files) -> SvdGenerator:
    from .svd.files.tiny import tiny_random

    return tiny_random()


def _demo(files: Files) -> SvdGenerator:
    if reason := why_unusable("demo"):
        raise WeightsError(f"the model demo is missing: {reason}, or use --model tiny-random")
    with resources.as_file(_demo_folder()) as folder:
        return _from_folder(folder, "demo")


def _svd(files: Files) -> SvdGenerator:
    from .svd.files.published import load_published

    _check_given(
        "svd-xt-1.1",
        files,
        "stable-video-diffusion-img2vid-xt-1-1 in diffusers layout, controlnet.bin, unet.bin; see the README",
    )
    return load_published(str(files["base"]), Path(str(files["controlnext"])), Path(str(files["unet"])))


def _mimicmotion(files: Files) -> SvdGenerator:
    from .mimicmotion.load import load_mimicmotion

    _check_given(
        "mimicmotion",
        files,
        "stable-video-diffusion-img2vid-xt-1-1 in diffusers layout, MimicMotion_1-1.pth",
    )
    return load_mimicmotion(str(files["base"]), Path(str(files["mimicmotion"])))


def _check_given(name: str, files: Files, what: str) -> None:
    missing = [key for key in FILES[name] if files[key] is None]
    if missing:
        raise WeightsError(f"{name} needs weights that are not shipped: give {_options(missing)} ({what})")


def _options(keys: Sequence[str]) -> str:
    return " and ".join(f"--weights.{key}" for key in keys)


def _from_folder(folder: Path, name: str) -> SvdGenerator:
    from .svd.files.folder import load_folder

    return load_folder(folder, name)


def _demo_folder() -> Traversable:
    return resources.files("posedance.stages").joinpath(DEMO_FOLDER)


GENERATORS: dict[str, Callable[[Files], SvdGenerator]] = {
    "tiny-random": _tiny_random,
    "demo": _demo,
    "svd-xt-1.1": _svd,
    "mimicmotion": _mimicmotion,
}
"""Loaders by name, each called with the files that the user named."""
