"""One picture by a diffusers pipeline under control, from a prompt or from another picture."""

import inspect
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..controlnext.model import ControlNeXt
from .attach import attach


@dataclass(frozen=True, slots=True)
class PaintSettings:
    """What is asked of a pipeline. `strength` is how much of a given picture is painted anew, 0 to 1."""

    prompt: str
    negative_prompt: str
    steps: int
    guidance_scale: float
    scale: float
    strength: float


def paint(
    pipeline: Any,
    module: ControlNeXt,
    condition: Tensor,
    settings: PaintSettings,
    seed: int,
    picture: np.ndarray | None = None,
) -> np.ndarray:
    """A picture uint8 RGB [H, W, 3] of the condition's size [1, 3, H, W], which is in 0..1.

    The same seed gives the same noise on any device. From `picture`, uint8 of that size, by diffusers' own
    image-to-image pipeline of the same networks.
    """
    height, width = condition.shape[-2:]
    asked: dict[str, Any] = {
        "prompt": settings.prompt,
        "negative_prompt": settings.negative_prompt,
        "num_inference_steps": settings.steps,
        "guidance_scale": settings.guidance_scale,
        "generator": torch.Generator().manual_seed(seed),
        "output_type": "pil",
    }
    if picture is not None:
        from diffusers.pipelines.auto_pipeline import AutoPipelineForImage2Image

        pipeline = AutoPipelineForImage2Image.from_pipe(pipeline)
        asked |= {"image": Image.fromarray(picture), "strength": settings.strength}
    if picture is None or "height" in inspect.signature(pipeline.__call__).parameters:
        asked |= {"height": height, "width": width}
    pipeline.set_progress_bar_config(disable=True)
    with attach(pipeline, module, condition, scale=settings.scale):
        made = pipeline(**asked).images[0]
    return np.asarray(made.convert("RGB"))
