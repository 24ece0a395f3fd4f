"""What decides a reference image that `character` makes."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from ..config import AnimateConfig, ClipConfig, Config, Rare


class PaintingConfig(Config):
    """The base that paints, its control module, and where they work."""

    base: str | None = None
    """Base: a folder in diffusers layout, a hub id, a single file, sd15, sdxl or sd3. Without --controlnext a
    folder that `convert` or `train image` wrote."""
    controlnext: Path | None = None
    """Control module: a file, or a folder that holds one."""
    unet: Path | None = None
    """Weights of the network that were trained with it: all, some, or increments."""
    lora: Path | None = None
    """LoRA weights of any kind that diffusers reads."""
    lora_scale: float = 1.0
    """How much of them is added."""
    base_config: Annotated[str | None, Rare] = None
    """Folder or hub id in diffusers layout whose configs a single file takes."""
    vae: Annotated[str | None, Rare] = None
    """VAE in place of the base's: madebyollin/sdxl-vae-fp16-fix for SDXL in 16 bits."""
    device: Annotated[str, Rare] = "auto"
    """auto, cpu, cuda or cuda:N."""
    precision: Annotated[Literal["bf16", "fp16", "fp32"] | None, Rare] = None
    """Precision of the weights [default: fp32 on a CPU, bf16 on a GPU]."""


class CharacterConfig(ClipConfig, PaintingConfig):
    """Everything that decides what `character` makes."""

    pose: Path | None = None
    """Pose file instead of a driving video."""
    frame: Literal["best", "first"] | Annotated[int, Field(ge=0)] = "best"
    """Whose pose is taken: `best`, most frontal with body and both hands in sight; `first`; or a number."""
    prompt: str = ""
    """Who is to dance, in words."""
    negative_prompt: str = ""
    """What is not to be seen."""
    picture: Path | None = None
    """Picture of somebody to begin from, by image-to-image."""
    strength: Annotated[float, Field(gt=0, le=1)] = 0.75
    """How much of that picture is painted anew."""
    width: Annotated[int, Field(ge=64, multiple_of=16)] = 576
    """Width of the picture in pixels."""
    height: Annotated[int, Field(ge=64, multiple_of=16)] = 1024
    """Height of the picture in pixels."""
    canvas: Annotated[int, Field(ge=8), Rare] = 2160
    """Short side at which the pose is drawn."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """The first of the seeds."""
    seeds: Annotated[int, Field(ge=1, le=64)] = 4
    """How many pictures are made; that with the pose nearest to the asked one is taken."""
    steps: Annotated[int, Field(ge=1, le=1000)] = 20
    """Denoising steps."""
    guidance_scale: Annotated[float, Field(ge=0, le=100)] = 7.5
    """How strongly the prompt is followed: 7.5 as published for SD1.5, 5 for SDXL."""
    scale: Annotated[float, Field(ge=0)] = 1.0
    """How strongly the pose is followed."""

    def video(self) -> AnimateConfig:
        """The same options as those of a video, for the steps that find poses."""
        shared = {name: getattr(self, name) for name in ClipConfig.model_fields}
        return AnimateConfig.model_validate(shared | {"pose": self.pose})
