"""Model folders: what training and conversion write, and what a published model consists of.

A folder has diffusers' layout, one subfolder for each network, and `posedance.json`, which holds what no
config of these classes records: how many groups their norms have, and how the model is best used.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

from accelerate import init_empty_weights
from diffusers.models.autoencoders.autoencoder_kl_temporal_decoder import AutoencoderKLTemporalDecoder
from diffusers.models.unets.unet_spatio_temporal_condition import UNetSpatioTemporalConditionModel
from diffusers.schedulers.scheduling_euler_discrete import EulerDiscreteScheduler
from torch import Tensor, nn
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from ..controlnext.model import ControlNeXt
from ..errors import WeightsError
from ..generate import Defaults
from ..mimicmotion.pose_net import PoseNet
from .conditioning import MicroConditioning
from .generator import SvdGenerator
from .names import is_original, to_diffusers
from .norms import norm_groups, set_norm_groups
from .weights import find_weights, load_strict, read_weights

FORMAT = 1
"""Of `posedance.json`."""
RECORD = "posedance.json"

NETWORKS: dict[str, type[nn.Module]] = {
    "unet": UNetSpatioTemporalConditionModel,
    "controlnext": ControlNeXt,
    "vae": AutoencoderKLTemporalDecoder,
    "image_encoder": CLIPVisionModelWithProjection,
}
"""Subfolders of a model folder."""

VERSION_1_CHANNELS = 1280
"""Outputs of the first published control module; the second has 320."""

SVD_DEFAULTS = Defaults(576, 1024, window_size=24, window_overlap=6, steps=25, guidance_scale=3.0)
"""Of the published ControlNeXt-SVD-v2 script."""


def save_folder(generator: SvdGenerator, folder: Path) -> None:
    """Write all networks as safetensors with their configs, the scheduler, and `posedance.json`.

    WeightsError where the norms of a network do not share one number of groups: it could not be recorded.
    """
    groups = {}
    for name in NETWORKS:
        module = getattr(generator, name)
        if name in ("unet", "vae"):
            groups[name] = norm_groups(module)
            if groups[name] is None:
                raise WeightsError(f"the norms of {name} have different numbers of groups: set one for all")
        module.save_pretrained(folder / name)
    scheduler = cast(EulerDiscreteScheduler, EulerDiscreteScheduler.from_config(dict(generator.scheduler)))
    scheduler.save_pretrained(folder / "scheduler")
    record = {
        "format": FORMAT,
        "norm_groups": groups,
        "defaults": asdict(generator.defaults),
        "numbers": asdict(generator.numbers),
        "control_strength": generator.control_strength,
    }
    (folder / RECORD).write_text(json.dumps(record, indent=2) + "\n")


def load_folder(folder: Path, name: str) -> SvdGenerator:
    """Read what `save_folder` wrote, strictly; on the CPU, in the dtype that was saved."""
    record = _read_json(folder / RECORD)
    if record.get("format") != FORMAT:
        raise WeightsError(
            f"{folder / RECORD} has format {record.get('format')}: this version reads {FORMAT}"
        )
    modules: dict[str, Any] = {key: _load_network(key, folder / key) for key in NETWORKS}
    for key, groups in record["norm_groups"].items():
        set_norm_groups(modules[key], groups)
    scheduler = _read_json(folder / "scheduler" / "scheduler_config.json")
    return SvdGenerator(
        name,
        **modules,
        defaults=Defaults(**record["defaults"]),
        scheduler=scheduler,
        numbers=MicroConditioning(**record["numbers"]),
        control_strength=record["control_strength"],
    )


def load_published(base: str, controlnext: Path, unet: Path) -> SvdGenerator:
    """Stable Video Diffusion from `base` with the published ControlNeXt and UNet weights, as svd-xt-1.1."""
    control = ControlNeXt()
    control_state = read_weights(controlnext)
    refuse_version_1(control_state, controlnext)
    load_strict(control, control_state, str(controlnext))
    return load_with_control("svd-xt-1.1", base, control, read_weights(unet), str(unet), SVD_DEFAULTS)


def load_with_control(
    name: str,
    base: str,
    control: ControlNeXt | PoseNet,
    unet_state: Mapping[str, Tensor],
    source: str,
    defaults: Defaults,
    numbers: MicroConditioning | None = None,
) -> SvdGenerator:
    """Stable Video Diffusion from `base` with a control module and the UNet weights read from `source`."""
    folder = find_base(base)
    config = _read_json(folder / "unet" / "config.json")
    with init_empty_weights():
        empty_unet = _build("unet", config)
    if is_original(unet_state):
        unet_state = to_diffusers(unet_state, list(empty_unet.state_dict()), config["layers_per_block"])
    load_strict(empty_unet, unet_state, source)
    return SvdGenerator(
        name,
        cast(UNetSpatioTemporalConditionModel, empty_unet),
        control,
        cast(AutoencoderKLTemporalDecoder, _load_network("vae", folder / "vae")),
        _load_network("image_encoder", folder / "image_encoder"),
        defaults,
        _read_json(folder / "scheduler" / "scheduler_config.json"),
        numbers or MicroConditioning(),
    )


def refuse_version_1(state: Mapping[str, Tensor], path: Path) -> None:
    """WeightsError for ControlNeXt-SVD v1, whose files have the names of v2's and fit no other way."""
    output = state.get("mid_convs.1.weight")
    if output is not None and len(output) == VERSION_1_CHANNELS:
        raise WeightsError(
            f"{path} is ControlNeXt-SVD v1 ({VERSION_1_CHANNELS} output channels, added before the middle "
            "block): use the files of v2, in ControlNeXt-SVD/v2 of Pbihao/ControlNeXt"
        )


def find_base(base: str) -> Path:
    """A local folder, or the folder that a hub id is downloaded to (all but the UNet's weights)."""
    if Path(base).is_dir():
        return Path(base)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    wanted = ["*/*.json", "vae/*.safetensors", "image_encoder/*.safetensors"]
    try:
        return Path(snapshot_download(base, allow_patterns=wanted))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError) as error:
        raise WeightsError(
            f"{base} is no folder and cannot be had from the hub ({error.__class__.__name__}): "
            "give a folder in diffusers layout"
        ) from error


def _load_network(name: str, folder: Path) -> nn.Module:
    config = _read_json(folder / "config.json")
    with init_empty_weights():
        module = _build(name, config)
    path = find_weights(folder)
    load_strict(module, read_weights(path), str(path))
    return module


def _build(name: str, config: dict[str, Any]) -> nn.Module:
    if name == "image_encoder":
        return CLIPVisionModelWithProjection(CLIPVisionConfig(**config))
    network = PoseNet if config.get("_class_name") == PoseNet.__name__ else NETWORKS[name]
    return cast(nn.Module, cast(Any, network).from_config(config))


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise WeightsError(f"{path} is missing: is {path.parent} a complete model folder?") from error
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path} cannot be read: {error}") from error
    return content
