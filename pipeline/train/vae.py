"""Train a small VAE on puppets: `run.py train vae --config configs/train/demo_vae.yaml`.

Unmodified diffusers' AutoencoderKLTemporalDecoder, started as a linear codec (start.py). Its
temporal layers are skipped and stay the identity.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, cast

import numpy as np
import torch
from diffusers.models.autoencoders.autoencoder_kl_temporal_decoder import AutoencoderKLTemporalDecoder
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from einops import rearrange
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from ...datasets.clips import BadRecord, Clip, loss_weights
from ...stages.errors import ConfigError
from ...stages.pixels import to_signed
from ...stages.quality import decibels
from ...stages.svd.files.norms import set_norm_groups
from ...stages.svd.files.record import RECORD
from ...stages.svd.levers.temporal import is_temporal, without_temporal
from ..config_base import Config
from ..job.job import write_text
from .data import DataConfig, clip_batches, held_out_clips, readable, seeded
from .identity import data_identity, folder_digest
from .log import Log
from .loop import run_loop, training_folder
from .loop_config import LoopConfig
from .model import DIFFUSERS_GROUPS, loaded, recorded
from .start import start_vae_as_linear_codec

START_CLIPS = 8
"""Clips whose principal components start the codec."""
VALIDATION_CLIPS = 8


class VaeConfig(Config):
    """Everything that decides a VAE training."""

    output: Path = Path("out/vae")
    """Folder for checkpoints, logs and the result."""
    widths: tuple[int, ...] = (32, 64, 64)
    """Channels of each level, multiples of 32; each level after the first halves the size."""
    latent_channels: Annotated[int, Field(ge=1)] = 4
    """Channels of the latents."""
    norm_groups: Annotated[int, Field(ge=1)] = 1
    """Groups of every norm; recorded in the result."""
    batch: Annotated[int, Field(ge=1)] = 2
    """Clips in a batch."""
    frames: Annotated[int, Field(ge=1)] = 4
    """Frames of each clip that are used."""
    kl: Annotated[float, Field(ge=0)] = 1e-6
    """Weight of the KL divergence."""
    gradient: Annotated[float, Field(ge=0)] = 0.5
    """Weight of the error of neighbouring pixels' differences: edges."""
    small: Annotated[float, Field(ge=1)] = 3.0
    """Weight of hands, shoes and faces."""
    latent_noise: Annotated[float, Field(ge=0)] = 0.05
    """Noise that the decoder learns to bear, in deviations of the latents."""
    crop: Annotated[int, Field(ge=8)] | None = None
    """Side of the square that is learned from of each picture, where most of its weight is; None for all of
    it. A multiple of the block that a latent stands for."""
    decoder_of: Path | None = None
    """VAE folder whose encoder stays as it is and whose decoder learns on."""
    like: Path | None = None
    """VAE folder for pictures half as large: this one starts as it, and learns latents whose averages over
    2 x 2 are those that it has of the picture at half the size. Widths and channels are its too."""
    data: DataConfig = DataConfig()
    loop: LoopConfig = LoopConfig()

    @model_validator(mode="after")
    def _crop_fits(self) -> "VaeConfig":
        block, least = 2 ** (len(self.widths) - 1), min(self.data.width, self.data.height)
        if self.crop is not None and (self.crop % block or self.crop > least):
            raise ValueError(f"crop is {self.crop}: give a multiple of {block} of at most {least}")
        if self.like is not None and self.decoder_of is not None:
            raise ValueError("like and decoder_of are both where a VAE starts: give one of them")
        return self


