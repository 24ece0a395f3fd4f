"""Take a model to pictures of twice the size: `run.py train larger --config configs/train/demo_larger.yaml`.

The VAE, trained `like` the model's own (vae.py), has latents that average to those which the model knows. The
UNet gets one more level around the one it has, and starts by doing with averages of latents what it did with
latents (grow.py). ControlNeXt gets one more halving, and learns to say of a control frame what the old one
says of it at half the size.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from ...datasets.clips import BadRecord, Clip
from ...stages.errors import ConfigError
from ...stages.pixels import to_unit
from ...stages.svd.denoiser import timestep_of
from ..config_base import Config
from .card import training_notes
from .config import SigmaConfig
from .data import DataConfig, clip_batches, held_out_clips, name_data, seeded
from .grow import deepened_controlnext, finer_unet, told_half
from .identity import data_identity, folder_digest
from .log import Log
from .loop import run_loop, training_folder
from .loop_config import LoopConfig
from .model import ModelConfig, check_replaceable, load_parts, save_model

VALIDATION_CLIPS = 4


class LargerConfig(Config):
    """Everything that decides how a model is taken over to larger pictures."""

    output: Path = Path("out/larger")
    """Folder for checkpoints, logs, and `model/`, which `animate --model` takes."""
    model: ModelConfig = ModelConfig()
    """`base` is the smaller model, whose UNet has one level, `vae` the larger VAE; sizes are the larger's."""
    frames: Annotated[int, Field(ge=1)] = 4
    """Control frames of a clip that are learned from at a time."""
    sigma: SigmaConfig = SigmaConfig()
    data: DataConfig = DataConfig()
    loop: LoopConfig = LoopConfig()


class LargerTask:
    """ControlNeXt with one more halving, learning from the one without; the UNet is not asked."""

    def __init__(self, config: LargerConfig) -> None:
        self.config = config
        torch.manual_seed(config.loop.seed)
        parts = load_parts(config.model)
        self.known: Any = parts.controlnext
        self.known.requires_grad_(False)
        self.larger = deepened_controlnext(self.known)
        told_half(self.larger.time_embedding, self.larger.time_proj)
        self.parts = replace(parts, controlnext=self.larger, unet=finer_unet(parts.unet))
        self.modules: Mapping[str, nn.Module] = {"controlnext": self.larger}
        self.sigmas = config.sigma.distribution()

    def to(self, device: torch.device) -> None:
        for module in (self.known, self.larger):
            nn.Module.to(module, device)

    def trainable(self) -> list[tuple[str, nn.Parameter]]:
        return [(f"controlnext.{name}", p) for name, p in self.larger.named_parameters()]

    def batches(self, start: int, stop: int, micros: range) -> Iterator[list[Clip | BadRecord]]:
        return clip_batches(self.config.data, self.config.loop, 1, start, stop, micros)

    def loss(self, step: int, micro: int, batch: list[Clip]) -> tuple[Tensor, dict[str, float]]:
        generator = seeded(self.config.loop.seed, step, micro)
        sigma = self.sigmas.sample(len(batch), generator)
        chosen = [torch.randperm(len(c.control), generator=generator)[: self.config.frames] for c in batch]
        control = torch.stack([to_unit(c.control[i.numpy()]) for c, i in zip(batch, chosen, strict=True)])
        value = self.missed(control, sigma)
        return value, {"missed": float(value.detach())}

    def missed(self, control: Tensor, sigma: Tensor) -> Tensor:
        """Mean square of what the features of control frames [B, F, 3, H, W] differ by from those that the
        known module has at half the size, as a share of the variance of those."""
        control = control.to(next(self.larger.parameters()).device)
        time = timestep_of(sigma.to(control.device))
        halves = F.interpolate(control.flatten(0, 1), scale_factor=0.5, mode="area")
        with torch.no_grad():
            earlier = timestep_of(sigma.to(control.device) / 2)
            wanted = self.known(halves.unflatten(0, control.shape[:2]), earlier).float()
        return F.mse_loss(self.larger(control, time).float(), wanted) / wanted.var()

    @torch.no_grad()
    def validate(self, clips: list[Clip], step: int, log: Log) -> dict[str, float]:
        """What is missed of held-out clips, the first at sigma 10, each next one at a tenth of that."""
        sigmas = [torch.tensor([10.0 ** (1 - i)]) for i in range(len(clips))]
        missed = [
            float(self.missed(to_unit(clip.control)[None], sigma))
            for clip, sigma in zip(clips, sigmas, strict=True)
        ]
        return {"validation_missed": sum(missed) / len(missed)}


def train_larger(config: LargerConfig) -> Path:
    """Take a model over; returns the folder OUTPUT/model, ready for `train` to go on from.

    ConfigError without a base or a VAE, or where the base's UNet has more than one level.
    """
    base, folder = config.model.base, config.output / "model"
    if base is None or config.model.vae is None:
        raise ConfigError("name model.base, the smaller model, and model.vae, which was trained like its own")
    with training_folder(config.output) as main:
        if main:
            check_replaceable(folder)
        task = LargerTask(config)
        identity = config.model_dump(mode="json", exclude={"output", "data", "model"})
        identity["data"] = data_identity(config.data)
        identity["networks"] = {"controlnext": folder_digest(base / "controlnext")}
        clips = held_out_clips(config.data, VALIDATION_CLIPS)
        averaged = run_loop(task, config.loop, config.output, identity, partial(task.validate, clips))
        if not main:
            return folder
        averaged.swap()
        task.to(torch.device("cpu"))
        notes, data = training_notes(config.output), name_data(config.data)
        settings = {"training": config.model_dump(mode="json")}
        return save_model(folder, task.parts, config.model, data, notes, settings)
