"""A generator put together from published files: a base, a UNet trained on it, and a control module."""

from collections.abc import Mapping
from pathlib import Path
from typing import cast

from accelerate import init_empty_weights
from diffusers.models.autoencoders.autoencoder_kl_temporal_decoder import AutoencoderKLTemporalDecoder
from diffusers.models.unets.unet_spatio_temporal_condition import UNetSpatioTemporalConditionModel
from torch import Tensor, nn

from ...control import ControlModule
from ...controlnext.inject import POSE_STRENGTH
from ...controlnext.model import ControlNeXt
from ...errors import WeightsError
from ...generate import Defaults
from ..conditioning import MicroConditioning
from ..generator import SvdGenerator
from .base import find_base
from .folder import SVD_DEFAULTS, build_network, load_network
from .names import is_original, to_diffusers
from .norms import set_norm_groups
from .record import RECORD, Record, read_json, read_record
from .weights import load_strict, read_weights

VERSION_1_CHANNELS = 1280
"""Outputs of the first published control module; the second has 320."""


def load_published(base: str, controlnext: Path, unet: Path) -> SvdGenerator:
    """Stable Video Diffusion from `base` with the published ControlNeXt and UNet weights, as svd-xt-1.1.

    Either may also be a folder with config.json, or a model folder, of our own training: its config and its
    record then count, those of the UNet's folder for the window too.
    """
    folder = find_base(base)
    record: Record | None = None
    strength = POSE_STRENGTH
    if controlnext.is_dir():
        control, own = _load_own("controlnext", controlnext)
        strength = POSE_STRENGTH if own is None else own.control_strength
    else:
        control = ControlNeXt()
        state = read_weights(controlnext)
        refuse_version_1(state, controlnext)
        load_strict(control, state, str(controlnext))
    if unet.is_dir():
        network, record = _load_own("unet", unet)
    else:
        network = load_unet(folder / "unet" / "config.json", read_weights(unet), str(unet))
    return on_base(
        "svd-xt-1.1",
        folder,
        network,
        cast(ControlModule, control),
        SVD_DEFAULTS if record is None else record.defaults,
        MicroConditioning() if record is None else record.numbers,
        strength,
    )


def on_base(
    name: str,
    base: Path,
    unet: nn.Module,
    control: ControlModule,
    defaults: Defaults,
    numbers: MicroConditioning,
    strength: float = POSE_STRENGTH,
) -> SvdGenerator:
    """The UNet and the control module with the VAE, image encoder and scheduler of the folder `base`."""
    return SvdGenerator(
        name,
        cast(UNetSpatioTemporalConditionModel, unet),
        control,
        cast(AutoencoderKLTemporalDecoder, load_network("vae", base / "vae")),
        load_network("image_encoder", base / "image_encoder"),
        defaults,
        read_json(base / "scheduler" / "scheduler_config.json"),
        numbers,
        strength,
    )


def load_unet(config_file: Path, state: Mapping[str, Tensor], source: str) -> nn.Module:
    """The UNet of a config with the weights read from `source`, under diffusers' or the original names."""
    config = read_json(config_file)
    with init_empty_weights():
        unet = build_network("unet", config)
    if is_original(state):
        state = to_diffusers(state, list(unet.state_dict()), config["layers_per_block"])
    load_strict(unet, state, source)
    return unet


def refuse_version_1(state: Mapping[str, Tensor], path: Path) -> None:
    """WeightsError for ControlNeXt-SVD v1, whose files have the names of v2's and fit no other way."""
    output = state.get("mid_convs.1.weight")
    if output is not None and len(output) == VERSION_1_CHANNELS:
        raise WeightsError(
            f"{path} is ControlNeXt-SVD v1 ({VERSION_1_CHANNELS} output channels, added before the middle "
            "block): use the files of v2, in ControlNeXt-SVD/v2 of Pbihao/ControlNeXt"
        )


def _load_own(name: str, folder: Path) -> tuple[nn.Module, Record | None]:
    """A network from its own folder or from the model folder around it, and that one's record, if there."""
    own = folder / name if (folder / name).is_dir() else folder
    module = load_network(name, own)
    record = read_record(own.parent) if (own.parent / RECORD).is_file() else None
    if record is not None and name in record.norm_groups:
        set_norm_groups(module, record.norm_groups[name])
    return module, record
