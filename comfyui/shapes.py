"""ComfyUI's shapes and posedance's: IMAGE, AUDIO, a rate, a place for models; progress and cancelling.

IMAGE is float32 [B, H, W, C] from 0 to 1, AUDIO a waveform float32 [B, C, N] with its sample rate, and
POSE_KEYPOINT a list with one OpenPose dictionary for each frame, as comfyui_controlnet_aux has it.
"""

from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import comfy.model_management
import comfy.utils
import folder_paths
import numpy as np
import torch

from posedance.stages import Sound

LARGEST_DENOMINATOR = 1001
"""Of frame rates: 29.97 is 30000/1001."""


def frames_of(image: torch.Tensor) -> np.ndarray:
    """An IMAGE as frames uint8 [B, H, W, 3]."""
    return (image[..., :3].clamp(0, 1) * 255).round().to("cpu", torch.uint8).numpy()


def image_of(frames: Iterable[np.ndarray]) -> torch.Tensor:
    """Frames uint8 [H, W, 3] as an IMAGE."""
    return torch.from_numpy(np.stack(list(frames))).to(torch.float32) / 255


def audio_of(sound: Sound | None) -> dict[str, Any] | None:
    """A sound as AUDIO."""
    if sound is None:
        return None
    return {"waveform": torch.from_numpy(sound.samples)[None], "sample_rate": sound.rate}


def sound_of(audio: dict[str, Any]) -> Sound:
    """The first of an AUDIO."""
    return Sound(audio["waveform"][0].to("cpu", torch.float32).numpy(), int(audio["sample_rate"]))


def rate_of(fps: float) -> Fraction:
    """Frames a second, exact."""
    return Fraction(fps).limit_denominator(LARGEST_DENOMINATOR)


def model_named(name: str) -> str:
    """A model's name, or its folder: one in ComfyUI's `models/posedance` goes by its own name."""
    inside = Path(folder_paths.models_dir, "posedance", name)
    return str(inside) if inside.is_dir() else name


class Progress:
    """The bar above a node. Each step first asks whether the user has cancelled, which raises."""

    def __init__(self, total: int) -> None:
        self._bar = comfy.utils.ProgressBar(total)

    def check(self, *_: object) -> None:
        """Stop here where the user has cancelled."""
        comfy.model_management.throw_exception_if_processing_interrupted()

    def step(self, *_: object) -> None:
        """One more is done."""
        self.check()
        self._bar.update(1)

    def over(self, frames: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Pass frames on, and count them."""
        for frame in frames:
            self.step()
            yield frame
