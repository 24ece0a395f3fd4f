"""The networks that a training starts from, and the model folder that it ends in."""

import copy
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, cast

import torch
from diffusers.models.autoencoders.autoencoder_kl_temporal_decoder import AutoencoderKLTemporalDecoder
from diffusers.models.unets.unet_spatio_temporal_condition import UNetSpatioTemporalConditionModel
from pydantic import Field
from torch import nn
from transformers import CLIPVisionModelWithProjection

from ...stages.atomic import partial_folder
from ...stages.control import ControlModule
from ...stages.controlnext.inject import POSE_STRENGTH
from ...stages.controlnext.model import ControlNeXt
from ...stages.errors import ConfigError, OutputError
from ...stages.generate import Defaults
from ...stages.models import save_generator
from ...stages.svd.conditioning import MicroConditioning
from ...stages.svd.files.folder import NETWORKS, load_network
from ...stages.svd.files.norms import set_norm_groups
from ...stages.svd.files.record import RECORD, read_json
from ...stages.svd.generator import SvdGenerator
from ...stages.svd.schedule import SVD_SCHEDULER
from ..config_base import Config
from .card import licence_of, model_card
from .start import start_unet_as_reference

DIFFUSERS_GROUPS = 32
"""Groups of every norm unless a model folder says otherwise."""


class UnetConfig(Config):
    """A UNet from nothing."""

    widths: tuple[int, ...] = (64,)
    """Channels of each level, multiples of 32; each level after the first halves the size."""
    attention: tuple[bool, ...] = (False,)
    """Whether each level attends on the way down; on the way up all do."""
    layers: Annotated[int, Field(ge=1)] = 1
    """Residual blocks of each level on the way down; one more on the way up."""
    head: Annotated[int, Field(ge=8)] = 32
    """Channels of an attention head."""
    norm_groups: Annotated[int, Field(ge=1)] = 1
    """Groups of every norm; recorded in the result."""


class ControlNeXtConfig(Config):
    """A ControlNeXt from nothing."""

    stem: Annotated[int, Field(ge=1)] = 64
    """Channels of the first two convolutions."""
    in_channels: tuple[int, ...] = (128, 128)
    """Channels that go into each residual block."""
    out_channels: tuple[int, ...] = (128, 256)
    """Channels that come out of each residual block."""
    groups: tuple[int, ...] = (4, 8)
    """Groups of the norms of each residual block."""
    stem_groups: Annotated[int, Field(ge=1)] = 2
    """Groups of the norms in the stem."""
    mid_groups: Annotated[int, Field(ge=1)] = 8
    """Groups of the norms in the middle."""
    time: Annotated[int, Field(ge=2)] = 128
    """Width of the sinusoidal projection of the timestep; its embedding is twice as wide."""
    padding: Annotated[int, Field(ge=0, le=1)] = 1
    """Padding of the stem; the published training has 1 and the published inference 0."""


class ModelConfig(Config):
    """Where the networks come from, and what a model folder records of them."""

    base: Path | None = None
    """Model folder to go on from: Stable Video Diffusion, or one that a training wrote."""
    vae: Path | None = None
    """VAE folder, where not the base's."""
    image_encoder: Path | None = None
    """Image encoder folder, where not the base's."""
    unet: UnetConfig | None = None
    """A new UNet instead of the base's."""
    controlnext: ControlNeXtConfig | None = None
    """A new ControlNeXt instead of the base's."""
    strength: Annotated[float, Field(gt=0)] = POSE_STRENGTH
    """How strongly control is injected."""
    sigma_max: Annotated[float, Field(gt=0)] = 700.0
    """Noise that sampling starts from."""
    sigma_min: Annotated[float, Field(gt=0)] = 0.002
    """Noise of the last step."""
    noise_aug: Annotated[float, Field(ge=0)] = 0.02
    """Deviation of the noise on the reference image."""
    width: Annotated[int, Field(ge=8)] = 576
    """Width of its videos in pixels, where none is asked for."""
    height: Annotated[int, Field(ge=8)] = 1024
    """Height of its videos in pixels, where none is asked for."""
    canvas: Annotated[int, Field(ge=8)] = 2160
    """Short side at which control frames are drawn."""
    window: Annotated[int, Field(ge=2)] = 24
    """Frames in a window."""
    overlap: Annotated[int, Field(ge=0)] = 6
    """Frames that neighbouring windows share."""
    steps: Annotated[int, Field(ge=1)] = 25
    """Denoising steps, where none are asked for."""
    guidance_scale: Annotated[float, Field(ge=0)] = 3.0
    """Guidance scale, where none is asked for."""

    def scheduler(self) -> dict[str, Any]:
        """Configuration of diffusers' EulerDiscreteScheduler: SVD's, with these noise levels."""
        return SVD_SCHEDULER | {"sigma_max": self.sigma_max, "sigma_min": self.sigma_min}


@dataclass(frozen=True, slots=True)
class Parts:
    """The networks of one model."""

    unet: UNetSpatioTemporalConditionModel
    controlnext: ControlModule
    vae: AutoencoderKLTemporalDecoder
    image_encoder: CLIPVisionModelWithProjection
    norm_groups: Mapping[str, int]

    def networks(self) -> dict[str, nn.Module]:
        """The four networks by the names of their folders."""
        return {name: getattr(self, name) for name in NETWORKS}