class VaeTask:
    """Reconstruction of puppets."""

    def __init__(self, config: VaeConfig) -> None:
        self.config = config
        torch.manual_seed(config.loop.seed)
        levels = len(config.widths)
        self.modules: Mapping[str, nn.Module]
        self.known: AutoencoderKLTemporalDecoder | None = None
        if config.like is not None:
            check_groups(config.like, config.norm_groups)
            self.known, self.vae = trained_vae(config.like), trained_vae(config.like)
            self.known.requires_grad_(False)
            self.modules = {"vae": self.vae}
            return
        if config.decoder_of is not None:
            check_groups(config.decoder_of, config.norm_groups)
            self.vae = trained_vae(config.decoder_of)
            self.vae.encoder.requires_grad_(False)
            self.vae.quant_conv.requires_grad_(False)
            self.modules = {"vae": self.vae}
            return
        self.vae = AutoencoderKLTemporalDecoder(
            down_block_types=("DownEncoderBlock2D",) * levels,  # pyright: ignore[reportArgumentType]
            block_out_channels=config.widths,  # pyright: ignore[reportArgumentType]
            layers_per_block=1,
            latent_channels=config.latent_channels,
            sample_size=max(config.data.width, config.data.height),
            scaling_factor=1.0,
            force_upcast=False,
        )
        set_norm_groups(self.vae, config.norm_groups)
        clips = readable(config.data.training(), START_CLIPS)
        images = torch.cat([to_signed(clip.frames) for clip in clips])
        if levels >= 3:
            start_vae_as_linear_codec(self.vae, images)
        self.modules = {"vae": self.vae}

    def to(self, device: torch.device) -> None:
        nn.Module.to(self.vae, device)
        if self.known is not None:
            nn.Module.to(self.known, device)

    def trainable(self) -> list[tuple[str, nn.Parameter]]:
        named = self.vae.named_parameters()
        return [(f"vae.{name}", p) for name, p in named if p.requires_grad and not is_temporal(name)]

    def batches(self, start: int, stop: int, micros: range) -> Iterator[list[Clip | BadRecord]]:
        config = self.config
        return clip_batches(config.data, config.loop, config.batch, start, stop, micros)

    def loss(self, step: int, micro: int, batch: list[Clip]) -> tuple[Tensor, dict[str, float]]:
        config = self.config
        generator = seeded(config.loop.seed, step, micro)
        images, weights = [], []
        for clip in batch:
            chosen = torch.randperm(len(clip.frames), generator=generator)[: config.frames].numpy()
            pictures = clip.frames[chosen]
            weight = loss_weights(clip.parts[chosen], 1.5, config.small, config.small, reach=1)
            if config.crop is not None:
                places = crop_places(weight, config.crop, generator)
                pictures, weight = cut(pictures, places, config.crop), cut(weight, places, config.crop)
            images.append(to_signed(pictures))
            weights.append(torch.from_numpy(weight)[:, None])
        image, weight = torch.cat(images).to(self.vae.device), torch.cat(weights).to(self.vae.device)
        with without_temporal(self.vae):
            encoded = posterior(self.vae, image)
            latents = encoded.sample(generator=generator)
            noise = torch.randn(latents.shape, generator=generator).to(latents.device)
            latents = latents + config.latent_noise * float(latents.detach().std()) * noise
            decoded = decoded_by(self.vae, latents)
        error = decoded - image
        total = (weight * (error.abs() + 2 * error**2)).mean()
        edges = (error[..., 1:, :] - error[..., :-1, :]).abs().mean() + (
            error[..., 1:] - error[..., :-1]
        ).abs().mean()
        divergence = encoded.kl().mean() / latents[0].numel()
        squared = float(F.mse_loss(decoded.detach(), image))
        loss = total + config.gradient * edges + config.kl * divergence
        logs = {"psnr": decibels(squared, span=2), "latent_std": float(latents.detach().std())}
        if self.known is None:
            return loss, logs
        missed = missed_averages(self.known, encoded.mode(), image)
        return loss + missed, logs | {"averages_missed": float(missed.detach())}

    @torch.no_grad()
    def validate(self, step: int, log: Log) -> dict[str, float]:
        clips = held_out_clips(self.config.data, VALIDATION_CLIPS)
        squared, missed = [], []
        for i in range(len(clips)):
            image = to_signed(clips[i].frames).to(self.vae.device)
            decoded = self.reconstruct(image)
            squared.append(float(F.mse_loss(decoded.clamp(-1, 1), image)))
            if self.known is not None:
                missed.append(float(missed_averages(self.known, posterior(self.vae, image).mode(), image)))
            if i == 0:
                rows = torch.stack([image, decoded.clamp(-1, 1)])
                log.add_image("reconstruction", rearrange((rows + 1) / 2, "r n c h w -> c (r h) (n w)"), step)
        told = {"validation_averages_missed": float(np.mean(missed))} if missed else {}
        return {"validation_psnr": float(np.mean([decibels(value, span=2) for value in squared]))} | told

    def reconstruct(self, image: Tensor) -> Tensor:
        with without_temporal(self.vae):
            return decoded_by(self.vae, posterior(self.vae, image).mode())


