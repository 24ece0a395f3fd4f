"""What decides how a video is enlarged."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter
from pydantic import Field, model_validator

from ..character.config import PaintingConfig
from ..config import EncodeConfig, Rare


class UpscaleConfig(PaintingConfig):
    """Everything that decides what `upscale` makes."""

    video: Path | None = None
    """Video to enlarge."""
    output: Annotated[Path, Parameter(alias="-o")] = Path("out/upscaled")
    """Folder for result.mp4; run the same command again to resume it."""
    factor: Annotated[int, Field(ge=2, le=4)] = 2
    """How much wider and higher the result is."""
    method: Literal["controlnext", "lanczos"] = "controlnext"
    """`controlnext`: painted by --base under control; `lanczos`: only resized, to compare with."""
    prompt: str = ""
    """What is to be seen, in words."""
    negative_prompt: str = ""
    """What is not to be seen."""
    strength: Annotated[float, Field(gt=0, le=1)] = 0.4
    """How much of the enlarged frame is painted anew."""
    steps: Annotated[int, Field(ge=1, le=1000)] = 20
    """Denoising steps, of which the part `strength` is made."""
    guidance_scale: Annotated[float, Field(ge=0, le=100)] = 1.0
    """How strongly the prompt is followed; 1 switches guidance off."""
    scale: Annotated[float, Field(ge=0)] = 1.0
    """How strongly the low-resolution frame is followed."""
    tile: Annotated[int, Field(ge=64, multiple_of=16)] = 512
    """Side of the squares that are painted at a time, in pixels of the result."""
    overlap: Annotated[int, Field(ge=0)] = 64
    """Pixels that neighbouring squares share, at least."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """The same seed gives the same video."""
    encode: Annotated[EncodeConfig, Rare] = EncodeConfig()

    @model_validator(mode="after")
    def _overlap_fits(self) -> "UpscaleConfig":
        if 2 * self.overlap > self.tile:
            raise ValueError(f"overlap {self.overlap} is more than half of tile {self.tile}: make it smaller")
        return self
