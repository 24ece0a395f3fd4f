"""How frames are enlarged, by `upscale` and by the step of that name in a video."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from ..character.options import PaintingConfig
from ..config_base import Rare


class UpscaleOptions(PaintingConfig):
    """How each frame is painted anew under control of its low-resolution self."""

    method: Literal["controlnext", "lanczos"] = "controlnext"
    """`controlnext`: painted by `base` under control; `lanczos`: only resized, to compare with."""
    prompt: str = ""
    """What is to be seen, in words."""
    negative_prompt: str = ""
    """What is not to be seen."""
    strength: Annotated[float | None, Field(gt=0, le=1)] = None
    """How much of the enlarged frame is painted anew [default: the model's, 0.4]."""
    steps: Annotated[int | None, Field(ge=1, le=1000)] = None
    """Denoising steps, of which the part `strength` is made [default: the model's, 20]."""
    guidance_scale: Annotated[float | None, Field(ge=0, le=100)] = None
    """How strongly the prompt is followed; 1 switches guidance off [default: the model's, 1]."""
    scale: Annotated[float, Field(ge=0)] = 1.0
    """How strongly the low-resolution frame is followed."""
    tile: Annotated[int | None, Field(ge=64, multiple_of=16)] = None
    """Side of the squares that are painted at a time, in pixels of the result [default: the model's, 512]."""
    overlap: Annotated[int | None, Field(ge=0)] = None
    """Pixels that neighbouring squares share, at least [default: the model's, 64]."""
    neighbours: Annotated[int, Field(ge=0, le=8)] = 2
    """Frames on either side whose detail is blended into each frame, along the motion; 0 for none."""
    seed: Annotated[int, Field(ge=0, lt=2**63), Rare] = 0
    """The same seed gives the same video."""

    @model_validator(mode="after")
    def _overlap_fits(self) -> Self:
        if self.tile is not None and self.overlap is not None and 2 * self.overlap > self.tile:
            raise ValueError(f"overlap {self.overlap} is more than half of tile {self.tile}: make it smaller")
        return self
