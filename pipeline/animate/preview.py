"""A small video of what denoising has come to, written while it goes on."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from ...stages.media.encode import VideoWriter

if TYPE_CHECKING:
    from torch import Tensor

    from ...stages.svd.generator import SvdGenerator

SHRINK = 2
"""How many times smaller than the result a preview is, along each side."""


@dataclass(slots=True)
class Preview:
    """Writes the video `path` after every `every`-th step; `colours` is `generator.colours(reference)`."""

    generator: "SvdGenerator"
    colours: "Tensor"
    every: int
    fps: Fraction
    path: Path
    _pictures: dict[int, dict[int, np.ndarray]] = field(default_factory=dict)
    """Of steps that have not ended: frame -> picture."""

    def collect(self, step: int, frames: Sequence[int], latents: "Tensor") -> None:
        """Take the estimate of some frames after `step` (`Generator.denoise`, on_estimate)."""
        from ...stages.svd.preview import preview

        if step % self.every == 0:
            scaling = self.generator.vae.config["scaling_factor"]
            pictures = preview(latents, self.colours, scaling)
            self._pictures.setdefault(step, {}).update(zip(frames, pictures, strict=True))

    def write(self, step: int) -> None:
        """Write the video of `step`, if it is one of those; the reference's own frame is left out."""
        if step % self.every:
            return
        collected = self._pictures.pop(step)
        pictures = [collected[frame] for frame in sorted(collected) if frame > 0]
        scale = max(1, self.generator.downscale // SHRINK)
        height, width = (side * scale for side in pictures[0].shape[:2])
        with VideoWriter(self.path, width, height, self.fps, preset="veryfast") as writer:
            for picture in pictures:
                writer.write(cv2.resize(picture, (width, height), interpolation=cv2.INTER_LINEAR))
