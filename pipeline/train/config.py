"""What decides a training of ControlNeXt and UNet."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from ...stages.svd.denoiser import Dropout
from ...stages.svd.noise import CosineInterpolated, LogNormal, SigmaDistribution
from ..config_base import Config
from .data import DataConfig
from .loop_config import LoopConfig
from .model import ModelConfig


class SigmaConfig(Config):
    """How much noise a training sample gets."""

    name: Literal["log-normal", "cosine"] = "cosine"
    """`cosine` as published for ControlNeXt-SVD-v2; `log-normal` as in EDM."""
    mean: float = 0.7
    """Mean of ln sigma (log-normal)."""
    std: Annotated[float, Field(gt=0)] = 1.6
    """Deviation of ln sigma (log-normal)."""
    low: Annotated[float, Field(gt=0)] = 0.002
    """Smallest sigma."""
    high: Annotated[float, Field(gt=0)] = 700.0
    """Largest sigma."""

    def distribution(self) -> SigmaDistribution:
        if self.name == "cosine":
            return CosineInterpolated(low=self.low, high=self.high)
        return LogNormal(self.mean, self.std, self.low, self.high)


class DropoutConfig(Config):
    """Ranges of one uniform draw in which a sample loses token, reference latents, or control."""

    token: tuple[float, float] = (0.0, 0.2)
    """Where in 0 to 1 the draw takes the image encoder's token away."""
    image: tuple[float, float] = (0.1, 0.3)
    """Where it takes the reference's latents away."""
    control: tuple[float, float] = (0.0, 0.0)
    """Where it takes the control frames away."""

    def ranges(self) -> Dropout:
        return Dropout(self.token, self.image, self.control)


class LossWeights(Config):
    """How much places count beside the background's 1."""

    body: Annotated[float, Field(ge=1)] = 1.0
    """All of the dancer."""
    face: Annotated[float, Field(ge=1)] = 4.2
    """The face."""
    small: Annotated[float, Field(ge=1)] = 4.2
    """Hands and shoes; 1 + 4 x 0.8 as published."""


class TrainConfig(Config):
    """Everything that decides a training of ControlNeXt and UNet."""

    output: Path = Path("out/train")
    """Folder for checkpoints, logs, and `model/`, which `animate --model` takes."""
    model: ModelConfig = ModelConfig()
    data: DataConfig = DataConfig()
    learn: Literal["none", "to_out+to_v", "temporal", "all"] = "all"
    """Which of the UNet's parameters learn, or where its LoRA weights are."""
    lora_rank: Annotated[int | None, Field(ge=1)] = None
    """Learn LoRA weights of this rank on the UNet's layers, instead of the layers themselves."""
    video: bool = True
    """Learn clips; false learns single pictures with the temporal layers skipped and at rest."""
    batch: Annotated[int, Field(ge=1)] = 1
    """Characters in a batch."""
    targets: Annotated[int, Field(ge=1)] = 1
    """Pictures of each character in a batch, where pictures are learned."""
    sigma: SigmaConfig = SigmaConfig()
    dropout: DropoutConfig = DropoutConfig()
    weights: LossWeights = LossWeights()
    still_reference: Annotated[float, Field(ge=0, le=1)] = 0.7
    """Share of samples whose reference is the character at rest, and not another frame of the dance."""
    palette: Annotated[float, Field(ge=0)] = 0.0
    """Above 0 the image encoder learns too, with this weight on telling the colours of the parts."""
    gradient_checkpointing: bool = False
    """Less memory for more time, where clips are learned."""
    cache_latents: bool = False
    """Keep every frame's latents, and the tokens of an image encoder at rest, in memory."""
    latents: Path | None = None
    """Folder that keeps them too, for this run and later ones."""
    loop: LoopConfig = LoopConfig()

    @model_validator(mode="after")
    def _checkpoints_clips(self) -> "TrainConfig":
        if self.gradient_checkpointing and not self.video:
            raise ValueError("gradient_checkpointing is for clips: leave it off where pictures are learned")
        return self
