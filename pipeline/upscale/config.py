"""What decides how `upscale` enlarges a video."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter
from pydantic import Field

from ..config import EncodeConfig
from ..config_base import Rare
from .options import UpscaleOptions


class UpscaleConfig(UpscaleOptions):
    """Everything that decides what `upscale` makes."""

    video: Path | None = None
    """Video to enlarge."""
    output: Annotated[Path, Parameter(alias="-o")] = Path("out/upscaled")
    """Folder for result.mp4; run the same command again to resume it."""
    factor: Annotated[int, Field(ge=2, le=4)] = 2
    """How much wider and higher the result is."""
    device: Annotated[str, Rare] = "auto"
    """auto, cpu, cuda or cuda:N."""
    precision: Annotated[Literal["bf16", "fp16", "fp32"] | None, Rare] = None
    """Precision of the weights [default: fp32 on a CPU, bf16 on a GPU]."""
    encode: Annotated[EncodeConfig, Rare] = EncodeConfig()
