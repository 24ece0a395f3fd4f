"""How a reference image is painted, by `character` and by the step of that name in a video."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from ..config_base import Config, Rare


class PaintingConfig(Config):
    """The base that paints, and its control module."""

    base: str | None = None
    """Base: a folder in diffusers layout, a hub id, a single file, sd15, sdxl or sd3. Without `controlnext` a
    folder that `convert` or `train image` wrote [default: the model of this task]."""
    controlnext: str | None = None
    """Control module: a file, a folder that holds one, or a hub id, OWNER/NAME or OWNER/NAME/FILE."""
    unet: Path | None = None
    """Weights of the network that were trained with it: all, some, or increments."""
    lora: tuple[Path, ...] = ()
    """LoRA weights of any kind that diffusers reads, files or folders; several go on together."""
    lora_scale: tuple[float, ...] = ()
    """How much of each is added [default: 1]."""
    base_config: Annotated[str | None, Rare] = None
    """Folder or hub id in diffusers layout whose configs a single file takes."""
    vae: Annotated[str | None, Rare] = None
    """VAE in place of the base's: madebyollin/sdxl-vae-fp16-fix for SDXL in 16 bits."""

    @model_validator(mode="after")
    def _a_scale_for_each(self) -> Self:
        if self.lora_scale and len(self.lora_scale) != len(self.lora):
            raise ValueError(
                f"{len(self.lora_scale)} lora_scale for {len(self.lora)} lora: give one for each, or none"
            )
        return self


class CharacterOptions(PaintingConfig):
    """How pictures of the character are painted, and which of them is taken."""

    condition: Literal["pose", "canny"] = "pose"
    """What the picture follows: the drawn pose, or edges (canny), for which the control module must be."""
    control: Path | None = None
    """With canny: picture whose edges are followed, or edges, white on black [default: the dance's frame]."""
    frame: Literal["best", "first"] | Annotated[int, Field(ge=0)] = "best"
    """Whose pose is taken: `best`, most frontal with body and both hands in sight; `first`; or a number."""
    negative_prompt: str = ""
    """What is not to be seen."""
    picture: Path | None = None
    """Picture of somebody to begin from, by image-to-image."""
    strength: Annotated[float | None, Field(gt=0, le=1)] = None
    """How much of that picture is painted anew [default: the model's, 0.75]."""
    canvas: Annotated[int | None, Field(ge=8), Rare] = None
    """Short side at which the pose is drawn [default: the model's, 2160]."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """The first of the seeds."""
    seeds: Annotated[int, Field(ge=1, le=64)] = 4
    """How many pictures are made; that with the pose nearest to the asked one is taken."""
    steps: Annotated[int | None, Field(ge=1, le=1000)] = None
    """Denoising steps [default: the model's, 20]."""
    guidance_scale: Annotated[float | None, Field(ge=0, le=100)] = None
    """How strongly the prompt is followed [default: the model's, 7.5 as published for SD1.5; SDXL has 5]."""
    scale: Annotated[float, Field(ge=0)] = 1.0
    """How strongly pose or edges are followed."""

    @model_validator(mode="after")
    def _edges_of_a_picture(self) -> Self:
        if self.control is not None and self.condition != "canny":
            raise ValueError(f"control {self.control} is a picture of edges: ask for condition canny")
        return self