def trained_vae(folder: Path) -> AutoencoderKLTemporalDecoder:
    """The VAE that a training left in `folder`, in float32, with the norms that its record names."""
    vae = cast(AutoencoderKLTemporalDecoder, loaded("vae", folder, None))
    set_norm_groups(vae, recorded(folder.parent).get("vae", DIFFUSERS_GROUPS))
    nn.Module.float(vae)
    return vae


def check_groups(folder: Path, groups: int) -> None:
    """ConfigError where the norms of a VAE folder have other groups than the training is told."""
    found = recorded(folder.parent).get("vae", DIFFUSERS_GROUPS)
    if found != groups:
        raise ConfigError(
            f"the norms of {folder} have {found} groups and norm_groups is {groups}: make them the same"
        )


def missed_averages(known: AutoencoderKLTemporalDecoder, latents: Tensor, pictures: Tensor) -> Tensor:
    """How far averages over 2 x 2 of `latents` [N, C, h, w] of `pictures` [N, 3, H, W] are from the latents
    that `known` has of the pictures at half the size: the mean square, as a share of that of those."""
    with torch.no_grad():
        wanted = posterior(known, F.interpolate(pictures, scale_factor=0.5, mode="area")).mode()
    return (F.avg_pool2d(latents, 2) - wanted).square().mean() / wanted.square().mean()


def crop_places(weight: np.ndarray, side: int, generator: torch.Generator) -> list[tuple[int, int]]:
    """Top left corners (y, x) of a square of each picture, around a pixel drawn by `weight` [N, H, W]."""
    height, width = weight.shape[1:]
    centres = torch.multinomial(torch.from_numpy(weight).flatten(1), 1, generator=generator)[:, 0].tolist()
    return [
        (
            min(max(centre // width - side // 2, 0), height - side),
            min(max(centre % width - side // 2, 0), width - side),
        )
        for centre in centres
    ]


def cut(pictures: np.ndarray, places: list[tuple[int, int]], side: int) -> np.ndarray:
    """The squares at `places` of pictures [N, H, W, ...]: [N, side, side, ...]."""
    return np.stack(
        [picture[y : y + side, x : x + side] for picture, (y, x) in zip(pictures, places, strict=True)]
    )


def posterior(vae: AutoencoderKLTemporalDecoder, pictures: Tensor) -> DiagonalGaussianDistribution:
    """Encode pictures [N, 3, H, W] in -1..1: the distribution of their latents, not scaled."""
    return vae.encode(pictures, return_dict=False)[0]


def decoded_by(vae: AutoencoderKLTemporalDecoder, latents: Tensor) -> Tensor:
    """Decode the N latents of one video, not scaled: pictures [N, 3, H, W] around -1..1."""
    return vae.decode(latents.to(vae.device), num_frames=len(latents), return_dict=False)[0]


@torch.no_grad()
def latent_deviation(vae: AutoencoderKLTemporalDecoder, clips: list[Clip]) -> float:
    """Standard deviation of the latents around zero: 1 / it is the scaling factor."""
    frames = [to_signed(clip.frames).to(vae.device) for clip in clips]
    latents = [posterior(vae, images).mode() for images in frames]
    return float(torch.cat(latents).square().mean().sqrt())


def train_vae(config: VaeConfig) -> Path:
    """Train a VAE; returns the folder `OUTPUT/vae`, which holds the averaged weights.

    `posedance.json` in the output folder records the norms' groups.
    """
    folder = config.output / "vae"
    with training_folder(config.output) as main:
        task = VaeTask(config)
        identity = config.model_dump(mode="json", exclude={"output", "data", "decoder_of", "like"})
        identity["data"] = data_identity(config.data)
        start = config.decoder_of or config.like
        if start is not None:
            identity["networks"] = {"vae": folder_digest(start)}
        averaged = run_loop(task, config.loop, config.output, identity, task.validate)
        if not main:
            return folder
        averaged.swap()
        task.vae.eval()
        if start is None:  # else the latents stay what they are, and so does their scale
            deviation = latent_deviation(task.vae, readable(config.data.training(), 32))
            task.vae.register_to_config(scaling_factor=1.0 / deviation)
        task.vae.save_pretrained(folder)
        figures = task.validate(config.loop.steps, Log(config.output, 0, main=False))
        facts = {"norm_groups": {"vae": config.norm_groups}, "figures": figures, "steps": config.loop.steps}
        write_text(config.output / RECORD, json.dumps(facts, indent=1) + "\n")
        return folder
