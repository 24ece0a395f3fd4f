"""Train a small image encoder on puppets: `run.py train image-encoder --config CONFIG`.

The UNet sees one token of the reference. CLIP's is learned from captions; a small one learns here to tell the
colour of every part of the body and whether the picture shows it, which a linear layer reads off the token.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from ...datasets.clips import BadRecord, Clip, palette_of
from ...datasets.puppets.render import PARTS
from ...stages.errors import ConfigError
from ...stages.svd.conditioning import clip_pixels
from ..config_base import Config
from ..evaluate.figures import write_figures
from .data import DataConfig, clip_batches, held_out_clips, seeded
from .identity import data_identity
from .log import Log
from .loop import run_loop, training_folder
from .loop_config import LoopConfig

VALIDATION_CLIPS = 16
PRESENCE_WEIGHT = 0.02
"""How much it counts, beside the colours, whether a part is shown (a choice)."""


class EncoderConfig(Config):
    """Everything that decides an image-encoder training."""

    output: Path = Path("out/image_encoder")
    """Folder for checkpoints, logs and the result."""
    image_size: Annotated[int, Field(ge=8)] = 128
    """Side of the square that the reference is resized to."""
    patch_size: Annotated[int, Field(ge=1)] = 16
    """Side of a patch."""
    width: Annotated[int, Field(ge=8)] = 128
    """Channels."""
    layers: Annotated[int, Field(ge=1)] = 4
    """Transformer layers."""
    heads: Annotated[int, Field(ge=1)] = 4
    """Attention heads of each."""
    token: Annotated[int, Field(ge=1)] = 128
    """Channels of the token: the UNet's cross-attention dimension."""
    batch: Annotated[int, Field(ge=1)] = 8
    """Clips in a batch."""
    frames: Annotated[int, Field(ge=1)] = 3
    """Frames of each clip that are used."""
    data: DataConfig = DataConfig()
    loop: LoopConfig = LoopConfig()


class EncoderTask:
    """Colours and presence of body parts from one picture."""

    def __init__(self, config: EncoderConfig) -> None:
        self.config = config
        torch.manual_seed(config.loop.seed)
        self.encoder = CLIPVisionModelWithProjection(
            CLIPVisionConfig(
                hidden_size=config.width,
                intermediate_size=3 * config.width,
                projection_dim=config.token,
                num_hidden_layers=config.layers,
                num_attention_heads=config.heads,
                image_size=config.image_size,
                patch_size=config.patch_size,
            )
        )
        self.reader = nn.Linear(config.token, 4 * len(PARTS))
        self.modules: Mapping[str, nn.Module] = {"image_encoder": self.encoder, "reader": self.reader}

    def to(self, device: torch.device) -> None:
        for module in self.modules.values():
            nn.Module.to(module, device)

    def trainable(self) -> list[tuple[str, nn.Parameter]]:
        return [(f"{m}.{n}", p) for m, module in self.modules.items() for n, p in module.named_parameters()]

    def batches(self, start: int, stop: int, micros: range) -> Iterator[list[Clip | BadRecord]]:
        config = self.config
        return clip_batches(config.data, config.loop, config.batch, start, stop, micros)

    def loss(self, step: int, micro: int, batch: list[Clip]) -> tuple[Tensor, dict[str, float]]:
        generator = seeded(self.config.loop.seed, step, micro)
        frames, palettes = [], []
        for clip in batch:
            for i in torch.randperm(len(clip.frames), generator=generator)[: self.config.frames].tolist():
                frames.append(clip.frames[i])
                palettes.append(presence(clip, i))
        return self.errors(frames, palettes)

    def errors(self, frames: list[np.ndarray], palettes: list[np.ndarray]) -> tuple[Tensor, dict[str, float]]:
        pixels = torch.cat([clip_pixels(frame, self.config.image_size) for frame in frames])
        tokens = self.encoder(pixels.to(self.encoder.device)).image_embeds
        return palette_loss(self.reader(tokens), palettes)

    @torch.no_grad()
    def validate(self, step: int, log: Log) -> dict[str, float]:
        clips = held_out_clips(self.config.data, VALIDATION_CLIPS)
        _, logs = self.errors([clip.frames[0] for clip in clips], [presence(clip, 0) for clip in clips])
        return {f"validation_{name}": value for name, value in logs.items()}


def palette_loss(predicted: Tensor, palettes: list[np.ndarray]) -> tuple[Tensor, dict[str, float]]:
    """Loss of what the linear layer predicts from N tokens, [N, 4 P], against palettes [P, 4], and figures.

    Colours count where the part is shown; whether it is shown counts a little too.
    """
    predicted = predicted.reshape(len(palettes), len(PARTS), 4)
    truth = torch.from_numpy(np.stack(palettes)).to(predicted.device)
    shown = truth[..., 3:]
    if not shown.any():
        raise ConfigError("these clips do not say the colours of parts: learn them from drawn dancers")
    squared = ((predicted[..., :3] - truth[..., :3]) ** 2 * shown).sum() / (3 * shown.sum())
    flags = F.binary_cross_entropy_with_logits(predicted[..., 3:], shown)
    logs = {"colour_error": float(squared.detach().sqrt()), "presence": float(flags.detach())}
    return squared + PRESENCE_WEIGHT * flags, logs


def presence(clip: Clip, frame: int) -> np.ndarray:
    """The clip's palette, float32 [P, 4], with the flags of another of its frames."""
    colours = {
        name: tuple(round(255 * float(c)) for c in clip.palette[i, :3]) for i, name in enumerate(PARTS)
    }
    return palette_of(colours, clip.parts[frame])  # pyright: ignore[reportArgumentType]


def train_encoder(config: EncoderConfig) -> Path:
    """Train an image encoder; returns the folder `OUTPUT/image_encoder`, with the averaged weights."""
    folder = config.output / "image_encoder"
    with training_folder(config.output) as main:
        task = EncoderTask(config)
        identity = config.model_dump(mode="json", exclude={"output", "data"})
        identity["data"] = data_identity(config.data)
        averaged = run_loop(task, config.loop, config.output, identity, task.validate)
        if not main:
            return folder
        averaged.swap()
        task.encoder.save_pretrained(folder)
        figures = task.validate(config.loop.steps, Log(config.output, 0, main=False))
        write_figures(config.output / "figures.json", figures)
        return folder