def load_parts(config: ModelConfig) -> Parts:
    """Load, strictly, or make the networks in float32.

    Raises ConfigError when one has no source, WeightsError for weights that do not fit.
    """
    groups = {"unet": DIFFUSERS_GROUPS, "vae": DIFFUSERS_GROUPS}
    if config.base is not None:
        groups |= recorded(config.base)
    if config.vae is not None:
        groups |= {key: value for key, value in recorded(config.vae.parent).items() if key == "vae"}
    vae: Any = loaded("vae", config.vae, config.base)
    set_norm_groups(vae, groups["vae"])
    encoder: Any = loaded("image_encoder", config.image_encoder, config.base)
    latents = vae.config["latent_channels"]
    if config.unet is None:
        unet: Any = loaded("unet", None, config.base)
        set_norm_groups(unet, groups["unet"])
    else:
        unet = new_unet(config.unet, latents, encoder.config.projection_dim)
        groups["unet"] = config.unet.norm_groups
        start_unet_as_reference(unet, latents, vae.config["scaling_factor"])
    if config.controlnext is None:
        controlnext: Any = loaded("controlnext", None, config.base)
    else:
        controlnext = new_controlnext(config.controlnext, unet.config["block_out_channels"][0])
    for network in (unet, controlnext, vae, encoder):
        nn.Module.float(network)  # model folders are saved in half precision
    return Parts(unet, controlnext, vae, encoder, groups)


def loaded(name: str, own: Path | None, base: Path | None) -> nn.Module:
    """One of the networks from its own folder or the base's, in eval mode, every key accounted for."""
    if own is None and base is None:
        raise ConfigError(f"the model has no {name}: give model.{name} or model.base")
    folder = own if own is not None else cast(Path, base) / name
    if not folder.is_dir():
        raise ConfigError(f"{folder} does not exist: give a folder in diffusers layout")
    return load_network(name, folder).eval()


def recorded(folder: Path) -> dict[str, int]:
    """Group counts that a folder's posedance.json records."""
    path = folder / RECORD
    return read_json(path).get("norm_groups", {}) if path.exists() else {}


def new_unet(config: UnetConfig, latents: int, token: int) -> UNetSpatioTemporalConditionModel:
    """A randomly initialized UNet; seed torch first."""
    if len(config.attention) != len(config.widths):
        raise ConfigError(
            f"unet.attention has {len(config.attention)} entries: give {len(config.widths)}, one a level"
        )
    levels = len(config.widths)
    down = tuple(
        "CrossAttnDownBlockSpatioTemporal" if attends else "DownBlockSpatioTemporal"
        for attends in config.attention
    )
    unet = UNetSpatioTemporalConditionModel(
        in_channels=2 * latents,
        out_channels=latents,
        down_block_types=down,
        up_block_types=("CrossAttnUpBlockSpatioTemporal",) * levels,
        block_out_channels=config.widths,
        addition_time_embed_dim=config.head,
        projection_class_embeddings_input_dim=3 * config.head,
        layers_per_block=config.layers,
        cross_attention_dim=token,
        num_attention_heads=tuple(width // config.head for width in config.widths),
        num_frames=8,
    )
    set_norm_groups(unet, config.norm_groups)
    return unet


def new_controlnext(config: ControlNeXtConfig, channels: int) -> ControlNeXt:
    """A randomly initialized ControlNeXt whose features have the width of the UNet's first level."""
    return ControlNeXt(
        time_embed_dim=2 * config.time,
        in_channels=config.in_channels,
        out_channels=config.out_channels,
        groups=config.groups,
        stem_channels=config.stem,
        stem_groups=config.stem_groups,
        mid_groups=config.mid_groups,
        control_channels=channels,
        time_proj_channels=config.time,
        stem_padding=config.padding,
    )


def as_generator(name: str, parts: Parts, config: ModelConfig) -> SvdGenerator:
    """The generator that samples with these networks; it takes them over, in eval mode without gradients."""
    return SvdGenerator(
        name,
        parts.unet,
        parts.controlnext,
        parts.vae,
        parts.image_encoder,
        defaults=Defaults(
            config.width,
            config.height,
            config.window,
            config.overlap,
            config.steps,
            config.guidance_scale,
            config.canvas,
        ),
        scheduler=config.scheduler(),
        numbers=MicroConditioning(noise_aug=config.noise_aug),
        control_strength=config.strength,
    )


def files_in(folder: Path) -> set[Path]:
    """All files of a folder, by their paths inside it."""
    return {path.relative_to(folder) for path in folder.rglob("*") if path.is_symlink() or not path.is_dir()}


def check_replaceable(folder: Path) -> None:
    """Raise OutputError where there is something in place of a model folder that no training wrote."""
    if not folder.exists() or (folder / "training.json").exists():
        return
    if not folder.is_dir() or any(folder.iterdir()):
        raise OutputError(f"{folder} is no model of a training: move it elsewhere, or name another --output")


def save_model(
    folder: Path, parts: Parts, config: ModelConfig, data: str, notes: str, more: Mapping[str, Any]
) -> Path:
    """Write a model folder in float16 that `load_generator` reads, in place of an earlier one.

    `data` and `notes` go into the model card (README.md); `more` are further facts, each in NAME.json. Raises
    OutputError where the folder holds a file that the new one would not have.
    """
    partial = partial_folder(folder)
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    generator = as_generator(folder.name, copy.deepcopy(parts), config)
    save_generator(generator.to("cpu", torch.float16), partial)
    sizes = {name: sum(p.numel() for p in part.parameters()) for name, part in parts.networks().items()}
    licence = licence_of((config.base, config.vae, config.image_encoder))
    (partial / "README.md").write_text(model_card(folder.name, sizes, data, licence, notes))
    for name, content in more.items():
        (partial / f"{name}.json").write_text(json.dumps(content, indent=1) + "\n")
    strange = sorted(files_in(folder) - files_in(partial))
    if strange:
        raise OutputError(
            f"{folder} holds {strange[0]}, which no training writes: move it elsewhere, then run the same "
            "command to go on"
        )
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)
    return folder
