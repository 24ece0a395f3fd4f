"""What decides a reference image that `character` makes."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from ..config import AnimateConfig, ClipConfig
from ..config_base import Rare
from .options import CharacterOptions


class CharacterConfig(ClipConfig, CharacterOptions):
    """Everything that decides what `character` makes."""

    pose: Path | None = None
    """Pose file instead of a driving video."""
    prompt: str = ""
    """Who is to dance, in words."""
    width: Annotated[int | None, Field(ge=64, multiple_of=16)] = None
    """Width of the picture in pixels [default: the model's, 576]."""
    height: Annotated[int | None, Field(ge=64, multiple_of=16)] = None
    """Height of the picture in pixels [default: the model's, 1024]."""
    device: Annotated[str, Rare] = "auto"
    """auto, cpu, cuda or cuda:N."""
    precision: Annotated[Literal["bf16", "fp16", "fp32"] | None, Rare] = None
    """Precision of the weights [default: fp32 on a CPU, bf16 on a GPU]."""

    def video(self) -> AnimateConfig:
        """These options as those of a video, for the steps that find poses."""
        shared = {name: getattr(self, name) for name in ClipConfig.model_fields}
        return AnimateConfig.model_validate(shared | {"pose": self.pose})
